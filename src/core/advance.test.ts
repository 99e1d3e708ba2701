import { describe, expect, it } from 'vitest'
import { node } from '../../test/run-plans.ts'
import { advance, startTask } from './advance.ts'
import { maxWidth } from './consider.ts'
import { compileGraph } from './graph.ts'
import type { NodeManifest } from './manifest.ts'
import {
  type AttemptError,
  argumentsOf,
  type Decision,
  newProgress,
  type Outcome,
  type RunProgress,
  resultOf,
} from './run-progress.ts'

const ok = (value: unknown = null): Outcome => ({ kind: 'success', result: JSON.stringify(value) })
const failed = (more: Partial<AttemptError> = {}): Outcome => ({
  kind: 'failure',
  error: { code: 'ACTION_FAILED', message: 'no luck', retryable: true, ...more },
})
const lost: Outcome = { kind: 'lost', reason: 'the runner ended' }
const ref = (index: number, ...path: string[]) => ({ $ref: { from: 'node', node: index, path } })
const param = (...path: string[]) => ({ $ref: { from: 'param', path } })
const item = (...path: string[]) => ({ $ref: { from: 'item', path } })
const retry = (attempts: number) => ({ attempts, baseMs: 100, maxMs: 100 })

/** A run that has begun, with short ways to move it. Tokens are 1, 2, 3 in the order of starts; it is 1,000 ms past. */
function run(nodes: NodeManifest[], params: unknown = {}) {
  const progress = newProgress(compileGraph({ nodes }), JSON.stringify(params))
  const begun = advance(progress, { kind: 'begin' }, 1_000, () => 0.5)
  let token = 0
  const live = new Map<string, number>()
  const start = (at: number, mapIndex = -1) => {
    token += 1
    const transition = startTask(progress, at, mapIndex, token)
    if (transition) live.set(`${at} ${mapIndex}`, token)
    return transition
  }
  const end = (outcome: Outcome, at: number, mapIndex = -1): Decision =>
    advance(
      progress,
      { kind: 'ended', node: at, mapIndex, token: live.get(`${at} ${mapIndex}`) ?? 0, outcome },
      1_000,
      () => 0.5,
    )
  return {
    progress,
    begun,
    start,
    end,
    play: (outcome: Outcome, at: number, mapIndex = -1) => {
      start(at, mapIndex)
      return end(outcome, at, mapIndex)
    },
    cancel: () => advance(progress, { kind: 'cancel' }, 1_000, () => 0.5),
    states: () => progress.nodes.map(({ state }) => state),
  }
}

const chain = (length: number) =>
  Array.from({ length }, (_, index) => node(index, { upstream: index === 0 ? [] : [index - 1] }))

