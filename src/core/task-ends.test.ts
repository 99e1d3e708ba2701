import { describe, expect, it } from 'vitest'
import { deferred, failed, lost, moves, ok, playedRun, retry, skipped } from '../../test/played-run.ts'
import { node } from '../../test/run-plans.ts'
import type { NodeManifest } from './manifest.ts'

const ask = (more: Partial<NonNullable<NodeManifest['approval']>> = {}) =>
  node(0, {
    kind: 'approval',
    action: 'approval',
    approval: { onDeadline: 'fail', onRefuse: 'skip', deadlineMs: 500, ...more },
  })
const runOf = (more: Partial<NodeManifest> = {}) => node(0, { kind: 'workflow', action: 'other', ...more })

describe('an attempt that is deferred', () => {
  it('gives its runner back and goes on in a new attempt, which no policy counts', () => {
    const { play, start } = playedRun([node(0, { retry: retry(2) })])
    const waiting = play(deferred(5_000), 0)
    expect(waiting.transitions).toEqual([
      {
        ...{ node: 0, mapIndex: -1, attempt: 1, from: 'running', to: 'deferred', token: 1, losses: 0 },
        ...{ waits: 1, retryAt: 5_000, wait: '{"kind":"sensor"}' },
      },
    ])
    expect(waiting.retries).toEqual([{ node: 0, mapIndex: -1, at: 5_000 }])
    expect(start(0)).toMatchObject({ from: 'deferred', to: 'running', attempt: 2, token: 2 })
    const second = playedRun([node(0, { retry: retry(2) })])
    for (let look = 1; look <= 3; look += 1) {
      expect(second.play(deferred(5_000), 0).transitions).toMatchObject([
        { to: 'deferred', attempt: look, waits: look },
      ])
    }
    expect(moves(second.play(failed(), 0))).toEqual(['0 running>up_for_retry'])
    expect(moves(second.play(lost, 0))).toEqual(['0 running>up_for_retry'])
    expect(second.play(failed(), 0).transitions).toMatchObject([{ to: 'failed', attempt: 6, losses: 1 }])
  })

  it('takes no answer and no deadline of another kind of task', () => {
    const { play, resume, due, progress } = playedRun([node(0)])
    play(deferred(5_000), 0)
    expect(moves(resume(ok(), 0))).toEqual([])
    expect(moves(due(0, 9_000))).toEqual([])
    expect(progress.nodes[0]!.state).toBe('scheduled')
  })

  it('that ends late tells nothing', () => {
    const { play, take } = playedRun([node(0)])
    play(deferred(5_000), 0)
    const again = take({ kind: 'ended', node: 0, mapIndex: -1, token: 1, outcome: ok() })
    expect(moves(again)).toEqual([])
  })
})

describe('an attempt that asks to be skipped', () => {
  it('ends its task so, and by the default rule what is behind it', () => {
    const { play } = playedRun([node(0, { retry: retry(3) }), node(1, { upstream: [0] })])
    const decision = play(skipped, 0)
    expect(decision.transitions).toMatchObject([
      { to: 'skipped', error: 'nothing came', attempt: 1 },
      { node: 1, to: 'skipped', attempt: 0 },
    ])
    expect(decision.end?.state).toBe('success')
  })

  it.each([
    [['success', 'skipped'], 'success'],
    [['skipped', 'skipped'], 'skipped'],
    [['skipped', 'failed'], 'failed'],
  ])('among tasks of a map that end as %j ends the map as %s', (ends, state) => {
    const { play, states } = playedRun([node(0, { over: [1, 2] })])
    for (const [index, end] of ends.entries())
      play(end === 'success' ? ok() : end === 'skipped' ? skipped : failed(), 0, index)
    expect(states()).toEqual([state])
  })
})

describe('a policy for an error', () => {
  const policy = { ...retry(2), errors: { Busy: { ...retry(4), baseMs: 10, maxMs: 10 }, TIMEOUT: retry(1) } }
  it('holds for errors of its name or code, and counts all attempts', () => {
    const { play } = playedRun([node(0, { retry: policy })])
    expect(play(failed({ name: 'Busy' }), 0).transitions).toMatchObject([{ to: 'up_for_retry', retryAt: 1_005 }])
    expect(play(failed({ name: 'Busy' }), 0).transitions).toMatchObject([{ to: 'up_for_retry', retryAt: 1_005 }])
    expect(play(failed({ name: 'Other' }), 0).transitions).toMatchObject([{ to: 'failed', attempt: 3 }])
  })

  it('of one attempt ends the task at once', () => {
    const { play } = playedRun([node(0, { retry: policy })])
    expect(play(failed({ code: 'TIMEOUT' }), 0).transitions).toMatchObject([{ to: 'failed', attempt: 1 }])
  })
})

