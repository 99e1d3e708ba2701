import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { testNode } from '../../test/test-api.ts'
import type { NodeFacts } from './clear.ts'
import { compileGraph } from './graph.ts'
import type { NodeManifest } from './manifest.ts'
import { reusedNodes } from './reuse.ts'
import type { TaskState } from './task-state.ts'

const fact = (state: TaskState, attempt = 1): NodeFacts => ({
  ...{ counts: { [state]: 1 }, whole: true, width: undefined, begun: attempt > 0 },
})
const printed = (node: NodeManifest, fingerprint = node.id): NodeManifest => ({ ...node, fingerprint })

function names(
  old: readonly NodeManifest[],
  latest: readonly NodeManifest[],
  facts: Readonly<Record<string, NodeFacts>>,
  more: { sameParams?: boolean; again?: string[] } = {},
): string[] {
  const { sameParams = true, again = [] } = more
  const indexOf = (id: string) => old.findIndex((node) => node.id === id)
  const reused = reusedNodes({
    old: compileGraph({ nodes: old }),
    latest: compileGraph({ nodes: latest }),
    facts: new Map(Object.entries(facts).map(([id, found]) => [indexOf(id), found])),
    sameParams,
    again: new Set(again.map(indexOf)),
  })
  for (const { from, to } of reused) expect(old[from]!.id).toBe(latest[to]!.id)
  return reused.map(({ to }) => latest[to]!.id)
}

const chain = [printed(testNode('a')), printed(testNode('b', [0])), printed(testNode('c', [1])), printed(testNode('d'))]
const all = { a: fact('success'), b: fact('success'), c: fact('success'), d: fact('success') }

describe('a new run takes over', () => {
  it('what has not changed and succeeded, wherever it stands now', () => {
    expect(names(chain, chain, all)).toEqual(['a', 'b', 'c', 'd'])
    const moved = [chain[3]!, chain[0]!, { ...chain[1]!, upstream: [1] }, { ...chain[2]!, upstream: [2] }]
    expect(names(chain, moved, all)).toEqual(['d', 'a', 'b', 'c'])
    expect(names(chain, chain, { ...all, b: fact('failed') })).toEqual(['a', 'd'])
    expect(names(chain, chain, { a: fact('success') })).toEqual(['a'])
  })

  it('nothing behind what has changed, is new, was named, or has no fingerprint', () => {
    const changed = chain.map((node) => (node.id === 'b' ? printed(node, 'other') : node))
    expect(names(chain, changed, all)).toEqual(['a', 'd'])
    const { fingerprint, ...unknown } = chain[1]!
    expect(fingerprint).toBe('b')
    expect(names(chain, [chain[0]!, unknown, chain[2]!], all)).toEqual(['a'])
    expect(names([chain[0]!, unknown, chain[2]!], [chain[0]!, unknown, chain[2]!], all)).toEqual(['a'])
    expect(names(chain, [...chain.slice(0, 3), printed(testNode('e', [0]))], all)).toEqual(['a', 'b', 'c'])
    expect(names(chain, chain, all, { again: ['a'] })).toEqual(['d'])
  })

  it('nothing at all with other parameters', () => {
    expect(names(chain, chain, all, { sameParams: false })).toEqual([])
  })

  it('what stands behind a branch that is decided as it was', () => {
    const arm = (id: string) => printed({ ...testNode(id), arms: [{ branch: 0, arm: id }] })
    const join = printed({ ...testNode('join', [1, 2]), rule: 'none_failed_min_one_success' as const })
    const nodes = [printed({ ...testNode('branch'), kind: 'branch' as const }), arm('yes'), arm('no'), join]
    const facts = { branch: fact('success', 0), yes: fact('success'), no: fact('skipped', 0), join: fact('success') }
    expect(names(nodes, nodes, facts)).toEqual(['branch', 'yes', 'join'])
    // What skipped itself is asked again.
    expect(names(nodes, nodes, { ...facts, no: fact('skipped', 1) })).toEqual(['branch', 'yes'])
    const other = [printed(nodes[0]!, 'other'), ...nodes.slice(1)]
    expect(names(nodes, other, facts)).toEqual([])
  })

  it('the good ones of a mapped node, but nothing behind it unless all are good', () => {
    const nodes = [printed(testNode('list')), printed(testNode('item', [0], [])), printed(testNode('sum', [1]))]
    const item = (success: number, failed: number): NodeFacts => ({
      ...{ counts: { success, failed }, whole: false, width: success + failed, begun: true },
    })
    const facts = { list: fact('success'), sum: fact('success') }
    expect(names(nodes, nodes, { ...facts, item: item(3, 0) })).toEqual(['list', 'item', 'sum'])
    expect(names(nodes, nodes, { ...facts, item: item(2, 1) })).toEqual(['list', 'item'])
    // An empty list has no tasks; it is mapped again.
    expect(names(nodes, nodes, { ...facts, item: item(0, 0) })).toEqual(['list', 'sum'])
  })

  it('a set-up only with all of its work', () => {
    const nodes = [
      printed(testNode('setup')),
      printed(testNode('work', [0])),
      printed(testNode('more', [0])),
      printed({ ...testNode('teardown', [0, 1, 2]), teardownOf: 0, rule: 'all_done' as const }),
    ]
    const facts = { setup: fact('success'), work: fact('success'), more: fact('success'), teardown: fact('success') }
    expect(names(nodes, nodes, facts)).toEqual(['setup', 'work', 'more', 'teardown'])
    expect(names(nodes, nodes, { ...facts, more: fact('failed') })).toEqual([])
    expect(names(nodes, nodes, { ...facts, teardown: fact('failed') })).toEqual(['setup', 'work', 'more'])
  })
})

it('whatever is taken over, all before it is taken over too, or was left out without an attempt', () => {
  const states: readonly TaskState[] = ['success', 'failed', 'skipped', 'upstream_failed', 'cancelled']
  const drawn = fc.record({
    up: fc.array(fc.nat(9), { maxLength: 3 }),
    state: fc.nat(9),
    attempt: fc.nat(1),
    changed: fc.boolean(),
    print: fc.integer({ min: 0, max: 5 }),
  })
  fc.assert(
    fc.property(fc.array(drawn, { minLength: 1, maxLength: 10 }), (nodes) => {
      const made = nodes.map(({ up }, index) =>
        printed(testNode(`n${index}`, [...new Set(up.filter((one) => one < index))])),
      )
      const latest = made.map((node, index) => (nodes[index]!.print === 0 ? printed(node, 'other') : node))
      const stateOf = (index: number) => states[nodes[index]!.state] ?? 'success'
      const facts = Object.fromEntries(made.map(({ id }, index) => [id, fact(stateOf(index), nodes[index]!.attempt)]))
      const reused = new Set(names(made, latest, facts))
      for (const [index, { id, upstream }] of made.entries()) {
        if (!reused.has(id)) continue
        expect(stateOf(index)).toBe('success')
        expect(nodes[index]!.print).not.toBe(0)
        for (const up of upstream) {
          const leftOut = stateOf(up) === 'skipped' && nodes[up]!.attempt === 0
          expect(reused.has(`n${up}`) || leftOut).toBe(true)
        }
      }
    }),
  )
})
