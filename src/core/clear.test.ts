import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { testNode } from '../../test/test-api.ts'
import type { SluiceError } from '../errors.ts'
import type { TriggerRule } from '../sdk/graph-builder.ts'
import { advance, startTask } from './advance.ts'
import { type ClearPlan, type ClearWish, chosenTasks, type NodeFacts, planClear } from './clear.ts'
import { compileGraph, type Graph } from './graph.ts'
import { newRunId, taskIdOf } from './ids.ts'
import type { NodeManifest } from './manifest.ts'
import type { Decision, Transition } from './run-progress.ts'
import { restoreProgress, type TaskRow } from './run-restore.ts'
import { isTerminal, mayBecome, type TaskState } from './task-state.ts'

type End = 'success' | 'failed' | 'skipped'
type Row = { -readonly [K in keyof TaskRow]: TaskRow[K] }
const keyOf = (node: number, mapIndex: number) => `${node} ${mapIndex}`

/** A run whose tasks end as they are told, one after another; its rows change as the store's do. */
class Play {
  readonly graph: Graph
  readonly rows = new Map<string, Row>()
  readonly widths = new Map<number, number>()
  state = 'queued'
  private tokens = 0

  constructor(graph: Graph) {
    this.graph = graph
  }

  /** @param most how many tasks may run before the owner is lost. */
  go(endOf: (node: number, mapIndex: number) => { end: End; list: number }, most = Number.POSITIVE_INFINITY): void {
    const widths = [...this.widths].map(([node, width]) => ({ node, width }))
    const { progress, ready } = restoreProgress(this.graph, '{}', [...this.rows.values()], widths)
    const queue = [...ready]
    const take = (decision: Decision) => {
      for (const transition of decision.transitions) this.apply(transition)
      for (const { node, width } of decision.expanded) this.widths.set(node, width)
      queue.push(...decision.ready)
      if (decision.end) this.state = decision.end.state
    }
    this.state = 'running'
    take(advance(progress, { kind: 'begin' }, 0, () => 0))
    let count = 0
    for (const range of queue) {
      for (let mapIndex = range.first; mapIndex <= range.last; mapIndex += 1) {
        if (count >= most) return
        count += 1
        this.tokens += 1
        const started = startTask(progress, range.node, mapIndex, this.tokens)
        if (!started) throw new Error(`task ${keyOf(range.node, mapIndex)} is started twice`)
        this.apply(started)
        const { end, list } = endOf(range.node, mapIndex)
        const error = { code: 'ACTION_FAILED', message: 'no', retryable: false } as const
        const result = JSON.stringify(Array.from({ length: list }, (_, at) => at))
        const outcome =
          end === 'success'
            ? ({ kind: 'success', result } as const)
            : end === 'failed'
              ? ({ kind: 'failure', error } as const)
              : ({ kind: 'skipped', reason: 'so' } as const)
        const ended = { kind: 'ended', node: range.node, mapIndex, token: started.token, outcome } as const
        take(advance(progress, ended, 0, () => 0))
      }
    }
  }

  private apply({ node, mapIndex, attempt, from, to, token, result }: Transition): void {
    const key = keyOf(node, mapIndex)
    const row = this.rows.get(key)
    if ((row?.state ?? 'none') !== from || !mayBecome(from, to))
      throw new Error(`${key}: ${row?.state}, ${from} -> ${to}`)
    if (attempt !== (row?.attempt ?? 0) + (to === 'running' ? 1 : 0)) throw new Error(`${key}: attempt ${attempt}`)
    const { base = 0 } = row ?? {}
    const rest = { losses: 0, waits: 0, base, retryAt: null, firstStartedAt: null }
    const live = to === 'running' ? token : null
    this.rows.set(key, { node, mapIndex, state: to, attempt, token: live, result: result ?? null, ...rest })
  }

  facts(): Map<number, NodeFacts> {
    const nodes = new Set([...[...this.rows.values()].map(({ node }) => node), ...this.widths.keys()])
    return new Map(
      [...nodes].map((node) => {
        const own = [...this.rows.values()].filter((row) => row.node === node)
        const counts: Partial<Record<TaskState, number>> = {}
        for (const { state } of own) counts[state] = (counts[state] ?? 0) + 1
        const whole = own.some(({ mapIndex, state }) => mapIndex === -1 && state !== 'none')
        const begun = own.some(({ state, attempt }) => state !== 'none' && (attempt > 0 || state === 'success'))
        return [node, { counts, whole, begun, width: this.widths.get(node) }]
      }),
    )
  }

