/**
 * Bugs that were written into shipped source, each by one textual patch, and the invariant whose breach must show them.
 * `find` occurs exactly once in its file. How to add one: see `more-bugs.ts`.
 */
export interface SeededBug {
  /** What is wrong then. */
  readonly name: string
  /** The number of the invariant, as in test/invariants/check.ts, that is reported as broken. */
  readonly invariant: number
  /** From the root of the repository. */
  readonly file: string
  readonly find: string
  readonly replace: string
  readonly scenario: Scenario
}

export const scenarios = ['batch', 'semantics', 'plans', 'simulation', 'streams', 'objects', 'secrets'] as const
export type Scenario = (typeof scenarios)[number]

export const bugs: readonly SeededBug[] = [
  {
    name: 'records of a long batch are acknowledged and lost',
    invariant: 1,
    file: 'src/store/topics.ts',
    find: 'from accepted join moved using (partition)',
    replace: 'from accepted join moved using (partition) where nth <= 30',
    scenario: 'streams',
  },
  {
    name: 'a task that is left out is not logged',
    invariant: 4,
    file: 'src/store/transitions.ts',
    find: '      add(log, run, seq, t.node,',
    replace: "      if (t.to !== 'skipped') add(log, run, seq, t.node,",
    scenario: 'batch',
  },
  {
    name: 'a retry is not set down for its time',
    invariant: 9,
    file: 'src/engine/own-runs.ts',
    find: 'for (const { at, what } of after.later) this.due.add(',
    replace: 'for (const { at, what } of after.later.slice(1)) this.due.add(',
    scenario: 'batch',
  },
  {
    name: 'a group is written whoever owns the run by now',
    invariant: 3,
    file: 'src/store/transitions.ts',
    find: 'r.id = g.id and r.node_id = $1 and r.epoch = g.epoch and r.seq = g.seq',
    replace: 'r.id = g.id and $1::uuid is not null',
    scenario: 'batch',
  },
  {
    name: 'the attempts of a live engine are taken over',
    invariant: 3,
    file: 'src/store/runs.ts',
    find: 'where n.id = c.node_id and n.lease_until > sluice.sluice_now()))',
    replace: 'where n.id = c.node_id and n.lease_until < sluice.sluice_now()))',
    scenario: 'batch',
  },
  {
    name: 'a rule decides before all have ended',
    invariant: 5,
    file: 'src/core/trigger-rule.ts',
    find: `    says: 'all before it ended, however',
    decide: (e) => (e.open > 0 ? 'wait' : 'run'),`,
    replace: `    says: 'all before it ended, however',
    decide: (e) => (e.open > 1 ? 'wait' : 'run'),`,
    scenario: 'batch',
  },
  {
    name: 'a retry is counted as one attempt less',
    invariant: 7,
    file: 'src/core/retry.ts',
    find: "if (attemptsMade >= attempts) return 'exhausted'",
    replace: "if (attemptsMade > attempts) return 'exhausted'",
    scenario: 'batch',
  },
  {
    name: 'a task keeps its token when it ends',
    invariant: 8,
    file: 'src/store/transitions.ts',
    find: 'losses = e.losses, token = null,',
    replace: 'losses = e.losses,',
    scenario: 'batch',
  },
  {
    name: 'a workflow has one attempt more at once than it has workers',
    invariant: 6,
    file: 'src/core/limits.ts',
    find: 'isOver(limit) || limit.granted - limit.inUse < amount) return false',
    replace: 'isOver(limit) || limit.granted - limit.inUse < amount - 1) return false',
    scenario: 'batch',
  },
  {
    name: 'ticks are passed without their rows',
    invariant: 10,
    file: 'src/store/plans.ts',
    find: 'select * from rows on conflict (workflow',
    replace: "select * from rows where outcome <> 'skipped' on conflict (workflow",
    scenario: 'plans',
  },
  {
    name: 'an id that is known is received again',
    invariant: 2,
    file: 'src/store/topics.ts',
    find: `    on conflict do nothing
    returning id, published_at`,
    replace: `    on conflict (topic, id) do update set published_at = excluded.published_at
    returning id, published_at`,
    scenario: 'streams',
  },
  {
    name: 'the ledger leaves out what became of a record that waited',
    invariant: 11,
    file: 'src/streams/commit.ts',
    find: "const noted = late ? outcome !== 'waiting' :",
    replace: "const noted = late ? outcome === 'dead' :",
    scenario: 'streams',
  },
  {
    name: 'the sweep does not look for claims',
    invariant: 12,
    file: 'src/store/objects.ts',
    find: 'where c.sha256 = o.sha256 and c.expires_at > (select sluice.sluice_now()) - $2',
    replace: "where c.sha256 = o.sha256 and c.claimant = '' and c.expires_at > (select sluice.sluice_now()) - $2",
    scenario: 'objects',
  },
  {
    name: 'retention leaves the durable steps of the runs that it deletes',
    invariant: 12,
    file: 'src/store/retention.ts',
    find: 'where c.run_id = old.id),',
    replace: "where c.run_id = old.id and c.name = ''),",
    scenario: 'objects',
  },
  {
    name: 'retention leaves how far the runs were that it deletes',
    invariant: 12,
    file: 'src/store/retention.ts',
    find: 'where p.run_id = old.id),',
    replace: 'where p.run_id = old.id and p.done < 0),',
    scenario: 'objects',
  },
  {
    name: 'lines of a log are written as they come',
    invariant: 13,
    file: 'src/observe/log-writer.ts',
    find: 'this.redact(chunk.lines)',
    replace: 'String(chunk.lines)',
    scenario: 'secrets',
  },
]
