/** Wrong decisions that tests must notice. */
import { limitMutants } from './limit-mutants.ts'
import { inFile, type Mutant } from './mutant.ts'

export const mutants: readonly Mutant[] = [
  ...inFile(
    'core/graph.ts',
    ['graph', 'simulation'],
    [
      ['stages do not wait for one another', 'byStage[node.stage - 1]', 'byStage[node.stage - 2]'],
      ['edges out of the stage before count twice', '!isOfStage(nodes[up]!, node.stage! - 1)', 'up >= 0'],
      ['a stage waits for the teardowns of the one before', '&& node.teardownOf === undefined\n}', '\n}'],
      ['a rule that one good end decides waits for all', '!patient.has(nodes[node]!.rule)', 'patient.size === 0'],
      ['every node is a leaf', '!countsIn[index]!.some((gate) => judged[gate])', 'countsIn[index]!.length >= 0'],
      ['a run is judged by its teardowns', 'node.teardownOf === undefined && !countsIn', '!countsIn'],
      [
        'what only a teardown waits for judges nothing',
        'behind.some((node) => nodes[node]!.teardownOf === undefined)',
        'behind.length > 0',
      ],
    ],
  ),
  ...inFile(
    'core/advance.ts',
    ['advance', 'consider', 'stop-run', 'simulation'],
    [
      ['a task starts while an attempt is live', 'live.token !== 0 || live.late', 'live.late'],
      [
        'a task of a map starts after its end',
        '!== undefined) return undefined\n    const base',
        '=== 0 as never) return undefined\n    const base',
      ],
      [
        'tasks start after a cancel',
        "progress.state !== 'scheduled' || isStopped(run, node)",
        "progress.state !== 'scheduled'",
      ],
      ['a retry does not count its attempt', 'live.attempt += 1', 'live.attempt += 0'],
      ['a run is judged by all of its nodes', 'run.graph.leaves.filter((leaf)', '[...run.nodes.keys()].filter((leaf)'],
      ['a skipped leaf fails the run', "['success', 'skipped'].includes", "['success'].includes"],
      ['a task that waits in the engine starts', "(kind !== 'action' && live.deferred)", 'false'],
      [
        'a run of another workflow has the token of a runner',
        'live.token = inEngine ? 0 : token',
        'live.token = token',
      ],
      ['what was cleared counts its attempts anew', 'live = { attempt: base,', 'live = { attempt: 0,'],
      [
        'a run whose time is over is judged by its leaves',
        "if (run.stopping === 'limit') {",
        'if (run.nodes.length < 0) {',
      ],
      ['a run results in nothing', 'const result = outputOf(run)', 'const result = undefined as string | undefined'],
      ['a result has no limit', 'if (bytes <= maxOutputBytes)', 'if (bytes <= 2 * maxOutputBytes)'],
    ],
  ),
  ...inFile(
    'core/task-ends.ts',
    ['task-ends', 'advance', 'simulation'],
    [
      [
        'an end counts without its token',
        'live.token === 0 || live.token !== event.token) return\n  settle(run, event, live, event.outcome',
        'live.token === 0) return\n  settle(run, event, live, event.outcome',
      ],
      [
        'a late end counts while the task waits for its retry',
        'live.token === 0 || live.token !== event.token) return\n  settle(run, event, live, event.outcome',
        '(live.token !== event.token && live.token !== 0)) return\n  settle(run, event, live, event.outcome',
      ],
      [
        'lost runners spend the attempts of the author',
        'live.attempt - live.base - live.losses',
        'live.attempt - live.base',
      ],
      ['waits spend the attempts of the author', '- live.losses - live.waits', '- live.losses'],
      [
        'attempts of before a clear are counted',
        'live.attempt - live.base - live.losses',
        'live.attempt - live.losses',
      ],
      ['losses are not counted', 'live.losses += 1', 'live.losses += 0'],
      ['waits are not counted', 'live.waits += 1', 'live.waits += 0'],
      ['an error that no attempt can help is retried', "if (!error.retryable) return 'exhausted'", ''],
      [
        'the policy does not see the error',
        'nextAttempt(run.graph.nodes[node]!.retry, made, now, random, error)',
        'nextAttempt(run.graph.nodes[node]!.retry, made, now, random)',
      ],
      [
        'a cancelled attempt is tried again',
        "isStopped(run, node) || outcome.kind === 'cancelled'",
        'isStopped(run, node)',
      ],
      [
        'a failure during a cancel is tried again',
        "isStopped(run, node) || outcome.kind === 'cancelled'",
        "outcome.kind === 'cancelled'",
      ],
      [
        'an answer counts for any wait of its task',
        'if (!live?.deferred || live.attempt !== event.attempt || waitsForRunner',
        'if (!live?.deferred || waitsForRunner',
      ],
      [
        'an answer ends a sensor',
        ' || live.attempt !== event.attempt || waitsForRunner(run, event.node)) return',
        ' || live.attempt !== event.attempt) return',
      ],
      [
        'a deadline is due for any wait of its task',
        'if (!live?.deferred || live.attempt !== event.attempt) return',
        'if (!live) return',
      ],
      ['an approval that nobody answers is given', "if (then === 'approve') return", "if (then !== 'skip') return"],
      ['a task is not late when its time is over', 'live.late = true', 'live.late = live.deferred'],
      [
        'a task whose time is over goes on',
        'if (live.token !== 0) decision.kill.push',
        'if (live.token < 0) decision.kill.push',
      ],
      [
        'the run of another workflow goes on when the time of its task is over',
        'decision.stop.push({ node, mapIndex })\n  else settle',
        'live.late = true\n  else settle',
      ],
      [
        'what comes after its time is tried again',
        'if (live.late) endTask',
        'if (live.late && isStopped(run, node)) endTask',
      ],
      [
        'a task that asked to be skipped has failed',
        "to: 'skipped', error: outcome.reason",
        "to: 'failed', error: outcome.reason",
      ],
      ['a deferred task is up for retry', '  live.deferred = true\n', '  live.deferred = false\n'],
      ['a task that fails after it waited waits on', '  live.token = 0\n  live.deferred = false', '  live.token = 0'],
      [
        'a deferred task is not set down for its time',
        'decision.retries.push({ node: plain.node, mapIndex: plain.mapIndex, at: until })',
        '',
      ],
    ],
  ),
  ...inFile(
    'core/node-ends.ts',
    ['advance', 'stop-run', 'simulation'],
    [
      [
        'a map that was cancelled half-way is a success',
        'counts.cancelled > 0 || ended < width',
        'counts.cancelled > 0',
      ],
      ['a failed task of a map is forgotten', "if (counts.failed > 0) return 'failed'", ''],
      ['a map ends before its last task', 'progress.ended === progress.width', 'progress.ended >= progress.width - 1'],
      ['a bad end waits for the others', "if (state !== 'success' || last ||", 'if (last ||'],
      ['what stands in an arm that was not chosen waits for the others', 'last || chooses ||', 'last ||'],
      [
        'a map of which one task was skipped is skipped',
        'counts.skipped > 0 && counts.success === 0',
        'counts.skipped > 0',
      ],
      ['teardowns stop with the run', ' && run.graph.nodes[node]!.teardownOf === undefined', ''],
      [
        'a cancelled map waits for tasks that will not start',
        'isStopped(run, transition.node) ? progress.live.size === 0 :',
        'isStopped(run, transition.node) && progress.width < 0 ? progress.live.size === 0 :',
      ],
    ],
  ),
  ...inFile(
    'core/consider.ts',
    ['consider', 'advance', 'simulation'],
    [
      [
        'an empty list is never done',
        "if (list.length === 0) endNode(run, node, 'success')",
        'if (list.length < 0) return',
      ],
      ['lists have no limit', 'list.length > maxWidth)', 'list.length > 2 * maxWidth)'],
      [
        'an arm does not wait for its branch',
        "if (!isTerminal(state)) return 'wait'",
        "if (!isTerminal(state)) return 'run'",
      ],
      ['arms that were not chosen run', "(state === 'success' && !chosen(results[0]).includes(arm))", 'false'],
      ['what is inside of a skipped branch is decided by its rule', "if (state === 'skipped' ||", 'if ('],
      [
        'a teardown does not wait for the work',
        "if (decideTrigger('all_done', upstreamCounts(run, node)) === 'wait') return 'wait'",
        "if (!isTerminal(run.nodes[teardownOf]!.state)) return 'wait'",
      ],
      [
        'a teardown runs after a failed setup',
        "state === 'success' ? 'run' : state",
        "state !== 'upstream_failed' ? 'run' : state",
      ],
      [
        'a teardown waits for nothing to be torn down',
        "state === 'skipped' ? 'skip' : 'upstream_failed'",
        "state === 'skipped' ? 'run' : 'upstream_failed'",
      ],
      [
        'a branch takes any name',
        'names.find((name) => !choices.includes(name))',
        'names.find((name) => name === String(choices))',
      ],
      [
        'a short-circuit that is false has failed',
        'const alone = choices.length === 1',
        'const alone = choices.length === 0',
      ],
      ['true is no arm', "return one ? 'yes' : 'no'", 'return name'],
      ['a time that has passed is waited for', 'at <= now) endUnstarted', 'at < 0) endUnstarted'],
      [
        'a wait has no end',
        "const at = 'forMs' in args ? now + args.forMs :",
        "const at = 'forMs' in args ? args.forMs :",
      ],
      [
        'an approval forgets its deadline',
        'if (at !== undefined) decision.due.push',
        'if (at === 0) decision.due.push',
      ],
      ['a wait is no attempt', 'const attempt = base + 1', 'const attempt = base'],
      ['a node is released twice', "if (progress.state !== 'none') return", 'if (isTerminal(progress.state)) return'],
    ],
  ),
  ...inFile(
    'core/stop-run.ts',
    ['stop-run', 'advance', 'simulation'],
    [
      [
        'a cancel leaves live attempts alone',
        'if (token !== 0) decision.kill.push({ node, mapIndex, token })',
        'if (token !== 0) continue',
      ],
      ['a cancel cancels teardowns', 'if (run.graph.nodes[node]!.teardownOf !== undefined) continue', ''],
      [
        'what waits for its retry is not cancelled',
        'decision.transitions.push({ node, mapIndex, attempt, from,',
        'if (deferred) decision.transitions.push({ node, mapIndex, attempt, from,',
      ],
      [
        'a deferred task is cancelled as one that waits for its retry',
        "deferred ? 'deferred' : 'up_for_retry'",
        "'up_for_retry'",
      ],
      [
        'the runs that a run has started go on when it is cancelled',
        'decision.stop.push({ node, mapIndex })',
        'decision.kill.length = 0',
      ],
      ['a second stop takes the place of the first', 'if (run.stopping !== undefined) return\n', ''],
      [
        'a map that was half done is cancelled as a whole',
        'if (progress.ended === 0) endUnstarted',
        'if (progress.ended >= 0) endUnstarted',
      ],
    ],
  ),
  ...inFile(
    'core/run-progress.ts',
    ['advance'],
    [['a result is kept before it is final', 'index < 0 || isTerminal(run.nodes[index]!.state)', 'index < 1_000']],
  ),
  ...inFile(
    'core/run-restore.ts',
    ['run-restore', 'simulation'],
    [
      ['what has ended is done again', 'node.ended += 1', 'node.ended += 0'],
      ['results are lost', 'node.results[Math.max(0, mapIndex)] = row.result', 'node.results.length = 0'],
      [
        'losses are forgotten',
        'attempt, losses, waits, base, token, deferred, late',
        'attempt, losses: 0, waits, base, token, deferred, late',
      ],
      [
        'waits are forgotten',
        'attempt, losses, waits, base, token, deferred, late',
        'attempt, losses, waits: 0, base, token, deferred, late',
      ],
      ['attempts are counted anew', 'node.live.set(mapIndex, { attempt,', 'node.live.set(mapIndex, { attempt: 1,'],
      [
        'a deferred task is taken for one that failed',
        "const deferred = row.state === 'deferred'",
        "const deferred = row.state !== 'running'",
      ],
      [
        'timers are not set again',
        'else if (row.retryAt !== null) open.due.push',
        'else if (row.retryAt === 0) open.due.push',
      ],
      [
        'sensors look no more',
        "else if (!deferred || kind === 'action') open.retries.push",
        'else if (!deferred) open.retries.push',
      ],
      ['time limits of tasks are not set again', 'open.limits.push({', 'if (mapIndex < -1) open.limits.push({'],
      [
        'time limits of tasks count from the adoption',
        'at: row.firstStartedAt + withinMs',
        'at: row.firstStartedAt + 2 * withinMs',
      ],
      ['open runs of other workflows are not counted', 'open.children += 1', 'open.children += 0'],
      ['tasks of a map that have a row start again', '!started?.has(at)', 'started !== null'],
      [
        'a node that fell as a whole is decided again',
        'endNode(progress, node, state as TerminalTaskState)',
        'if (result !== null) endNode(progress, node, state as TerminalTaskState)',
      ],
      [
        'the result of a branch is lost',
        'progress.nodes[node]!.results[0] = result',
        'progress.nodes[node]!.results[0] = null',
      ],
      ['the last task of a map is left out', 'last: at - 1', 'last: at - 2'],
    ],
  ),
  ...inFile(
    'engine/owned-run.ts',
    ['simulation'],
    [
      [
        'an adopted run begins once more',
        "} else if (before === 'queued' && this.progress.state === 'running') {",
        "} else if (event.kind === 'begin' && this.progress.state === 'running') {",
      ],
      [
        'a child is started for the attempt before',
        'parent: { runId: this.row.id, node: index, mapIndex, attempt },',
        'parent: { runId: this.row.id, node: index, mapIndex, attempt: attempt - 1 },',
      ],
      [
        'timers of waits are not kept',
        'for (const { at, ...task } of decision.due) this.after.later.push',
        'for (const { at, ...task } of decision.due.slice(1)) this.after.later.push',
      ],
      ['the sequence does not count', 'this.seq += lengthOf(change)', 'this.seq += 1'],
      ['the parent is not told', 'hasParent: this.row.hasParent', 'hasParent: false'],
    ],
  ),
  ...inFile(
    'core/template.ts',
    ['template'],
    [
      ['fields of every object can be read', '!Object.hasOwn(found, key)', '!(key in found)'],
      ['a path goes on through null', 'found === null || typeof', 'typeof'],
      ['literals are not opened', "'$literal' in object ?", "'$literals' in object ?"],
      [
        'what is not found makes lists shorter',
        'resolveTemplate(item, lookup) ?? null',
        'resolveTemplate(item, lookup)',
      ],
    ],
  ),
  ...inFile(
    'core/trigger-rule.ts',
    ['trigger-rule'],
    [
      ['a cancelled task is not a failure', 'counts.failed + counts.cancelled', 'counts.failed'],
      ['removed tasks are waited for', 'counts.total - (counts.removed ?? 0)', 'counts.total'],
      [
        'one_success waits for all',
        "decide: (e) => (e.success > 0 ? 'run'",
        "decide: (e) => (e.success === e.total ? 'run'",
      ],
    ],
  ),
  ...inFile(
    'core/retry.ts',
    ['retry', 'task-ends'],
    [
      ['one attempt too many', 'attemptsMade >= attempts', 'attemptsMade > attempts'],
      [
        'the policy of an error is not looked at',
        'if (errors === undefined || failed === undefined) return policy',
        'return policy',
      ],
      ['the wait does not double', '2 ** (attemptsMade - 1)', '1'],
      ['the wait has no limit', 'Math.min(maxMs, baseMs * 2', '(baseMs * 2'],
    ],
  ),
  ...inFile(
    'core/task-state.ts',
    ['task-state'],
    [
      [
        'an ended task may run again',
        "{ from: 'success', to: 'none', by: 'clear',",
        "{ from: 'success', to: 'none', by: 'engine',",
      ],
    ],
  ),
  ...inFile(
    'core/catch-up.ts',
    ['catch-up'],
    [
      ['a late tick is told as on time', 'age <= onTimeMs', 'age <= 2 * onTimeMs'],
      [
        'the newest of the missed ticks is skipped',
        "if (isNewest) return { outcome: 'late'",
        "if (isNewest) return { outcome: 'skipped'",
      ],
    ],
  ),
  ...inFile(
    'core/admission.ts',
    ['admission'],
    [
      ['a group may be over its limit', 'entry.running >= this.#limits.each', 'entry.running > this.#limits.each'],
      [
        'all together may be over their limit',
        'this.#running >= this.#limits.total',
        'this.#running > this.#limits.total',
      ],
    ],
  ),
  ...inFile(
    'core/park.ts',
    ['park'],
    [
      [
        'a key is freed while records wait for it',
        'queue === undefined || queue.size === 0',
        'queue === undefined || queue.size <= 1',
      ],
    ],
  ),
  ...inFile(
    'core/watermark.ts',
    ['watermark'],
    [
      ['what is in flight is committed', 'if (slot === open) break', 'if (slot === open) continue'],
      ['reading goes one past the limit', 'this.distance < limit', 'this.distance <= limit'],
    ],
  ),
  ...inFile(
    'core/ledger.ts',
    ['ledger'],
    [
      ['a record that moved is counted twice', 'sum[was] -= count', 'sum[was] -= 0'],
      ['a negative term balances', 'terms.every((term) => term >= 0) &&', ''],
    ],
  ),
  ...limitMutants,
]