  /** As `store/clear` does. Gives the keys of what it cleared. */
  clear({ whole, failed, some }: ClearPlan): Set<string> {
    const bad: readonly TaskState[] = ['failed', 'upstream_failed', 'cancelled']
    const cleared = new Set<string>()
    for (const [key, row] of this.rows) {
      const { node, mapIndex, state, attempt } = row
      const chosen =
        whole.includes(node) ||
        (failed.includes(node) && bad.includes(state)) ||
        some.some((one) => one.node === node && one.mapIndex === mapIndex)
      if (!chosen || !isTerminal(state)) continue
      if (!mayBecome(state, 'none', 'clear')) throw new Error(`${state} cannot be cleared`)
      cleared.add(key)
      if (attempt === 0) this.rows.delete(key)
      else this.rows.set(key, { ...row, state: 'none', base: attempt, result: null })
    }
    for (const node of whole) this.widths.delete(node)
    return cleared
  }

  /** How everything ended; what is not there any more apart. */
  ends(): string[] {
    return [...this.rows.values()]
      .filter(({ state }) => state !== 'removed')
      .map(({ node, mapIndex, state }) => `${keyOf(node, mapIndex)} ${state}`)
      .sort()
  }
}

const patient: TriggerRule[] = ['all_success', 'all_done', 'none_failed']
/** Under `all_success` the order of a skip and a failure decides; so either nothing is skipped, or no task has that rule. */
const anyRule: TriggerRule[] = [
  ...(['all_done', 'all_failed', 'one_success', 'one_failed', 'one_done', 'none_failed'] as const),
  ...(['none_failed_min_one_success', 'none_skipped', 'always'] as const),
]

interface Drawn {
  readonly up: readonly number[]
  readonly rule: number
  readonly maps: boolean
}
const drawnNode = fc.record({ up: fc.array(fc.nat(7), { maxLength: 3 }), rule: fc.nat(20), maps: fc.boolean() })
const drawnEnd = fc.record({ end: fc.nat(9), list: fc.nat(4) })

function graphOf(drawn: readonly Drawn[], skips: boolean): Graph {
  const nodes = drawn.map(({ up, rule, maps }, index): NodeManifest => {
    const upstream = [...new Set(up.filter((other) => other < index))].sort()
    const mapped = maps && upstream.length > 0
    const rules = skips ? (mapped ? (['all_done', 'none_failed'] as const) : anyRule) : patient
    const node = testNode(
      `n${index}`,
      upstream,
      mapped ? { $ref: { from: 'node', node: upstream[0]!, path: [] } } : undefined,
    )
    return { ...node, rule: rules[rule % rules.length]! }
  })
  return compileGraph({ nodes })
}

const endsOf = (ends: readonly { end: number; list: number }[], skips: boolean) => (node: number, mapIndex: number) => {
  const { end, list } = ends[(node * 7 + mapIndex + 1) % ends.length]!
  return { end: end < 3 ? ('failed' as const) : skips && end === 3 ? ('skipped' as const) : ('success' as const), list }
}

function wishOf(play: Play, numbers: readonly number[], failed: boolean): ClearWish {
  const tasks = numbers.map((number) => {
    const node = number % play.graph.nodes.length
    const width = play.widths.get(node) ?? 0
    const some = number > 50 && width > 0 && !play.rows.has(keyOf(node, -1))
    return { node, mapIndex: some ? number % width : undefined }
  })
  return { tasks, failed: failed || tasks.length === 0 }
}

/** Node by node, in terms of the lists of what is upstream alone. */
function allBehind(graph: Graph, nodes: Iterable<number>): Set<number> {
  const found = new Set<number>()
  const start = new Set(nodes)
  for (const [index, { upstream }] of graph.nodes.entries()) {
    if (upstream.some((up) => start.has(up) || found.has(up))) found.add(index)
  }
  return found
}

