import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { walkLineage } from './lineage-graph.ts'

type Edge = readonly [string, string]
const over = (edges: readonly Edge[]) => async (things: readonly string[], limit: number) =>
  edges.filter(([from]) => things.includes(from)).slice(0, limit)
const walk = (edges: readonly Edge[], depth: number, limit = 100) =>
  walkLineage('a', { depth, limit }, over(edges), ([, to]) => to)

describe('the walk along lineage', () => {
  const chain: Edge[] = [
    ['a', 'b'],
    ['b', 'c'],
    ['c', 'd'],
  ]

  it('goes as deep as it is asked to, and says that there is more', async () => {
    expect(await walk(chain, 2)).toEqual({ edges: chain.slice(0, 2), truncated: true })
    expect(await walk(chain, 3)).toEqual({ edges: chain, truncated: false })
    expect(await walk(chain, 10)).toEqual({ edges: chain, truncated: false })
  })

  it('gives as many edges as it is asked to, and says that there are more', async () => {
    expect(await walk(chain, 10, 2)).toEqual({ edges: chain.slice(0, 2), truncated: true })
    expect(await walk(chain, 10, 3)).toEqual({ edges: chain, truncated: false })
  })

  it('ends in a cycle', async () => {
    const cycle: Edge[] = [
      ['a', 'b'],
      ['b', 'a'],
      ['b', 'b'],
    ]
    expect(await walk(cycle, 10)).toEqual({ edges: cycle, truncated: false })
  })

  it('finds what can be reached, each edge once', async () => {
    const names = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f')
    const graphs = fc.uniqueArray(fc.tuple(names, names), { selector: String, maxLength: 20 })
    await fc.assert(
      fc.asyncProperty(graphs, async (edges) => {
        const reached = new Set(['a'])
        for (let grown = -1; grown !== reached.size; ) {
          grown = reached.size
          for (const [from, to] of edges) if (reached.has(from)) reached.add(to)
        }
        const found = await walk(edges, 20)
        expect(found.truncated).toBe(false)
        expect(found.edges.map(String).sort()).toEqual(
          edges
            .filter(([from]) => reached.has(from))
            .map(String)
            .sort(),
        )
      }),
    )
  })
})
