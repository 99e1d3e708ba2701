import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { node, upstreamOf, workflows } from '../../test/run-plans.ts'
import { compileGraph, type Graph } from './graph.ts'
import { triggerRules } from './trigger-rule.ts'

/** The nodes that a gate counts, found from the other side. */
const membersOf = (graph: Graph, gate: number) =>
  graph.countsIn.flatMap((gates, index) => (gates.includes(gate) ? [index] : []))

describe('compileGraph', () => {
  it('has each node wait once for each node before it', () => {
    fc.assert(
      fc.property(workflows, (plans) => {
        const graph = compileGraph({
          nodes: plans.map(({ upstream, stage, rule }, index) =>
            node(index, { upstream, rule, ...(stage === undefined ? {} : { stage }) }),
          ),
        })
        for (const [index, gates] of graph.waitsFor.entries()) {
          const members = gates.flatMap((gate) => membersOf(graph, gate))
          expect(members.sort()).toEqual(upstreamOf(plans, index).sort())
          for (const gate of gates) expect(graph.opens[gate]).toContain(index)
        }
        expect(graph.gates).toEqual(graph.gates.map((_, gate) => membersOf(graph, gate).length))
        const awaited = new Set(plans.flatMap((_, index) => upstreamOf(plans, index)))
        expect(graph.leaves).toEqual(plans.flatMap((_, index) => (awaited.has(index) ? [] : [index])))
      }),
    )
  })

  it('needs one gate between two stages', () => {
    const nodes = Array.from({ length: 10_000 }, (_, index) => node(index, { stage: Math.floor(index / 100) }))
    const graph = compileGraph({ nodes })
    expect(graph.gates).toEqual(Array(99).fill(100))
    expect(graph.waitsFor.every((gates) => gates.length <= 1)).toBe(true)
    expect(graph.leaves).toHaveLength(100)
  })

  it('shares the gate of nodes that wait for the same, and not of others', () => {
    const nodes = [node(0), node(1), node(2, { upstream: [0, 1] }), node(3, { upstream: [0, 1] })]
    expect(compileGraph({ nodes }).gates).toEqual([2])
    expect(compileGraph({ nodes: [...nodes, node(4, { upstream: [1] })] }).gates).toEqual([2, 1])
    // "1 2" is not "12".
    const many = Array.from({ length: 13 }, (_, index) => node(index))
    const behind = [node(13, { upstream: [1, 2] }), node(14, { upstream: [12] })]
    expect(compileGraph({ nodes: [...many, ...behind] }).gates).toEqual([2, 1])
  })

  it('does not count a node twice that is before by its stage and by an edge', () => {
    const nodes = [node(0, { stage: 0 }), node(1), node(2, { stage: 1, upstream: [0, 1] })]
    const graph = compileGraph({ nodes })
    expect(graph.gates).toEqual([1, 1])
    expect(graph.waitsFor[2]).toHaveLength(2)
  })

  it('lets no stage wait for a teardown of the one before, unless it is named', () => {
    const down = { stage: 0, upstream: [0, 1], teardownOf: 0, rule: 'all_done' as const }
    const nodes = [node(0, { stage: 0 }), node(1, { stage: 0, upstream: [0] }), node(2, down), node(3, { stage: 1 })]
    const graph = compileGraph({ nodes: [...nodes, node(4, { stage: 1, upstream: [2] })] })
    const before = graph.waitsFor.map((gates) => gates.flatMap((gate) => membersOf(graph, gate)))
    expect(before).toEqual([[], [0], [0, 1], [0, 1], [0, 1, 2]])
    expect(graph.leaves).toEqual([3, 4])
    // Alone, what the teardown waits for judges the run, and not the teardown.
    expect(compileGraph({ nodes: nodes.slice(0, 3) }).leaves).toEqual([1])
  })

  it('has no gate before a stage that follows no other', () => {
    expect(compileGraph({ nodes: [node(0), node(1, { stage: 0 })] }).gates).toEqual([])
    expect(compileGraph({ nodes: [] })).toMatchObject({ gates: [], leaves: [] })
  })

  it('knows the rules that need not wait for the last good end', () => {
    const early = triggerRules.filter((rule) => {
      const nodes = [node(0), node(1, { upstream: [0], rule }), node(2, { upstream: [0] })]
      return compileGraph({ nodes }).decidesEarly[0]
    })
    // Each of these may decide on the first success of several; the others cannot.
    for (const rule of ['one_success', 'one_done', 'all_failed', 'always']) expect(early).toContain(rule)
    for (const rule of ['all_success', 'all_done', 'none_failed']) expect(early).not.toContain(rule)
  })
})