describe('what is cleared', () => {
  const cases = fc.record({
    nodes: fc.array(drawnNode, { minLength: 1, maxLength: 8 }),
    skips: fc.boolean(),
    first: fc.array(drawnEnd, { minLength: 5, maxLength: 12 }),
    second: fc.array(drawnEnd, { minLength: 5, maxLength: 12 }),
    most: fc.option(fc.nat(8), { nil: Number.POSITIVE_INFINITY }),
    chosen: fc.array(fc.nat(100), { maxLength: 3 }),
    failed: fc.boolean(),
  })

  it('is closed downstream, and has nothing that is not behind what was chosen or went wrong', () => {
    fc.assert(
      fc.property(cases, ({ nodes, skips, first, most, chosen, failed }) => {
        const play = new Play(graphOf(nodes, skips))
        play.go(endsOf(first, skips), most)
        const wish = wishOf(play, chosen, failed)
        const plan = planClear(play.graph, play.facts(), wish, play.state !== 'running')
        const touched = new Set([...plan.whole, ...plan.failed, ...plan.some.map(({ node }) => node)])
        for (const behind of allBehind(play.graph, touched)) expect(plan.whole).toContain(behind)
        const begins = new Set([...wish.tasks.map(({ node }) => node), ...plan.failed])
        if (wish.failed) for (const { node, state } of play.rows.values()) if (/fail|canc/.test(state)) begins.add(node)
        const reached = allBehind(play.graph, begins)
        for (const node of touched) expect(begins.has(node) || reached.has(node)).toBe(true)
        const bad = (node: number) =>
          wish.failed && [...play.rows.values()].some((row) => row.node === node && /fail/.test(row.state))
        for (const one of wish.tasks) {
          const others = wish.tasks.some(({ node, mapIndex }) => node === one.node && mapIndex === undefined)
          if (one.mapIndex === undefined || others || reached.has(one.node)) continue
          expect(plan.some).toContainEqual(one)
          expect([plan.whole.includes(one.node), plan.failed.includes(one.node)]).toEqual([false, bad(one.node)])
        }
      }),
      { numRuns: 300 },
    )
  })

  it('and run again ends as a fresh run with the same outcomes', () => {
    fc.assert(
      fc.property(cases, ({ nodes, skips, first, second, most, chosen, failed }) => {
        const graph = graphOf(nodes, skips)
        const play = new Play(graph)
        play.go(endsOf(first, skips), most)
        const ended = play.state !== 'running'
        const wish = wishOf(play, chosen, failed)
        play.clear(planClear(graph, play.facts(), wish, ended))
        const kept = new Set([...play.rows].flatMap(([key, { state }]) => (isTerminal(state) ? [key] : [])))
        const kinds = [endsOf(first, skips), endsOf(second, skips)] as const
        const both = (node: number, mapIndex: number) => kinds[kept.has(keyOf(node, mapIndex)) ? 0 : 1](node, mapIndex)
        play.go(both)
        const fresh = new Play(graph)
        fresh.go(both)
        expect([play.state, play.ends()]).toEqual([fresh.state, fresh.ends()])
        for (const { attempt, base } of play.rows.values()) expect(attempt).toBeGreaterThanOrEqual(base)
      }),
      { numRuns: 500 },
    )
  })
})

describe('a set-up', () => {
  // setup -> one -> two, setup -> three, all -> teardown -> nothing; apart: before -> setup
  const nodes = [
    testNode('before'),
    testNode('setup', [0]),
    testNode('one', [1]),
    testNode('two', [2]),
    testNode('three', [1]),
    { ...testNode('teardown', [1, 3, 4]), teardownOf: 1, rule: 'all_done' as const },
    testNode('behind', [3]),
  ]
  const graph = compileGraph({ nodes })
  const facts = (teardown: boolean) =>
    new Map<number, NodeFacts>(
      nodes.map((_, node) => {
        const begun = node !== 5 || teardown
        return [node, { counts: { [begun ? 'success' : 'upstream_failed']: 1 }, whole: true, width: undefined, begun }]
      }),
    )
  const clear = (name: string, torn = true) => {
    const tasks = [{ node: nodes.findIndex(({ id }) => id === name), mapIndex: undefined }]
    return planClear(graph, facts(torn), { tasks, failed: false }, true).whole.map((node) => nodes[node]!.id)
  }

  it('that was torn down is cleared with any of its work, and with it all of it', () => {
    expect(clear('two')).toEqual(['setup', 'one', 'two', 'three', 'teardown', 'behind'])
    expect(clear('three')).toEqual(['setup', 'one', 'two', 'three', 'teardown', 'behind'])
  })

  it('that still stands is not', () => {
    expect(clear('two', false)).toEqual(['two', 'teardown', 'behind'])
  })

  it('is not cleared with its teardown alone, nor with what is behind its work', () => {
    expect(clear('teardown')).toEqual(['teardown'])
    expect(clear('behind')).toEqual(['behind'])
  })
})