describe('an attempt', () => {
  it('starts once, ends with its token, and never again', () => {
    const { progress, start, end } = run(chain(2))
    expect(start(0)).toEqual({
      node: 0,
      mapIndex: -1,
      attempt: 1,
      from: 'none',
      to: 'running',
      token: 1,
      losses: 0,
    })
    expect(start(0)).toBeUndefined()
    expect(start(1)).toBeUndefined()
    const stranger = { kind: 'ended', node: 0, mapIndex: -1, token: 9, outcome: ok() } as const
    for (const wrong of [stranger, { ...stranger, node: 7 }, { ...stranger, mapIndex: 0 }, { ...stranger, token: 0 }]) {
      expect(advance(progress, wrong, 0, () => 0)).toEqual(nothing)
    }
    expect(end({ kind: 'success', result: '{"big":1}', stored: '{"sha256":"x"}' }, 0)).toMatchObject({
      transitions: [{ to: 'success', token: 1, attempt: 1, result: '{"sha256":"x"}' }],
      ready: [{ node: 1, first: -1, last: -1 }],
    })
    expect(resultOf(progress, 0)).toBe('{"big":1}')
    expect(end(failed(), 0)).toEqual(nothing)
    expect(start(0)).toBeUndefined()
  })

  it('is tried again as the policy says', () => {
    const { start, end, play } = run([node(0, { retry: retry(3) })])
    const first = play(failed(), 0)
    expect(first.transitions).toMatchObject([
      { from: 'running', to: 'up_for_retry', token: 1, error: 'ACTION_FAILED: no luck', retryAt: 1_050, losses: 0 },
    ])
    expect(first.retries).toEqual([{ node: 0, mapIndex: -1, at: 1_050 }])
    expect(end(ok(), 0)).toEqual(nothing)
    expect(start(0)).toMatchObject({ from: 'up_for_retry', to: 'running', attempt: 2, token: 2 })
    end(failed(), 0)
    const last = play(failed(), 0)
    expect(last.transitions).toMatchObject([{ to: 'failed', attempt: 3 }])
    expect(last.retries).toEqual([])
    expect(last.end).toEqual({ state: 'failed', error: 'failed: 0' })
  })

  it('is not tried again when its error says that this cannot help', () => {
    const { play } = run([node(0, { retry: retry(3) })])
    expect(play(failed({ retryable: false, code: 'INPUT_MISMATCH' }), 0).transitions).toMatchObject([
      { to: 'failed', attempt: 1, error: 'INPUT_MISMATCH: no luck' },
    ])
  })

  it('waits at least as long as the other side asked', () => {
    const { play } = run([node(0, { retry: retry(3) })])
    expect(play(failed({ retryAfterMs: 30_000 }), 0).retries).toEqual([{ node: 0, mapIndex: -1, at: 31_050 }])
  })

  it('does not spend its attempts on lost runners', () => {
    const { play } = run([node(0, { retry: retry(2) })])
    for (let loss = 1; loss <= 3; loss += 1) {
      expect(play(lost, 0).transitions).toMatchObject([
        { to: 'up_for_retry', attempt: loss, losses: loss, error: 'RUNNER_LOST: the runner ended' },
      ])
    }
    expect(play(failed(), 0).transitions).toMatchObject([{ to: 'up_for_retry', attempt: 4, losses: 3 }])
    expect(play(failed(), 0).transitions).toMatchObject([{ to: 'failed', attempt: 5, losses: 3 }])
  })

  it('ends its task with the tenth lost runner', () => {
    const { play } = run([node(0)])
    for (let loss = 1; loss < 10; loss += 1) expect(play(lost, 0).end).toBeUndefined()
    const last = play(lost, 0)
    expect(last.transitions).toMatchObject([{ to: 'failed', attempt: 10, losses: 10 }])
    expect(last.end?.state).toBe('failed')
  })

  it('that was cancelled alone ends its task so, which counts as failed for those behind', () => {
    const { play, states } = run(chain(2))
    const decision = play({ kind: 'cancelled' }, 0)
    expect(decision.transitions).toMatchObject([
      { node: 0, to: 'cancelled', error: 'CANCELLED: it was cancelled' },
      { node: 1, to: 'upstream_failed', attempt: 0, token: 0 },
    ])
    expect(states()).toEqual(['cancelled', 'upstream_failed'])
    expect(decision.end).toEqual({ state: 'failed', error: 'cancelled: 0' })
  })
})

const nothing: Decision = {
  ...{ transitions: [], ready: [], expanded: [], retries: [], due: [], kill: [], stop: [] },
  end: undefined,
}

