/** What came from what: a walk along edges, step by step, bounded in depth and number. */

export interface Walk<Edge> {
  readonly edges: readonly Edge[]
  /** There is more than was asked for, or than is shown. */
  readonly truncated: boolean
}

/**
 * Walks from `start` up to `depth` steps. `step` gives the edges of some things, `limit` at most; `far` names the other end
 * of an edge. Each thing is asked for once, so a cycle ends; each edge is given once, nearer ones first.
 */
export async function walkLineage<Edge>(
  start: string,
  { depth, limit }: { readonly depth: number; readonly limit: number },
  step: (things: readonly string[], limit: number) => Promise<readonly Edge[]>,
  far: (edge: Edge) => string,
): Promise<Walk<Edge>> {
  const edges: Edge[] = []
  const asked = new Set([start])
  let things = [start]
  for (let at = 0; at < depth && things.length > 0; at += 1) {
    const found = await step(things, limit - edges.length + 1)
    edges.push(...found)
    if (edges.length > limit) return { edges: edges.slice(0, limit), truncated: true }
    things = [...new Set(found.map(far))].filter((thing) => !asked.has(thing))
    for (const thing of things) asked.add(thing)
  }
  if (things.length === 0) return { edges, truncated: false }
  return { edges, truncated: (await step(things, 1)).length > 0 }
}
