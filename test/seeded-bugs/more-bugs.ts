/**
 * More bugs, written by somebody who has not read the checker: what shows here was not made to be found. The later ones
 * were not found at first; the checker and the scenarios learned from them.
 *
 * A bug is a believable mistake in shipped source (`src/**`, TypeScript or `.sql`), written as one textual patch:
 *
 *     {
 *       name: 'a sentence that says what is wrong then',
 *       invariant: 11,                       // which of the 13 invariants it breaks, as you expect; see test/invariants/check.ts
 *       file: 'src/streams/commit.ts',       // from the root of the repository
 *       find: 'the text as it stands',       // must occur exactly once in the file; may have several lines
 *       replace: 'the text with the bug',
 *       scenario: 'streams',                 // in which it must show
 *     }
 *
 * It is found when its scenario, played with the patch, reports a breach with the bug's number. Whatever else is reported
 * does not matter. Where nothing ends any more, that is a breach of invariant 9: scenarios wait for everything with a
 * deadline. (A bug that breaks invariant 9 is played with the longest patience at once, since on a busy machine a
 * deadline that is missed shows nothing else.) A patch that does not load, or whose SQL the server refuses, proves nothing: play it alone and read what it
 * reports:
 *
 *     SEEDED_BUGS=all SHOW_BREACHES=1 npx vitest run test/seeded-bugs.test.ts --disable-console-intercept -t 'a sentence that says'
 *
 * prints the breaches up to the one that was expected, and in `broke` what else went wrong. (A parameter that a patched statement no longer uses must
 * keep its type: write `$1::uuid is not null` instead of taking it out.) If the breach has another number than you
 * expected and that number is right, take that one. If nothing is reported, ask first whether the bug can show in the
 * scenario at all: several guards often stand behind one another, and without one of them nothing goes wrong.
 * If it can, and does, and is not reported, the checker or the scenario has a hole: that is what this list is for.
 *
 * The scenarios (test/seeded-bugs/scenarios; each plays on a database of its own, in 2 to 6 s on a quiet machine):
 *
 * | scenario | what happens in it |
 * |----------|--------------------|
 * | batch    | Two engines with real runners at work on workflows with every trigger rule, stages, maps (also an empty one), limits of workers, retries, durable steps, publishing. While nothing fails, nothing may lose its runner, and what is published twice is there once. Then: a runner that exits, a task that waits for its retry, cancels of runs that run, wait or have half ended; an engine that was taken for dead and whose write arrives late, and an attempt of its that publishes, puts, and ends a step when another is live; an engine that dies with a graph half done and retries to come, and one that takes over. The workflows are those of test/programs/seeded-project. |
 * | semantics | One engine, then another: branches in branches and short-circuits, runs in runs and a body per item (70 of them), approvals that are answered, refused and late, timers, a sensor, a nap, set-ups with work and teardowns that fail, skips, policies per error, time limits of a task and a run. While nothing fails; then cancels of what waits, has started runs, has something to tear down; then an engine that dies with all of it half done; then clears. The workflows are those of test/programs/seeded-semantics. |
 * | plans    | Three cron plans (catch-up all, last, none) that nobody followed for 31 minutes, a paused workflow with a plan in another time zone, two engines at once, a transaction that fails after the ticks were written; files that arrive, and change. |
 * | simulation | 900 seeds of test/simulation, without a server: their cases with limits (6), and their plans (10). For bugs that show only at one moment out of many. |
 * | streams  | Two streams of two partitions, one that keeps the order of its keys and one that is distinct: records that are written, merged, rejected, filtered, tried again, slow, or die; ids published twice; kills before and after commits; shards taken over while their holder is in the middle of a commit that arrives later; dead letters replayed while they still fail, and when they do not; each record that led to a document is merged into it once; the ledger folded at the end. |
 * | objects  | Results that become objects, documents that name objects, equal bytes put twice; runs with lists, durable steps, progress and cancels; sweeps at once with them; claims, references, releases, runs that are deleted, and sweeps after that: what is needed stays, what is not goes. |
 * | secrets  | An action that prints its secret, logs it, and throws it; rows, log, objects, files and output are searched. |
 *
 * Runners and everything else that a scenario starts load the patched file too.
 */
import type { SeededBug } from './bugs.ts'