describe('a cancel', () => {
  it('before the run begins ends all of it', () => {
    const progress = newProgress(compileGraph({ nodes: chain(2) }), '{}')
    const decision = advance(progress, { kind: 'cancel' }, 0, () => 0)
    expect(decision.transitions).toMatchObject([
      { node: 0, from: 'none', to: 'cancelled', attempt: 0 },
      { node: 1, from: 'none', to: 'cancelled', attempt: 0 },
    ])
    expect(decision.end).toEqual({ state: 'cancelled', error: undefined })
    expect(advance(progress, { kind: 'begin' }, 0, () => 0)).toEqual(nothing)
  })

  it('stops what is live and waits for its end; what was ready does not start', () => {
    const { progress, start, end, cancel } = run([node(0), node(1), node(2, { upstream: [0, 1], rule: 'all_done' })])
    start(0)
    const decision = cancel()
    expect(decision.kill).toEqual([{ node: 0, mapIndex: -1, token: 1 }])
    expect(decision.transitions).toMatchObject([
      { node: 1, to: 'cancelled' },
      { node: 2, to: 'cancelled' },
    ])
    expect(decision.end).toBeUndefined()
    expect(start(1)).toBeUndefined()
    expect(cancel()).toEqual(nothing)
    expect(end({ kind: 'cancelled' }, 0).end).toEqual({ state: 'cancelled', error: undefined })
    expect(progress.openNodes).toBe(0)
  })

  it.each([
    ['success', ok()],
    ['cancelled', failed()],
    ['cancelled', lost],
    ['cancelled', { kind: 'cancelled' } as const],
  ])('leaves a live attempt to end as %s', (state, outcome) => {
    const { start, end, cancel, states } = run([node(0, { retry: retry(5) })])
    start(0)
    cancel()
    const decision = end(outcome, 0)
    expect(decision.transitions).toMatchObject([{ to: state }])
    expect(decision.retries).toEqual([])
    expect(states()).toEqual([state])
    expect(decision.end?.state).toBe('cancelled')
  })

  it('ends what waits for its next attempt', () => {
    const { start, play, cancel } = run([node(0, { retry: retry(2) })])
    play(failed(), 0)
    const decision = cancel()
    expect(decision.transitions).toMatchObject([{ from: 'up_for_retry', to: 'cancelled', attempt: 1, token: 0 }])
    expect(decision.kill).toEqual([])
    expect(decision.end?.state).toBe('cancelled')
    expect(start(0)).toBeUndefined()
  })

  it.each([
    ['cancelled', ok(), undefined],
    ['cancelled', ok(), ok()],
    ['failed', failed(), undefined],
    ['failed', failed(), ok()],
  ])('half-way through a map ends the node as %s', (state, first, second) => {
    const { start, play, end, cancel, states } = run([node(0, { over: [1, 2, 3], args: {} })])
    play(first, 0, 0)
    if (second) start(0, 1)
    expect(cancel().transitions).toEqual([])
    if (second) end(second, 0, 1)
    expect(states()).toEqual([state])
  })

  it('starts no other task of a map of which some are live', () => {
    const { start, end, cancel, states } = run([node(0, { over: [1, 2, 3] })])
    start(0, 0)
    cancel()
    expect(start(0, 1)).toBeUndefined()
    expect(end({ kind: 'cancelled' }, 0, 0).end?.state).toBe('cancelled')
    expect(states()).toEqual(['cancelled'])
  })

  it('after the last task of a map has started leaves it to end well', () => {
    const { start, play, end, cancel, states } = run([node(0, { over: [1, 2] })])
    play(ok(), 0, 0)
    start(0, 1)
    cancel()
    end(ok(), 0, 1)
    expect(states()).toEqual(['success'])
  })
})