describe('an approval', () => {
  it('ends as it is answered, once', () => {
    const { resume } = playedRun([ask()])
    expect(moves(resume(ok(), 0, -1, 2))).toEqual([])
    expect(resume(ok({ approved: true }), 0)).toMatchObject({
      transitions: [{ from: 'deferred', to: 'success', attempt: 1, token: 0, result: '{"approved":true}' }],
      end: { state: 'success' },
    })
    expect(moves(resume(failed(), 0, -1, 1))).toEqual([])
  })

  it.each([
    ['fail', 'failed', /^TIMEOUT: nobody answered/],
    ['skip', 'skipped', /^nobody answered/],
    ['approve', 'success', undefined],
  ] as const)('that nobody answered is, by "%s", %s', (onDeadline, state, error) => {
    const { due } = playedRun([ask({ onDeadline })])
    expect(moves(due(0, 1_500, 7))).toEqual([])
    const [transition] = due(0, 1_500).transitions
    expect(transition).toMatchObject({ from: 'deferred', to: state })
    if (error) expect(transition!.error).toMatch(error)
    else expect(transition!.result).toBe('{"approved":true,"by":null,"form":null}')
    expect(moves(due(0, 1_500))).toEqual([])
  })
})

describe('a run of another workflow', () => {
  it('is deferred from its start on, without a token, and ends as that run', () => {
    const { begun, start, resume } = playedRun([runOf()])
    expect(begun.ready).toEqual([{ node: 0, first: -1, last: -1 }])
    expect(start(0)).toEqual({
      ...{ node: 0, mapIndex: -1, attempt: 1, from: 'none', to: 'deferred', token: 0, losses: 0 },
      wait: '{"kind":"workflow"}',
    })
    expect(start(0)).toBeUndefined()
    expect(resume(ok(7), 0).transitions).toMatchObject([{ from: 'deferred', to: 'success', result: '7' }])
  })

  it('that failed is started anew as its policy says', () => {
    const { start, resume } = playedRun([runOf({ retry: retry(2) })])
    start(0)
    const runFailed = failed({ code: 'RUN_FAILED' })
    expect(resume(runFailed, 0)).toMatchObject({
      transitions: [{ from: 'deferred', to: 'up_for_retry', retryAt: 1_050 }],
      retries: [{ at: 1_050 }],
    })
    expect(moves(resume(ok(), 0, -1, 1))).toEqual([])
    expect(start(0)).toMatchObject({ from: 'up_for_retry', to: 'deferred', attempt: 2, token: 0 })
    expect(moves(resume(ok(), 0, -1, 1))).toEqual([])
    expect(moves(resume(runFailed, 0))).toEqual(['0 deferred>failed'])
  })
})

describe('the time limit of a task', () => {
  it('stops the attempt that runs, and what comes then is a failure', () => {
    for (const outcome of [failed(), lost, skipped, deferred(9_000), { kind: 'cancelled' } as const]) {
      const { start, limit, end } = playedRun([node(0, { withinMs: 100, retry: retry(9) })])
      start(0)
      expect(limit(0)).toMatchObject({ kill: [{ node: 0, mapIndex: -1, token: 1 }], transitions: [] })
      expect(limit(0).kill).toEqual([])
      expect(end(outcome, 0).transitions).toMatchObject([
        { to: 'failed', error: 'TIMEOUT: the time limit of the task has passed' },
      ])
    }
  })

  it('leaves a success that was on its way', () => {
    const { start, limit, end } = playedRun([node(0, { withinMs: 100 })])
    start(0)
    limit(0)
    expect(moves(end(ok(), 0))).toEqual(['0 running>success'])
  })

  it.each([
    ['its retry', failed(), 'up_for_retry'],
    ['its next look', deferred(9_000), 'deferred'],
  ])('ends what waits for %s', (_, outcome, from) => {
    const { play, limit, start } = playedRun([node(0, { withinMs: 100, retry: retry(9) })])
    play(outcome, 0)
    expect(moves(limit(0))).toEqual([`0 ${from}>failed`])
    expect(start(0)).toBeUndefined()
  })

  it('has the run of another workflow cancelled, and then fails', () => {
    const { start, limit, resume } = playedRun([runOf({ withinMs: 100, retry: retry(9) })])
    start(0)
    expect(limit(0)).toMatchObject({ stop: [{ node: 0, mapIndex: -1 }], transitions: [] })
    expect(resume(failed({ code: 'RUN_FAILED', retryable: false }), 0).transitions).toMatchObject([
      { from: 'deferred', to: 'failed', error: 'TIMEOUT: the time limit of the task has passed' },
    ])
  })

  it('is nothing to a task that has ended or has not started', () => {
    const { play, limit } = playedRun([node(0, { withinMs: 100 }), node(1, { withinMs: 100 })])
    play(ok(), 0)
    expect(limit(0)).toMatchObject({ transitions: [], kill: [] })
    expect(limit(1)).toMatchObject({ transitions: [], kill: [] })
  })
})
