import { describe, expect, it } from 'vitest'
import { node } from '../../test/run-plans.ts'
import { advance, startTask } from './advance.ts'
import { compileGraph } from './graph.ts'
import type { NodeManifest } from './manifest.ts'
import { argumentsOf, resultOf } from './run-progress.ts'
import { restoreProgress, type TaskRow } from './run-restore.ts'

const row = (at: number, mapIndex: number, more: Partial<TaskRow>): TaskRow => ({
  node: at,
  mapIndex,
  state: 'success',
  attempt: 1,
  losses: 0,
  waits: 0,
  base: 0,
  token: null,
  result: null,
  retryAt: null,
  firstStartedAt: null,
  ...more,
})

function restore(nodes: NodeManifest[], rows: TaskRow[], widths: { node: number; width: number }[] = [], params = {}) {
  const restored = restoreProgress(compileGraph({ nodes }), JSON.stringify(params), rows, widths)
  return { ...restored, begun: advance(restored.progress, { kind: 'begin' }, 0, () => 0) }
}

const items = { $ref: { from: 'param', path: ['items'] } }
const mapped = (more: Partial<NodeManifest> = {}) => node(0, { over: items, ...more })

describe('restoreProgress', () => {
  it('starts from nothing where there is nothing', () => {
    const { begun, ready, retries, running } = restore([node(0), node(1, { upstream: [0] })], [])
    expect(begun.ready).toEqual([{ node: 0, first: -1, last: -1 }])
    expect([ready, retries, running]).toEqual([[], [], []])
  })

  it('goes on behind what has ended, with its result', () => {
    const nodes = [node(0), node(1, { upstream: [0], args: { x: { $ref: { from: 'node', node: 0, path: ['x'] } } } })]
    const { progress, begun } = restore(nodes, [row(0, -1, { result: '{"x":3}' })])
    expect(begun.ready).toEqual([{ node: 1, first: -1, last: -1 }])
    expect(argumentsOf(progress, 1, -1)).toBe('{"x":3}')
    expect(startTask(progress, 0, -1, 5)).toBeUndefined()
  })

  it('ends with the run when all have ended', () => {
    const nodes = [node(0), node(1, { upstream: [0] })]
    const { begun } = restore(nodes, [
      row(0, -1, { state: 'failed' }),
      row(1, -1, { state: 'upstream_failed', attempt: 0 }),
    ])
    expect(begun).toMatchObject({ transitions: [], end: { state: 'failed', error: 'failed: 0' } })
  })

  it('keeps live attempts live, under their token', () => {
    const { progress, running, begun } = restore(
      [node(0)],
      [row(0, -1, { state: 'running', attempt: 3, losses: 1, token: 77 })],
    )
    expect(running).toEqual([{ node: 0, mapIndex: -1, token: 77 }])
    expect(begun.ready).toEqual([])
    expect(startTask(progress, 0, -1, 78)).toBeUndefined()
    const outcome = { kind: 'success', result: '1' } as const
    const ended = (token: number) =>
      advance(progress, { kind: 'ended', node: 0, mapIndex: -1, token, outcome }, 0, () => 0)
    expect(ended(78).transitions).toEqual([])
    expect(ended(77).transitions).toMatchObject([{ to: 'success', attempt: 3, losses: 1 }])
  })

  it('tries again when it was due, counting on', () => {
    const { progress, retries } = restore(
      [node(0), node(1)],
      [
        row(0, -1, { state: 'up_for_retry', attempt: 2, losses: 1, retryAt: 5_000 }),
        row(1, -1, { state: 'up_for_retry' }),
      ],
    )
    expect(retries).toEqual([
      { node: 0, mapIndex: -1, at: 5_000 },
      { node: 1, mapIndex: -1, at: 0 },
    ])
    expect(startTask(progress, 0, -1, 9)).toMatchObject({ from: 'up_for_retry', attempt: 3, losses: 1 })
  })

  it('takes an attempt without a token as one that waits', () => {
    const { retries, running } = restore([node(0)], [row(0, -1, { state: 'running' })])
    expect(retries).toEqual([{ node: 0, mapIndex: -1, at: 0 }])
    expect(running).toEqual([])
  })

  it('finds the tasks of a map that have no row yet', () => {
    const rows = [
      row(0, 1, { result: '"b"' }),
      row(0, 2, { state: 'failed' }),
      row(0, 5, { state: 'running', token: 4 }),
      row(0, 6, { state: 'up_for_retry', retryAt: 8 }),
    ]
    const { progress, ready, begun } = restore([mapped()], rows, [{ node: 0, width: 9 }])
    expect(ready).toEqual([
      { node: 0, first: 0, last: 0 },
      { node: 0, first: 3, last: 4 },
      { node: 0, first: 7, last: 8 },
    ])
    expect(begun).toMatchObject({ expanded: [], ready: [] })
    expect(resultOf(progress, 0)).toBe('[null,"b",null,null,null,null,null,null,null]')
    expect([1, 2, 5].map((index) => startTask(progress, 0, index, 9))).toEqual([undefined, undefined, undefined])
  })

  it('reads the list again for the items of a map', () => {
    const { progress, ready } = restore(
      [mapped({ args: { $ref: { from: 'item', path: [] } } })],
      [],
      [{ node: 0, width: 2 }],
      { items: ['a', 'b'] },
    )
    expect(ready).toEqual([{ node: 0, first: 0, last: 1 }])
    expect(argumentsOf(progress, 0, 1)).toBe('"b"')
  })

  it.each([
    ['success', ['success', 'success']],
    ['failed', ['success', 'failed']],
    ['failed', ['cancelled', 'failed']],
    ['cancelled', ['success', 'cancelled']],
    ['success', []],
  ] as const)('ends a map as %s whose tasks ended as %j', (state, states) => {
    const rows = states.map((one, index) => row(0, index, { state: one }))
    const { progress, ready } = restore([mapped()], rows, [{ node: 0, width: states.length }])
    expect(progress.nodes[0]!.state).toBe(state)
    expect(ready).toEqual([])
  })

  it('sets timers again, and counts the runs of other workflows that are open', () => {
    const wait = { kind: 'wait', action: 'wait', args: { forMs: 500 } } as const
    const approval = { onDeadline: 'fail', onRefuse: 'skip' } as const
    const nodes = [
      node(0, wait),
      node(1, { kind: 'approval', action: 'approval', approval }),
      node(2, { kind: 'workflow', action: 'other' }),
      node(3),
    ]
    const deferred = (at: number, retryAt: number | null) =>
      row(at, -1, { state: 'deferred', retryAt, waits: at === 3 ? 1 : 0 })
    const { due, children, retries, begun, progress } = restore(nodes, [
      deferred(0, 1_500),
      deferred(1, null),
      deferred(2, null),
      deferred(3, 7_000),
    ])
    expect(due).toEqual([{ node: 0, mapIndex: -1, attempt: 1, at: 1_500 }])
    expect(children).toBe(1)
    expect(retries).toEqual([{ node: 3, mapIndex: -1, at: 7_000 }])
    expect(begun).toMatchObject({ transitions: [], ready: [], due: [] })
    expect(progress.nodes.map(({ state }) => state)).toEqual(Array(4).fill('scheduled'))
    expect(startTask(progress, 2, -1, 5)).toBeUndefined()
    expect(startTask(progress, 3, -1, 5)).toMatchObject({ from: 'deferred', attempt: 2 })
    const late = { node: 0, mapIndex: -1, attempt: 1 }
    expect(advance(progress, { kind: 'due', ...late }, 1_500, () => 0).transitions).toMatchObject([{ to: 'success' }])
  })

  it('sets the time limits of tasks again, from their first start', () => {
    const { limits } = restore(
      [node(0, { withinMs: 400 }), node(1, { withinMs: 400 }), node(2), node(3, { withinMs: 400 })],
      [
        row(0, -1, { state: 'running', token: 3, firstStartedAt: 1_000 }),
        row(1, -1, { state: 'up_for_retry', retryAt: 5, firstStartedAt: 2_000 }),
        row(2, -1, { state: 'running', token: 4, firstStartedAt: 1_000 }),
        row(3, -1, { firstStartedAt: 1_000 }),
      ],
    )
    expect(limits).toEqual([
      { node: 0, mapIndex: -1, at: 1_400 },
      { node: 1, mapIndex: -1, at: 2_400 },
    ])
  })

  it('lets what was cleared begin again, and goes on with its numbers', () => {
    const nodes = [mapped(), node(1)]
    const { progress, ready, begun } = restore(
      nodes,
      [
        row(0, 0, { result: '1' }),
        row(0, 1, { state: 'none', attempt: 3, base: 3 }),
        row(1, -1, { state: 'none', attempt: 2, base: 2 }),
      ],
      [{ node: 0, width: 2 }],
    )
    expect(ready).toEqual([{ node: 0, first: 1, last: 1 }])
    expect(begun.ready).toEqual([{ node: 1, first: -1, last: -1 }])
    expect(startTask(progress, 0, 1, 8)).toMatchObject({ from: 'none', attempt: 4 })
    expect(startTask(progress, 1, -1, 9)).toMatchObject({ from: 'none', attempt: 3 })
  })

  it('knows what a branch chose', () => {
    const nodes = [
      node(0, { kind: 'branch', action: 'branch', args: 'a', choices: ['a', 'b'] }),
      node(1, { upstream: [0], arms: [{ branch: 0, arm: 'a' }] }),
      node(2, { upstream: [0], arms: [{ branch: 0, arm: 'b' }] }),
    ]
    const { begun } = restore(nodes, [row(0, -1, { attempt: 0, result: '["b"]' })])
    expect(begun.transitions).toMatchObject([{ node: 1, to: 'skipped' }])
    expect(begun.ready).toEqual([{ node: 2, first: -1, last: -1 }])
  })

  it('takes one row of a map that never started for all its tasks', () => {
    const rows = [row(0, -1, { state: 'cancelled', attempt: 0 })]
    const { progress, ready, begun } = restore([mapped(), node(1)], rows, [{ node: 0, width: 4 }])
    expect(progress.nodes[0]!.state).toBe('cancelled')
    expect(ready).toEqual([])
    expect(begun.ready).toEqual([{ node: 1, first: -1, last: -1 }])
  })

  it('restores a map of 100,000 tasks', () => {
    const rows = Array.from({ length: 50_000 }, (_, index) => row(0, index * 2, { result: '1' }))
    const { ready, progress } = restore([mapped()], rows, [{ node: 0, width: 100_000 }])
    expect(ready).toHaveLength(50_000)
    expect(progress.nodes[0]).toMatchObject({ state: 'scheduled', ended: 50_000 })
  })
})