describe('a mapped node', () => {
  it('has a task per item of its list, each with its item, and gives the results in order', () => {
    const args = { row: item('id'), whole: item(), all: param('factor') }
    const { begun, progress, play } = run([node(0, { over: param('rows'), args }), node(1, { upstream: [0] })], {
      rows: [{ id: 7 }, { id: 8 }, {}],
      factor: 2,
    })
    expect(begun.expanded).toEqual([{ node: 0, width: 3 }])
    expect(begun.ready).toEqual([{ node: 0, first: 0, last: 2 }])
    expect(argumentsOf(progress, 0, 1)).toBe('{"row":8,"whole":{"id":8},"all":2}')
    expect(argumentsOf(progress, 0, 2)).toBe('{"whole":{},"all":2}')
    play(ok('c'), 0, 2)
    play(ok('a'), 0, 0)
    expect(resultOf(progress, 0)).toBe('["a",null,"c"]')
    expect(play(ok('b'), 0, 1).ready).toEqual([{ node: 1, first: -1, last: -1 }])
    expect(resultOf(progress, 0)).toBe('["a","b","c"]')
  })

  it('succeeds at once over an empty list', () => {
    const { begun, progress, states } = run([node(0, { over: param('rows') }), node(1, { upstream: [0] })], {
      rows: [],
    })
    expect(begun.expanded).toEqual([{ node: 0, width: 0 }])
    expect(begun.ready).toEqual([{ node: 1, first: -1, last: -1 }])
    expect(states()).toEqual(['success', 'scheduled'])
    expect(resultOf(progress, 0)).toBe('[]')
  })

  it.each([[{ rows: { length: 2 } }], [{ rows: null }], [{}]])('cannot map over what is no list: %j', (params) => {
    const { begun } = run([node(0, { over: param('rows') })], params)
    expect(begun.transitions).toMatchObject([
      {
        to: 'upstream_failed',
        error: 'what it maps over is no list; a list of at most 1000000 items is needed',
      },
    ])
    expect(begun.end?.state).toBe('failed')
  })

  it('cannot have more tasks than the limit', () => {
    const over = (length: number) => run([node(0, { over: param('rows') })], { rows: Array(length).fill(0) }).begun
    expect(over(maxWidth).expanded).toEqual([{ node: 0, width: maxWidth }])
    expect(over(maxWidth + 1).transitions).toMatchObject([
      { error: 'its list has 1000001 items; a list of at most 1000000 items is needed' },
    ])
  })

  it('does not start a task again that has ended, however', () => {
    const { start, play } = run([node(0, { over: [1, 2, 3] })])
    play(ok(), 0, 0)
    play(failed(), 0, 1)
    expect([start(0, 0), start(0, 1)]).toEqual([undefined, undefined])
    expect(start(0, 2)).toMatchObject({ attempt: 1 })
  })

  it('of 100,000 tasks over a list of another node ends when the last has ended', () => {
    const width = 100_000
    const { progress, play, start, end } = run([node(0), node(1, { upstream: [0], over: ref(0), args: { n: item() } })])
    const { ready } = play(ok(Array.from({ length: width }, (_, index) => index)), 0)
    expect(ready).toEqual([{ node: 1, first: 0, last: width - 1 }])
    for (let index = 0; index < width; index += 1) start(1, index)
    expect(argumentsOf(progress, 1, 99_999)).toBe('{"n":99999}')
    for (let index = width - 1; index > 0; index -= 1) end(ok(index), 1, index)
    expect(progress.state).toBe('running')
    expect(end(ok(0), 1, 0).end).toEqual({ state: 'success', error: undefined })
    expect(JSON.parse(resultOf(progress, 1))).toHaveLength(width)
  })

  it('resolves a list that is written in the workflow once, not once per task', () => {
    let reads = 0
    const over = Array.from({ length: 500 }, (_, index) => ({
      get n() {
        reads += 1
        return index
      },
    }))
    const { progress } = run([node(0, { over, args: item('n') })])
    expect(Array.from({ length: 500 }, (_, index) => argumentsOf(progress, 0, index))).toEqual(
      Array.from({ length: 500 }, (_, index) => String(index)),
    )
    expect(reads).toBe(500)
  })
})

describe('arguments', () => {
  it('see null for a node without a result, and the final result once there is one', () => {
    const { progress, play } = run([
      node(0),
      node(1, { upstream: [0], rule: 'always', args: { given: ref(0, 'x'), whole: ref(0) } }),
      node(2, { upstream: [0], args: { given: ref(0, 'x') } }),
    ])
    expect(argumentsOf(progress, 1, -1)).toBe('{"whole":null}')
    play(ok({ x: 5 }), 0)
    expect(argumentsOf(progress, 2, -1)).toBe('{"given":5}')
    expect(argumentsOf(progress, 1, -1)).toBe('{"given":5,"whole":{"x":5}}')
  })

  it('are null when all of them come from a place where nothing is', () => {
    expect(argumentsOf(run([node(0, { args: param('nothing') })]).progress, 0, -1)).toBe('null')
  })

  it('have no item where nothing is mapped', () => {
    expect(argumentsOf(run([node(0, { args: { x: item(), y: [item()] } })]).progress, 0, -1)).toBe('{"y":[null]}')
  })

  it('are an empty list for a map that never had one', () => {
    const { progress, play } = run([
      node(0),
      node(1, { upstream: [0], over: ref(0) }),
      node(2, { upstream: [1], rule: 'all_done', args: { list: ref(1) } }),
    ])
    play(failed(), 0)
    expect(argumentsOf(progress, 2, -1)).toBe('{"list":[]}')
  })
})

