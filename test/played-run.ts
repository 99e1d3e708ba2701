/** A run in memory for tests of `src/core`, with short ways to move it. It is 1,000 ms past; randomness is 0.5. */
import { advance, startTask } from '../src/core/advance.ts'
import { compileGraph } from '../src/core/graph.ts'
import type { NodeManifest, WorkflowManifest } from '../src/core/manifest.ts'
import {
  type AttemptError,
  type Decision,
  newProgress,
  type Outcome,
  type RunEvent,
  type RunProgress,
} from '../src/core/run-progress.ts'
import type { Template } from '../src/sdk/reference.ts'

export const ok = (value: unknown = null): Outcome => ({ kind: 'success', result: JSON.stringify(value) })
export const failed = (more: Partial<AttemptError> = {}): Outcome => ({
  kind: 'failure',
  error: { code: 'ACTION_FAILED', message: 'no luck', retryable: true, ...more },
})
export const lost: Outcome = { kind: 'lost', reason: 'the runner ended' }
export const skipped: Outcome = { kind: 'skipped', reason: 'nothing came' }
export const deferred = (until: number): Outcome => ({ kind: 'deferred', until, wait: '{"kind":"sensor"}' })
export const retry = (attempts: number) => ({ attempts, baseMs: 100, maxMs: 100 })
export const param = (...path: string[]) => ({ $ref: { from: 'param', path } }) as unknown as Template
export const resultOfNode = (node: number, ...path: string[]) =>
  ({ $ref: { from: 'node', node, path } }) as unknown as Template

type More = Partial<Pick<WorkflowManifest, 'output' | 'timeoutMs'>>

/** A run that has begun. Tokens are 1, 2, 3 in the order of starts. */
export function playedRun(nodes: NodeManifest[], params: unknown = {}, more: More = {}) {
  return playOn(newProgress(compileGraph({ nodes, ...more }), JSON.stringify(params)))
}

export function playOn(progress: RunProgress, now = 1_000) {
  const take = (event: RunEvent, at = now): Decision => advance(progress, event, at, () => 0.5)
  const begun = take({ kind: 'begin' })
  let token = 0
  const start = (node: number, mapIndex = -1) => startTask(progress, node, mapIndex, ++token)
  const end = (outcome: Outcome, node: number, mapIndex = -1): Decision => {
    const live = progress.nodes[node]!.live.get(mapIndex)
    return take({ kind: 'ended', node, mapIndex, token: live?.token ?? 0, outcome })
  }
  const attemptOf = (node: number, mapIndex: number) => progress.nodes[node]!.live.get(mapIndex)?.attempt ?? 0
  return {
    progress,
    begun,
    take,
    start,
    end,
    play(outcome: Outcome, node: number, mapIndex = -1): Decision {
      start(node, mapIndex)
      return end(outcome, node, mapIndex)
    },
    resume: (outcome: Outcome, node: number, mapIndex = -1, attempt = attemptOf(node, mapIndex)) =>
      take({ kind: 'resumed', node, mapIndex, attempt, outcome }),
    due: (node: number, at: number, attempt = attemptOf(node, -1)) =>
      take({ kind: 'due', node, mapIndex: -1, attempt }, at),
    limit: (node: number, mapIndex = -1) => take({ kind: 'task-limit', node, mapIndex }),
    cancel: () => take({ kind: 'cancel' }),
    runLimit: () => take({ kind: 'run-limit' }),
    states: () => progress.nodes.map(({ state }) => state),
  }
}

/** What a decision does to the rows: `node/index from>to`. */
export const moves = ({ transitions }: Decision): string[] =>
  transitions.map(({ node, mapIndex, from, to }) => `${node}${mapIndex < 0 ? '' : `/${mapIndex}`} ${from}>${to}`)