export const moreBugs: readonly SeededBug[] = [
  {
    name: 'a run that is adopted begins once more in the log',
    invariant: 4,
    file: 'src/engine/owned-run.ts',
    find: "} else if (before === 'queued' && this.progress.state === 'running') {",
    replace: "} else if (event.kind === 'begin' && this.progress.state === 'running') {",
    scenario: 'batch',
  },
  {
    name: 'a task that is to be skipped runs: all_success looks at failures alone',
    invariant: 5,
    file: 'src/core/trigger-rule.ts',
    find: "'upstream_failed' : e.skipped > 0 ? 'skip' : e.open > 0 ? 'wait' : 'run'),",
    replace: "'upstream_failed' : e.open > 0 ? 'wait' : 'run'),",
    scenario: 'batch',
  },
  {
    name: 'what a run has under way does not count among its workers',
    invariant: 6,
    file: 'src/core/limits.ts',
    find: `      limit.inUse += amount
      limit.holders.set(token, amount)`,
    replace: '      limit.holders.set(token, amount)',
    scenario: 'batch',
  },
  {
    name: 'a lost runner is weighed against the policy of losses, and not written down',
    invariant: 7,
    file: 'src/core/task-ends.ts',
    find: `    live.losses += 1
    return nextAfterLoss(live.losses, now, random)`,
    replace: '    return nextAfterLoss(live.losses + 1, now, random)',
    scenario: 'batch',
  },
  {
    name: 'a run that changes while a write of it is under way is written at once, beside it',
    invariant: 3,
    file: 'src/engine/group-commit.ts',
    find: 'if (run.hasChange && !run.writing) this.dirty.add(run)',
    replace: 'if (run.hasChange) this.dirty.add(run)',
    scenario: 'batch',
  },
  {
    name: 'the end of a run forgets the task that waited for its retry when it was cancelled',
    invariant: 8,
    file: 'src/core/stop-run.ts',
    find: `      decision.transitions.push({ node, mapIndex, attempt, from, to: 'cancelled', token: 0, losses })
`,
    replace: '',
    scenario: 'batch',
  },
  {
    name: 'the runs of a dead engine are free only when its row is gone, not when its lease has lapsed',
    invariant: 9,
    file: 'src/store/runs.ts',
    find: 'where n.id = c.node_id and n.lease_until > sluice.sluice_now()))',
    replace: 'where n.id = c.node_id))',
    scenario: 'batch',
  },
  {
    name: 'an attempt that failed keeps its place among the workers of its workflow',
    invariant: 9,
    file: 'src/engine/owned-run.ts',
    find: `    this.live -= 1
    this.after.ends.push`,
    replace: `    if (event.outcome.kind === 'success') this.live -= 1
    this.after.ends.push`,
    scenario: 'batch',
  },
  {
    name: 'what a run decided while it was written waits for its next event',
    invariant: 9,
    file: 'src/engine/group-commit.ts',
    find: `      for (const run of group) this.mark(run)
`,
    replace: '',
    scenario: 'batch',
  },
  {
    name: 'runs of plans are inserted beside the transaction that records their ticks',
    invariant: 10,
    file: 'src/engine/fire-plans.ts',
    find: 'fireTicks(session, asked, now, random))',
    replace: `fireTicks({
      query: (sql: { name: string }, values: never) => (sql.name === 'runs.insert' ? db : session).query(sql as never, values),
      execute: session.execute.bind(session),
    } as never, asked, now, random))`,
    scenario: 'plans',
  },
  {
    name: 'now is rounded up to the minute, as patterns have no seconds',
    invariant: 10,
    file: 'src/engine/fire-plans.ts',
    find: `    const now = clock.now()
    const asked`,
    replace: `    const now = Math.ceil(clock.now() / 60_000) * 60_000
    const asked`,
    scenario: 'plans',
  },
  {
    name: 'ids of runs that begin in one millisecond are nearly the same',
    invariant: 10,
    file: 'src/core/ids.ts',
    find: 'BigInt(Math.floor(random() * 2 ** 39))',
    replace: 'BigInt(Math.floor(random() * 2 * 39))',
    scenario: 'plans',
  },
  {
    name: 'whether a file is new is asked, and the answer passed over',
    invariant: 10,
    file: 'src/engine/watch-files.ts',
    find: `      if (!(await recordArrival(session, { workflow: this.workflow, plan: this.plan.name, path, ...state, runId })))
        return
`,
    replace: `      await recordArrival(session, { workflow: this.workflow, plan: this.plan.name, path, ...state, runId })
`,
    scenario: 'plans',
  },
  {
    name: 'a record that follows another of its key does not hold the key',
    invariant: 9,
    file: 'src/streams/key-order.ts',
    find: `    if (next !== undefined) next.leads = true
`,
    replace: '',
    scenario: 'streams',
  },
  {
    name: 'the fold counts records twice whose batch row counts them',
    invariant: 11,
    file: 'src/store/ledger.ts',
    find: 'and r.at < $3 and r.was is not null',
    replace: 'and r.at < $3',
    scenario: 'streams',
  },
  {
    name: 'ids of a topic are indexed and not unique',
    invariant: 2,
    file: 'src/store/migrations/0002-streams.sql',
    find: `  published_at timestamptz not null,
  primary key (topic, id)
);`,
    replace: `  published_at timestamptz not null
);
create index topic_ids_of_topic on sluice.topic_ids (topic, id);`,
    scenario: 'streams',
  },
  {
    name: 'what ended in the table stays there',
    invariant: 11,
    file: 'src/streams/commit.ts',
    find: `    else if (late) deletes.push(offset)
`,
    replace: `    else if (late && outcome === 'written') deletes.push(offset)
`,
    scenario: 'streams',
  },
  {
    name: 'a released object is never looked at again',
    invariant: 12,
    file: 'src/store/objects.ts',
    find: `referrer_id = any ($2::text[]) returning sha256
  ), held as (
    select o.sha256 from sluice.objects o where o.sha256 in (select sha256 from released) order by o.sha256 for no key update
  )
  update sluice.objects o set idle_since = greatest(o.idle_since, (select sluice.sluice_now()))`,
    replace: `referrer_id = any ($2::text[]) returning sha256
  ), held as (
    select o.sha256 from sluice.objects o where o.sha256 in (select sha256 from released) order by o.sha256 for no key update
  )
  update sluice.objects o set idle_since = o.idle_since`,
    scenario: 'objects',
  },
  {
    name: 'what a run put is kept under another name than the one that retention releases',
    invariant: 12,
    file: 'src/app/capabilities/direct-calls.ts',
    find: "kind: 'run', id: key.runId",
    replace: "kind: 'task', id: key.runId",
    scenario: 'objects',
  },
  {
    name: 'the sweep removes the files of all that it looked at',
    invariant: 12,
    file: 'src/store/objects.ts',
    find: 'unneeded.map((row) => store.remove(row.sha256))',
    replace: 'idle.map((sha256) => store.remove(sha256))',
    scenario: 'objects',
  },
  {
    name: 'retention leaves the tasks of the runs that it deletes',
    invariant: 12,
    file: 'src/store/retention.ts',
    find: `), tasks as (delete from sluice.tasks t using old where t.run_id = old.id),
   widths`,
    replace: '), widths',
    scenario: 'objects',
  },
  {
    name: 'a document refers to its long fields, and not to the objects that it names',
    invariant: 12,
    file: 'src/store/documents.ts',
    find: `    ...named.map((sha256) => ({ ...referrerOf(collection, key), sha256 })),
`,
    replace: '',
    scenario: 'objects',
  },
  {
    name: 'the ends of attempts are told before what they logged',
    invariant: 1,
    file: 'src/app/runner-main.ts',
    find: `  logs.flush()
  tellProgress()
  for (const { token } of ends) logs.forget(token)
  send({ t: 'ended', ends: ends.splice(0) })`,
    replace: `  send({ t: 'ended', ends: [...ends] })
  logs.flush()
  tellProgress()
  for (const { token } of ends.splice(0)) logs.forget(token)`,
    scenario: 'secrets',
  },
  {
    name: 'secrets are not looked for as JSON writes them',
    invariant: 13,
    file: 'src/observe/redact.ts',
    find: '[text, ...inJson(text), ...inUrls(text), ...inBase64(text)]',
    replace: '[text, ...inUrls(text), ...inBase64(text)]',
    scenario: 'secrets',
  },
  {
    name: 'what runners print is passed on as it is',
    invariant: 13,
    file: 'src/app/attempt-events.ts',
    find: 'note: (line) => note(redact(line)),',
    replace: 'note,',
    scenario: 'secrets',
  },
  {
    name: 'of several merges into one document in one batch the last alone stays',
    invariant: 11,
    file: 'src/store/document-sink.ts',
    find: 'const document = text === undefined ? structuredClone(body) : JSON.parse(text)',
    replace: 'const document = structuredClone(body)',
    scenario: 'streams',
  },
  {
    name: 'what an action publishes has other ids in each attempt',
    invariant: 2,
    file: 'src/app/capabilities/attempt-context.ts',
    find: 'taskIdOf(start.runId, start.node, start.mapIndex)',
    replace: 'taskIdOf(start.runId, start.node, start.attempt)',
    scenario: 'batch',
  },
  {
    name: 'catch-up `last` starts a run for every tick that was missed',
    invariant: 10,
    file: 'src/core/catch-up.ts',
    find: "if (policy === 'all') return { outcome: 'caught_up'",
    replace: "if (policy !== 'none') return { outcome: 'caught_up'",
    scenario: 'plans',
  },
  {
    name: 'a workflow that is paused is looked for by the name of its plan',
    invariant: 10,
    file: 'src/store/plans.ts',
    find: `left join sluice.workflows w on w.name = c.workflow
`,
    replace: `left join sluice.workflows w on w.name = c.plan
`,
    scenario: 'plans',
  },
  {
    name: 'runs of plans bear no logical time, so that nothing makes them unique',
    invariant: 10,
    file: 'src/store/plans.ts',
    find: `    plan: entry.plan,
    logicalTime,`,
    replace: `    plan: entry.plan,
    logicalTime: logicalTime && null,`,
    scenario: 'plans',
  },
  {
    name: 'the row of a record that failed tells of the attempts before',
    invariant: 7,
    file: 'src/streams/commit.ts',
    find: "const attempts = end.kind === 'retry' || end.kind === 'dead' ? end.attempts : entry.attempts",
    replace: 'const attempts = entry.attempts',
    scenario: 'streams',
  },
  {
    name: 'the repeats of a record that died are its duplicates',
    invariant: 11,
    file: 'src/streams/commit.ts',
    find: `  if (first.outcome === 'dead') return { outcome: 'dead', reason: 'first of its key is dead', detail: first.recordId }
`,
    replace: '',
    scenario: 'streams',
  },
  {
    name: 'a process of its own that is lost was the fault of its attempt',
    invariant: 7,
    file: 'src/executors/local.ts',
    find: 'late ? tooLate(attempt) : {',
    replace: 'late || runner.isolated ? tooLate(attempt) : {',
    scenario: 'batch',
  },
  {
    name: 'what is due within a moment is due at once',
    invariant: 10,
    file: 'src/engine/due-times.ts',
    find: 'first.at <= now;',
    replace: 'first.at <= now + 1_500;',
    scenario: 'batch',
  },
  {
    name: 'a shard that is taken over keeps its epoch',
    invariant: 3,
    file: 'src/store/shards.ts',
    find: 'set holder = $2, epoch = s.epoch + 1, lease',
    replace: 'set holder = $2, epoch = greatest(s.epoch, 1), lease',
    scenario: 'streams',
  },
  {
    name: 'a run that is taken over keeps its epoch',
    invariant: 3,
    file: 'src/store/runs.ts',
    find: `set node_id = $1, epoch = r.epoch + 1
`,
    replace: `set node_id = $1, epoch = greatest(r.epoch, 1)
`,
    scenario: 'batch',
  },
  {
    name: 'runners are asked to end, and do not',
    invariant: 9,
    file: 'src/executors/local.ts',
    find: `    for (const runner of this.runners) runner.process.kill('SIGKILL')
    await Promise.all(gone)`,
    replace: `    for (const runner of this.runners) runner.process.kill('SIGINT')
    await Promise.all(gone)`,
    scenario: 'batch',
  },
  {
    name: 'whatever attempt of a task is live, the writes of all are accepted',
    invariant: 3,
    file: 'src/store/tasks.ts',
    find: 'and token = $4 and state',
    replace: 'and $4::int8 is not null and state',
    scenario: 'batch',
  },
  {
    name: 'the sequence is the only guard of the writes of a run',
    invariant: 3,
    file: 'src/store/transitions.ts',
    find: 'r.id = g.id and r.node_id = $1 and r.epoch = g.epoch and r.seq = g.seq',
    replace: 'r.id = g.id and $1::uuid is not null and r.seq = g.seq',
    scenario: 'batch',
  },
]