describe('the end of a run', () => {
  it('is judged by the leaves alone', () => {
    const { play, states } = run([node(0), node(1, { upstream: [0], rule: 'all_failed' })])
    play(failed(), 0)
    expect(play(ok(), 1).end).toEqual({ state: 'success', error: undefined })
    expect(states()).toEqual(['failed', 'success'])
  })

  it('is good when a leaf was skipped', () => {
    const { play } = run([node(0), node(1, { upstream: [0], rule: 'all_failed' })])
    expect(play(ok(), 0)).toMatchObject({
      transitions: [{ node: 0 }, { node: 1, to: 'skipped', attempt: 0 }],
      end: { state: 'success' },
    })
  })

  it('names the tasks that failed, up to five', () => {
    const nodes = Array.from({ length: 7 }, (_, index) => node(`task-${index}`))
    const { play } = run(nodes.slice(0, 5))
    const [, , , , five] = [0, 1, 2, 3, 4].map((index) => play(failed(), index))
    expect(five!.end?.error).toBe('failed: task-0, task-1, task-2, task-3, task-4')
    const more = run(nodes)
    const ends = nodes.map((_, index) => more.play(failed(), index).end)
    expect(ends.at(-1)?.error).toBe('failed: task-0, task-1, task-2, task-3, task-4 and 2 more')
  })

  it('comes at once for a graph without nodes, and an ended run takes no event', () => {
    const { progress, begun, cancel } = run([])
    expect(begun.end).toEqual({ state: 'success', error: undefined })
    expect(cancel()).toEqual(nothing)
    expect(progress.state).toBe('success')
  })
})

describe('a node', () => {
  it('falls as soon as its rule can no longer hold', () => {
    const { play, states } = run([node(0), node(1), node(2, { upstream: [0, 1] })])
    expect(play(failed(), 0).transitions).toMatchObject([{ node: 0 }, { node: 2, to: 'upstream_failed' }])
    play(ok(), 1)
    expect(states()).toEqual(['failed', 'success', 'upstream_failed'])
  })

  it('starts as soon as no later end can forbid it', () => {
    const { play } = run([node(0), node(1), node(2, { upstream: [0, 1], rule: 'one_success' })])
    expect(play(ok(), 1).ready).toEqual([{ node: 2, first: -1, last: -1 }])
    expect(play(failed(), 0).ready).toEqual([])
  })
})

describe('large graphs', () => {
  it('let a chain of 20,000 fall in one event', () => {
    const { play, states } = run(chain(20_000))
    const decision = play(failed(), 0)
    expect(decision.transitions).toHaveLength(20_000)
    expect(decision.end).toEqual({ state: 'failed', error: 'failed: 0' })
    expect(new Set(states().slice(1))).toEqual(new Set(['upstream_failed']))
  })

  it('let two stages of 10,000 fall in one event, looking at each gate once', () => {
    const stage = (index: number) => (index === 0 ? 0 : index < 10_000 ? 1 : 2)
    const { play } = run(Array.from({ length: 20_000 }, (_, index) => node(index, { stage: stage(index) })))
    expect(play(failed(), 0).transitions).toHaveLength(20_000)
  })

  it('release 100 stages of 100 each when the one before is done', () => {
    const nodes = Array.from({ length: 10_000 }, (_, index) => node(index, { stage: Math.floor(index / 100) }))
    const { begun, play, progress } = run(nodes)
    let { ready } = begun
    for (let stage = 0; stage < 100; stage += 1) {
      expect(ready.map((range) => range.node)).toEqual(Array.from({ length: 100 }, (_, index) => stage * 100 + index))
      const decisions = ready.map((range) => play(ok(), range.node))
      expect(decisions.slice(0, -1).every((decision) => decision.ready.length === 0)).toBe(true)
      ready = decisions.at(-1)!.ready
    }
    expect(progress.state).toBe('success')
  })

  it('look at nothing behind a stage before its last good end', () => {
    const { progress, play } = run([...Array(3).keys()].map((index) => node(index, { stage: index < 2 ? 0 : 1 })))
    play(ok(), 0)
    expect(watched(progress)).toEqual({ ended: 1, success: 1 })
    expect(play(ok(), 1).ready).toEqual([{ node: 2, first: -1, last: -1 }])
  })
})

function watched({ gates }: RunProgress) {
  const { ended, success } = gates[0]!
  return { ended, success }
}
