/**
 * Wrong decisions, each a patch of one shipped file of `src/core`, and the tests that must notice it. `find` occurs
 * exactly once in its file.
 */
export interface Mutant {
  readonly file: string
  /** What is wrong then. */
  readonly says: string
  readonly find: string
  readonly replace: string
  /** Test files of `src/core`, without `.test.ts`. */
  readonly caughtBy: readonly string[]
}

const inFile = (file: string, caughtBy: readonly string[], patches: readonly [string, string, string][]): Mutant[] =>
  patches.map(([says, find, replace]) => ({ file, says, find, replace, caughtBy }))

export const mutants: readonly Mutant[] = [
  ...inFile(
    'graph.ts',
    ['graph', 'run-play'],
    [
      ['stages do not wait for one another', 'byStage[node.stage - 1]', 'byStage[node.stage - 2]'],
      ['edges out of the stage before count twice', 'nodes[up]!.stage !== node.stage! - 1', 'up >= 0'],
      ['a rule that one good end decides waits for all', '!patient.has(nodes[node]!.rule)', 'patient.size === 0'],
      ['every node is a leaf', 'countsIn[index]!.length === 0', 'countsIn[index]!.length >= 0'],
    ],
  ),
  ...inFile(
    'advance.ts',
    ['advance'],
    [
      ['an end counts without its token', 'live.token === 0 || live.token !== event.token', 'live.token === 0'],
      [
        'a late end counts while the task waits for its retry',
        'live.token === 0 || live.token !== event.token',
        'live.token !== event.token && live.token !== 0',
      ],
      ['a task starts while an attempt is live', '  if (live.token !== 0) return undefined\n', ''],
      [
        'a task of a map starts after its end',
        '!== undefined) return undefined\n    progress.live',
        '=== 0 as never) return undefined\n    progress.live',
      ],
      [
        'tasks start after a cancel',
        "progress.state !== 'scheduled' || run.cancelRequested",
        "progress.state !== 'scheduled'",
      ],
      ['a retry does not count its attempt', 'live.attempt += 1', 'live.attempt += 0'],
      ['lost runners spend the attempts of the author', 'live.attempt - live.losses', 'live.attempt'],
      ['losses are not counted', 'live.losses += 1', 'live.losses += 0'],
      ['an error that no attempt can help is retried', "if (!outcome.error.retryable) return 'exhausted'", ''],
      ['what the other side asked to wait is forgotten', ', outcome.error.retryAfterMs)', ')'],
      [
        'a cancelled attempt is tried again',
        "run.cancelRequested || outcome.kind === 'cancelled'",
        'run.cancelRequested',
      ],
      [
        'a failure during a cancel is tried again',
        "run.cancelRequested || outcome.kind === 'cancelled'",
        "outcome.kind === 'cancelled'",
      ],
      ['a cancel leaves live attempts alone', 'decision.kill.push({ node, mapIndex, token: live.token })', ''],
      [
        'a map that was cancelled half-way is a success',
        'counts.cancelled > 0 || ended < width',
        'counts.cancelled > 0',
      ],
      ['a failed task of a map is forgotten', "if (counts.failed > 0) return 'failed'", ''],
      ['a map ends before its last task', 'progress.ended === progress.width', 'progress.ended >= progress.width - 1'],
      [
        'an empty list is never done',
        "if (list.length === 0) endNode(run, node, 'success')",
        'if (list.length < 0) return',
      ],
      ['lists have no limit', 'list.length > maxWidth', 'list.length > 2 * maxWidth'],
      ['a bad end waits for the others', "state !== 'success' || counts.ended", 'counts.ended'],
      ['a run is judged by all of its nodes', 'run.graph.leaves.filter((leaf)', '[...run.nodes.keys()].filter((leaf)'],
      ['a skipped leaf fails the run', "['success', 'skipped'].includes", "['success'].includes"],
    ],
  ),
  ...inFile(
    'run-progress.ts',
    ['advance'],
    [['a result is kept before it is final', 'index < 0 || isTerminal(run.nodes[index]!.state)', 'index < 1_000']],
  ),
  ...inFile(
    'run-restore.ts',
    ['run-restore', 'run-play'],
    [
      ['what has ended is done again', 'node.ended += 1', 'node.ended += 0'],
      ['results are lost', 'node.results[Math.max(0, row.mapIndex)] = row.result', 'node.results.length = 0'],
      ['losses are forgotten', 'losses: row.losses', 'losses: 0'],
      ['attempts are counted anew', 'attempt: row.attempt,', 'attempt: 1,'],
      ['tasks of a map that have a row start again', '!started?.has(at)', 'started !== null'],
      [
        'a node that fell as a whole is decided again',
        'for (const { node, state } of endedWhole) endNode(progress, node, state)',
        '',
      ],
      ['the last task of a map is left out', 'last: at - 1', 'last: at - 2'],
    ],
  ),
  ...inFile(
    'template.ts',
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
    'trigger-rule.ts',
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
    'retry.ts',
    ['retry'],
    [
      ['one attempt too many', 'attemptsMade >= policy.attempts', 'attemptsMade > policy.attempts'],
      ['the wait does not double', '2 ** (attemptsMade - 1)', '1'],
      ['the wait has no limit', 'Math.min(policy.maxMs, policy.baseMs * 2', '(policy.baseMs * 2'],
    ],
  ),
  ...inFile(
    'task-state.ts',
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
    'catch-up.ts',
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
    'admission.ts',
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
    'park.ts',
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
    'watermark.ts',
    ['watermark'],
    [
      ['what is in flight is committed', 'this.#slots[end] !== open) end', 'end >= 0) end'],
      ['reading goes one past the limit', 'this.distance < limit', 'this.distance <= limit'],
    ],
  ),
  ...inFile(
    'ledger.ts',
    ['ledger'],
    [
      ['a record that moved is counted twice', 'sum[was] -= count', 'sum[was] -= 0'],
      ['a negative term balances', 'terms.every((term) => term >= 0) &&', ''],
    ],
  ),
]
