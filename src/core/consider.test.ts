import { describe, expect, it } from 'vitest'
import { failed, moves, ok, param, playedRun, resultOfNode } from '../../test/played-run.ts'
import { node } from '../../test/run-plans.ts'
import type { NodeManifest } from './manifest.ts'
import { resultOf } from './run-progress.ts'

const branch = (choices: readonly string[], args = param('choice'), more: Partial<NodeManifest> = {}) =>
  node(0, { kind: 'branch', action: 'branch', args, choices, ...more })
const inArm = (id: number, arm: string, more: Partial<NodeManifest> = {}) =>
  node(id, { upstream: [0], arms: [{ branch: 0, arm }], ...more })
const decidedBy = (choices: readonly string[], choice: unknown) => playedRun([branch(choices)], { choice })

describe('a branch', () => {
  it.each([
    ['a', ['a']],
    [
      ['b', 'a', 'b'],
      ['b', 'a'],
    ],
    [[], []],
    [null, []],
    [undefined, []],
  ])('whose value is %j chooses %j', (choice, chosen) => {
    const { progress, begun } = decidedBy(['a', 'b'], choice)
    expect(resultOf(progress, 0)).toBe(JSON.stringify(chosen))
    expect(begun.transitions).toMatchObject([
      { from: 'none', to: 'success', attempt: 0, result: JSON.stringify(chosen) },
    ])
    expect(begun.end?.state).toBe('success')
  })

  it.each([
    [true, ['yes']],
    [false, ['no']],
    ['no', ['no']],
  ])('of yes and no takes %j for %j', (choice, chosen) => {
    expect(resultOf(decidedBy(['yes', 'no'], choice).progress, 0)).toBe(JSON.stringify(chosen))
  })

  it('whose arms are named true and false takes a boolean for these', () => {
    expect(resultOf(decidedBy(['true', 'false'], true).progress, 0)).toBe('["true"]')
  })

  it('that is a short-circuit chooses nothing when its value is false', () => {
    expect(resultOf(decidedBy(['yes'], false).progress, 0)).toBe('[]')
    expect(resultOf(decidedBy(['yes'], true).progress, 0)).toBe('["yes"]')
  })

  it.each([['zz'], [['a', 'zz']], [7], [{}]])('fails when its value, %j, is no arm', (choice) => {
    const { begun } = decidedBy(['a', 'b'], choice)
    expect(begun.transitions).toMatchObject([
      {
        from: 'none',
        to: 'failed',
        error: expect.stringMatching(/^DEFINITION_INVALID: it chose ".+", and has only a, b$/),
      },
    ])
  })

  it('lets the arms run that it chose, and skips the others whatever their rule', () => {
    const { begun } = playedRun(
      [branch(['a', 'b']), inArm(1, 'a'), inArm(2, 'b', { rule: 'always' }), inArm(3, 'b', { rule: 'all_done' })],
      { choice: 'a' },
    )
    expect(moves(begun)).toEqual(['0 none>success', '2 none>skipped', '3 none>skipped'])
    expect(begun.ready.map((range) => range.node)).toEqual([1])
  })

  it('is waited for by what is in its arms, also under a rule that waits for nothing', () => {
    const nodes = [
      branch(['a'], resultOfNode(4), { upstream: [4] }),
      inArm(1, 'a', { rule: 'always' }),
      inArm(2, 'a', { rule: 'one_failed', upstream: [0, 3] }),
      node(3),
      node(4),
    ]
    const { begun, play } = playedRun(nodes)
    expect(begun.ready.map((range) => range.node)).toEqual([3, 4])
    expect(play(failed(), 3).ready).toEqual([])
    expect(play(ok('a'), 4).ready.map((range) => range.node)).toEqual([1, 2])
  })

  it('that was skipped skips what is inside, and branches inside of it', () => {
    const inner = inArm(1, 'a', { kind: 'branch', action: 'branch', choices: ['x'], args: 'x' })
    const inside = node(2, {
      upstream: [0, 1],
      rule: 'always',
      arms: [
        { branch: 0, arm: 'a' },
        { branch: 1, arm: 'x' },
      ],
    })
    const { begun } = playedRun([branch(['a', 'b']), inner, inside], { choice: 'b' })
    expect(moves(begun)).toEqual(['0 none>success', '1 none>skipped', '2 none>skipped'])
    expect(begun.end?.state).toBe('success')
  })

  it('that failed leaves what is inside to its rule', () => {
    const { begun } = playedRun([branch(['a']), inArm(1, 'a'), inArm(2, 'a', { rule: 'all_done' })], { choice: 'zz' })
    expect(moves(begun)).toEqual(['0 none>failed', '1 none>upstream_failed'])
    expect(begun.ready.map((range) => range.node)).toEqual([2])
  })

  it('skips at once what waits for others too', () => {
    const nodes = [
      branch(['a', 'b'], resultOfNode(1), { upstream: [1] }),
      node(1),
      node(2),
      inArm(3, 'b', { upstream: [0, 2] }),
    ]
    const { play } = playedRun(nodes)
    expect(moves(play(ok('a'), 1))).toEqual(['1 running>success', '0 none>success', '3 none>skipped'])
  })

  it('joins where one arm at least succeeded', () => {
    const join = node(3, { upstream: [1, 2], rule: 'none_failed_min_one_success' })
    const { play, states } = playedRun([branch(['a', 'b']), inArm(1, 'a'), inArm(2, 'b'), join], { choice: 'b' })
    expect(play(ok(), 2).ready.map((range) => range.node)).toEqual([3])
    play(ok(), 3)
    expect(states()).toEqual(['success', 'skipped', 'success', 'success'])
  })
})

