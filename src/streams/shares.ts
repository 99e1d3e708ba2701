/** How many shards a process is to hold, and which ones it gives back when it holds more. */
import { producerShare, producersWanted } from '../core/producers.ts'
import type { SharedStream } from '../store/shards.ts'

/** At most `share` shards of these streams together. */
export interface Share {
  readonly streams: readonly string[]
  readonly share: number
}

/**
 * The shares of a process. Streams that the same processes run are shared as one; a stream that says how many items a process
 * takes is shared alone. The shares of the living add up to all shards, so none is left to nobody.
 */
export function sharesOf(
  node: string,
  streams: readonly SharedStream[],
  perProducer: ReadonlyMap<string, number>,
): Share[] {
  const groups = new Map<string, SharedStream[]>()
  for (const one of streams) {
    const alone = perProducer.has(one.stream) ? one.stream : ''
    const group = JSON.stringify([alone, one.living.map((producer) => producer.node).sort()])
    groups.set(group, [...(groups.get(group) ?? []), one])
  }
  return [...groups.values()].map((group) => {
    const [{ stream, items, living }] = group as [SharedStream]
    const most = perProducer.get(stream)
    const wanted = most === undefined ? living.length : producersWanted(items, most)
    const shards = group.reduce((sum, one) => sum + one.shards, 0)
    return {
      streams: group.map((one) => one.stream),
      share: producerShare(node, {
        shards,
        wanted,
        living: living.map((one) => ({ ...one, held: heldBy(one.node, group) })),
      }),
    }
  })
}

const heldBy = (node: string, group: readonly SharedStream[]): number =>
  group.reduce((sum, { living }) => sum + (living.find((one) => one.node === node)?.held ?? 0), 0)

/**
 * Which of the shards to give back, `over` of them: those of the streams of which it holds the most, so that it keeps some of
 * each; the last ones first. What is being given back already is chosen again for as long as it takes.
 */
export function surplusOf<Shard extends { readonly id: { readonly stream: string } }>(
  held: readonly Shard[],
  over: number,
): Shard[] {
  const counts = new Map<string, number>()
  const ranked = held.map((shard, place) => {
    const rank = counts.get(shard.id.stream) ?? 0
    counts.set(shard.id.stream, rank + 1)
    return { shard, rank, place }
  })
  return ranked
    .sort((one, other) => other.rank - one.rank || other.place - one.place)
    .slice(0, over)
    .map(({ shard }) => shard)
}
