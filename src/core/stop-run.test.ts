import { describe, expect, it } from 'vitest'
import { deferred, failed, moves, ok, playedRun, playOn, retry } from '../../test/played-run.ts'
import { node } from '../../test/run-plans.ts'
import { compileGraph } from './graph.ts'
import { outputOf } from './run-progress.ts'
import { restoreProgress, type TaskRow } from './run-restore.ts'

describe('a run that is stopped', () => {
  it('ends what waits for a timer, an answer or a sensor at once', () => {
    const { play, cancel } = playedRun([
      node(0, { kind: 'wait', action: 'wait', args: { forMs: 500 } }),
      node(1, { kind: 'approval', action: 'approval', approval: { onDeadline: 'fail', onRefuse: 'skip' } }),
      node(2),
      node(3, { retry: retry(2) }),
    ])
    play(deferred(9_000), 2)
    play(failed(), 3)
    const decision = cancel()
    expect(moves(decision)).toEqual([
      '0 deferred>cancelled',
      '1 deferred>cancelled',
      '2 deferred>cancelled',
      '3 up_for_retry>cancelled',
    ])
    expect(decision.end).toEqual({ state: 'cancelled', error: undefined, result: undefined })
  })

  it('has the runs cancelled that it started, and ends with them', () => {
    const { start, cancel, resume } = playedRun([node(0, { kind: 'workflow', action: 'other' })])
    start(0)
    expect(cancel()).toMatchObject({ stop: [{ node: 0, mapIndex: -1 }], transitions: [], end: undefined })
    const ended = resume(failed({ code: 'RUN_FAILED', retryable: false }), 0)
    expect(moves(ended)).toEqual(['0 deferred>cancelled'])
    expect(ended.end?.state).toBe('cancelled')
  })

  it('is judged by its time limit when that stopped it', () => {
    const { start, runLimit, end, cancel } = playedRun([node(0)], {}, { timeoutMs: 400 })
    start(0)
    expect(runLimit().kill).toEqual([{ node: 0, mapIndex: -1, token: 1 }])
    expect(cancel().kill).toEqual([])
    expect(end({ kind: 'cancelled' }, 0).end).toEqual({
      ...{ state: 'failed', result: undefined },
      error: 'TIMEOUT: the run took longer than its limit of 400 ms',
    })
  })

  it('tears down what was set up, when the work has ended', () => {
    const { play, start, cancel, end, states } = playedRun([
      node(0),
      node(1, { upstream: [0] }),
      node(2, { upstream: [1] }),
      node(3, { upstream: [0, 1, 2], rule: 'all_done', teardownOf: 0 }),
    ])
    play(ok(), 0)
    start(1)
    const decision = cancel()
    expect([moves(decision), decision.ready]).toEqual([['2 none>cancelled'], []])
    const stopped = end({ kind: 'cancelled' }, 1)
    expect(moves(stopped)).toEqual(['1 running>cancelled'])
    expect(stopped.ready).toEqual([{ node: 3, first: -1, last: -1 }])
    expect(states()).toEqual(['success', 'cancelled', 'cancelled', 'scheduled'])
    expect(play(ok(), 3).end?.state).toBe('cancelled')
  })

  it('tears down when the last of the work was stopped, tries that again, and then ends', () => {
    const { play, start, cancel, end } = playedRun([
      node(0),
      node(1, { upstream: [0] }),
      node(2, { upstream: [0, 1], rule: 'all_done', teardownOf: 0, retry: retry(2) }),
    ])
    play(ok(), 0)
    start(1)
    expect(cancel().end).toBeUndefined()
    expect(end({ kind: 'cancelled' }, 1).ready).toEqual([{ node: 2, first: -1, last: -1 }])
    expect(moves(play(failed(), 2))).toEqual(['2 running>up_for_retry'])
    expect(play(ok(), 2).end?.state).toBe('cancelled')
  })

  it('leaves a teardown that runs alone', () => {
    const { play, start, cancel, end } = playedRun([
      node(0),
      node(1, { upstream: [0], rule: 'all_done', teardownOf: 0 }),
      node(2),
    ])
    play(ok(), 0)
    start(1)
    expect(cancel()).toMatchObject({ kill: [], transitions: [{ node: 2, to: 'cancelled' }] })
    expect(end(ok(), 1).end?.state).toBe('cancelled')
  })

  it('does not tear down what was not set up', () => {
    const { start, cancel, end } = playedRun([node(0), node(1, { upstream: [0], rule: 'all_done', teardownOf: 0 })])
    start(0)
    cancel()
    expect(moves(end({ kind: 'cancelled' }, 0))).toEqual(['0 running>cancelled', '1 none>upstream_failed'])
  })
})