describe('a teardown', () => {
  const nodes = (setup: Partial<NodeManifest> = {}) => [
    node(0, setup),
    node(1, { upstream: [0] }),
    node(2, { upstream: [0, 1], rule: 'all_done', teardownOf: 0 }),
  ]

  it('runs when the set-up succeeded and the work has ended, however', () => {
    const { play, states } = playedRun(nodes())
    expect(play(ok(), 0).ready.map((range) => range.node)).toEqual([1])
    expect(play(failed(), 1).ready.map((range) => range.node)).toEqual([2])
    expect(play(ok(), 2).end).toMatchObject({ state: 'failed', error: 'failed: 1' })
    expect(states()).toEqual(['success', 'failed', 'success'])
  })

  it('that fails does not change how the run ends', () => {
    const { play } = playedRun(nodes())
    play(ok(), 0)
    play(ok(), 1)
    expect(play(failed(), 2).end?.state).toBe('success')
  })

  it('does not run when there is nothing to undo', () => {
    const { play } = playedRun(nodes())
    expect(moves(play(failed(), 0))).toEqual(['0 running>failed', '1 none>upstream_failed', '2 none>upstream_failed'])
  })

  it('is skipped with its set-up', () => {
    const { begun } = playedRun(
      [
        branch(['a', 'b']),
        ...nodes().map(({ upstream, teardownOf, ...one }, index) => ({
          ...one,
          id: String(index + 1),
          upstream: [0, ...upstream.map((up) => up + 1)],
          arms: [{ branch: 0, arm: 'b' }],
          ...(teardownOf === undefined ? {} : { teardownOf: 1 }),
        })),
      ],
      { choice: 'a' },
    )
    expect(moves(begun)).toEqual(['0 none>success', '1 none>skipped', '2 none>skipped', '3 none>skipped'])
  })
})

describe('a wait', () => {
  const wait = (args: NodeManifest['args'], more: Partial<NodeManifest> = {}) =>
    node(0, { kind: 'wait', action: 'wait', args, ...more })

  it('is deferred, without a runner, until its time', () => {
    const { begun, due, start } = playedRun([wait({ forMs: 500 })])
    expect(begun.transitions).toMatchObject([{ from: 'none', to: 'deferred', attempt: 1, token: 0, retryAt: 1_500 }])
    expect(begun.due).toEqual([{ node: 0, mapIndex: -1, attempt: 1, at: 1_500 }])
    expect(begun.ready).toEqual([])
    expect(start(0)).toBeUndefined()
    expect(due(0, 1_500)).toMatchObject({
      transitions: [{ from: 'deferred', to: 'success', attempt: 1, result: '{"at":"1970-01-01T00:00:01.500Z"}' }],
      end: { state: 'success' },
    })
  })

  it.each([[1_000], [0], [-5], ['1970-01-01T00:00:01Z'], ['1970-01-01T01:00:01+01:00']])(
    'for %j, which has passed, is no wait',
    (until) => {
      expect(moves(playedRun([wait({ until })]).begun)).toEqual(['0 none>success'])
    },
  )

  it.each([['soon'], [null], ['1970-01-01'], [Number.POSITIVE_INFINITY], [1e300], [true], [['x']]])(
    'fails for %j, which is no time',
    (until) => {
      const { begun } = playedRun([wait({ until } as NodeManifest['args'])])
      expect(begun.transitions).toMatchObject([
        { to: 'failed', error: expect.stringMatching(/^INPUT_MISMATCH: .+ is no time; RFC 3339 or milliseconds/) },
      ])
    },
  )

  it('fails for what is not there, and says so', () => {
    const { begun } = playedRun([wait({ until: param('nothing') })])
    expect(begun.transitions).toMatchObject([{ to: 'failed', error: expect.stringContaining('null is no time') }])
  })

  it('until a time that is no whole millisecond is never early', () => {
    expect(playedRun([wait({ until: 1_500.2 })]).begun.due).toMatchObject([{ at: 1_501 }])
  })
})

describe('an approval', () => {
  const ask = (more: Partial<NonNullable<NodeManifest['approval']>> = {}, shown: unknown = 'all') =>
    node(0, {
      kind: 'approval',
      action: 'approval',
      args: { title: 'go?', show: shown } as NodeManifest['args'],
      approval: { onDeadline: 'fail', onRefuse: 'skip', ...more },
    })

  it('is asked, and waits without end', () => {
    const { begun } = playedRun([ask()])
    expect(begun.due).toEqual([])
    expect(begun.transitions).toMatchObject([
      { to: 'deferred', attempt: 1, wait: '{"kind":"approval","shown":{"title":"go?","show":"all"},"deadline":null}' },
    ])
    expect(begun.transitions[0]).not.toHaveProperty('retryAt')
  })

  it('with a deadline says when that is', () => {
    const { begun } = playedRun([ask({ deadlineMs: 2_000 })])
    expect(begun.due).toEqual([{ node: 0, mapIndex: -1, attempt: 1, at: 3_000 }])
    expect(begun.transitions[0]!.wait).toContain('"deadline":"1970-01-01T00:00:03.000Z"')
  })

  it('that would show more than 64 KiB fails', () => {
    const { begun } = playedRun([ask({}, 'x'.repeat(65_536))])
    expect(begun.transitions).toMatchObject([{ to: 'failed', error: expect.stringContaining('over 65536 bytes') }])
  })
})