describe('a mapped node', () => {
  const graph = compileGraph({ nodes: [testNode('item', [], []), testNode('sum', [0])] })
  const facts = new Map<number, NodeFacts>([
    [0, { counts: { success: 2 }, whole: false, width: 5, begun: true }],
    [1, { counts: { cancelled: 1 }, whole: true, width: undefined, begun: false }],
  ])
  const failed = { tasks: [], failed: true }

  it('of which some tasks never started in a run that has ended goes on with these', () => {
    expect(planClear(graph, facts, failed, true)).toEqual({ whole: [1], failed: [0], some: [] })
  })

  it('whose tasks are still to come in a run that runs has not failed', () => {
    expect(planClear(graph, new Map([[0, facts.get(0)!]]), failed, false)).toEqual({ whole: [], failed: [], some: [] })
  })
})

describe('the arms of a branch', () => {
  it('are cleared with it, wherever they stand', () => {
    const inArm = { ...testNode('inside'), arms: [{ branch: 0, arm: 'yes' }] }
    const graph = compileGraph({ nodes: [testNode('branch'), inArm, testNode('apart')] })
    const plan = planClear(graph, new Map(), { tasks: [{ node: 0, mapIndex: undefined }], failed: false }, true)
    expect(plan.whole).toEqual([0, 1])
  })
})

it('stages are cleared from a task of one on: 100 stages of 100', () => {
  const nodes = Array.from({ length: 10_000 }, (_, at) => ({ ...testNode(`t${at}`), stage: Math.floor(at / 100) }))
  const graph = compileGraph({ nodes })
  const plan = planClear(graph, new Map(), { tasks: [{ node: 5_050, mapIndex: undefined }], failed: false }, true)
  expect(plan.whole).toEqual([5_050, ...Array.from({ length: 4_900 }, (_, at) => 5_100 + at)])
})

describe('a task', () => {
  const nodes = [
    testNode('load'),
    testNode('load-more', [0], []),
    { ...testNode('g.one'), group: 'g' },
    { ...testNode('g.h.two'), group: 'g.h' },
  ]
  const facts = new Map<number, NodeFacts>([[1, { counts: {}, whole: false, width: 3, begun: true }]])
  const run = newRunId(1_770_000_000_000, () => 0.3)
  const read = (...texts: string[]) => chosenTasks(nodes, facts, run, texts)

  it('is named by its name, its index, its id, or its group', () => {
    expect(read('load', 'load-more[2]')).toEqual([
      { node: 0, mapIndex: undefined },
      { node: 1, mapIndex: 2 },
    ])
    expect(read(taskIdOf(run, 1, 0).toUpperCase(), taskIdOf(run, 0, -1))).toEqual([
      { node: 1, mapIndex: 0 },
      { node: 0, mapIndex: undefined },
    ])
    expect(read('g').map(({ node }) => node)).toEqual([2, 3])
    expect(read('g.h').map(({ node }) => node)).toEqual([3])
  })

  it('that is none is told with its place, and what was meant', () => {
    const faults = (...texts: string[]) => {
      try {
        return read(...texts)
      } catch (thrown) {
        return (thrown as SluiceError).faults.map(({ where, message }) => `${where} ${message}`)
      }
    }
    const other = newRunId(1_770_000_000_001, () => 0.4)
    expect(faults('load', 'laod', 'load[0]', 'load-more[3]', 'g.one[1]')).toEqual([
      '/body/tasks/1 is "laod", which is no task of the run; did you mean load?',
      '/body/tasks/2 is load[0]; load is not mapped and has no index',
      '/body/tasks/3 is load-more[3]; load-more has 3 tasks, counted from 0',
      '/body/tasks/4 is g.one[1]; g.one is not mapped and has no index',
    ])
    expect(
      faults(taskIdOf(other, 0, -1), run, taskIdOf(run, 9, -1), 'ffffffff-ffff-ffff-ffff-ffffffffffff', '.', ''),
    ).toHaveLength(6)
  })

  it('has no index when one row stands for its whole node, though the list is known: that row would outlive the clear', () => {
    const none = { counts: { cancelled: 1, removed: 3 }, whole: true, begun: true, width: 3 }
    const named = (text: string) => chosenTasks(nodes, new Map([[1, none]]), run, [text])
    expect(named('load-more')).toEqual([{ node: 1, mapIndex: undefined }])
    expect(() => named('load-more[0]')).toThrow('load-more has no tasks yet, name it without an index')
    expect(() => named(taskIdOf(run, 1, 0))).toThrow('load-more has no tasks yet, name it without an index')
  })
})