describe('a run of which tasks were cleared', () => {
  const cleared = (mapIndex: number, attempt: number): TaskRow => ({
    ...{ node: 0, mapIndex, state: 'none', attempt, base: attempt, losses: 0, waits: 0 },
    ...{ token: null, result: null, retryAt: null, firstStartedAt: null },
  })
  const restored = (rows: TaskRow[], width?: number) => {
    const graph = compileGraph({ nodes: [node(0, { over: [1, 2, 3], retry: retry(3) })] })
    const widths = width === undefined ? [] : [{ node: 0, width }]
    return playOn(restoreProgress(graph, '{}', rows, widths).progress)
  }

  it('goes on counting its attempts, and its policy counts anew', () => {
    const { play, start } = restored([cleared(0, 4)], 3)
    expect(start(0, 0)).toMatchObject({ from: 'none', to: 'running', attempt: 5 })
    const again = restored([cleared(0, 4)], 3)
    for (const attempt of [5, 6])
      expect(again.play(failed(), 0, 0).transitions).toMatchObject([{ to: 'up_for_retry', attempt }])
    expect(again.play(failed(), 0, 0).transitions).toMatchObject([{ to: 'failed', attempt: 7 }])
    expect(play(ok(), 0, 1).transitions).toMatchObject([{ attempt: 1 }])
  })

  it('ends each of them once when it is stopped, whether it has begun again or not', () => {
    const { play, cancel } = restored([cleared(0, 1), cleared(1, 2)], 3)
    play(failed(), 0, 0)
    const decision = cancel()
    expect(moves(decision)).toEqual(['0/0 up_for_retry>cancelled', '0/1 none>cancelled'])
    expect(decision.end?.state).toBe('cancelled')
  })

  it('removes them when its list is shorter by now, or it does not begin again', () => {
    expect(moves(restored([cleared(2, 1), cleared(5, 2)]).begun)).toEqual(['0/5 none>removed'])
    const { cancel } = restored([cleared(2, 1)], 3)
    expect(moves(cancel())).toEqual(['0/2 none>removed', '0 none>cancelled'])
  })
})

describe('the result of a run', () => {
  const output = { sum: { $ref: { from: 'node', node: 0, path: ['n'] } } } as never
  it('is what its workflow returns, when it succeeded', () => {
    const { play, progress } = playedRun([node(0)], {}, { output })
    expect(play(ok({ n: 3 }), 0).end).toEqual({ state: 'success', error: undefined, result: '{"sum":3}' })
    expect(outputOf(progress)).toBe('{"sum":3}')
    expect(playedRun([node(0)], {}, { output }).play(failed(), 0).end?.result).toBeUndefined()
  })

  it('of more than 1 MiB fails the run', () => {
    const { play } = playedRun([node(0)], {}, { output })
    expect(play(ok({ n: 'x'.repeat(1_048_576) }), 0).end).toMatchObject({
      state: 'failed',
      error: expect.stringMatching(/^OUTPUT_MISMATCH: the result of the run has \d+ bytes; at most 1048576 are kept$/),
    })
    const { play: small } = playedRun([node(0)], {}, { output })
    expect(small(ok({ n: 'x'.repeat(1_048_000) }), 0).end?.state).toBe('success')
  })
})
