/** How many processes hold shards of a stream that says how many items a process takes, and which ones. */

/** At least one, which finds out how many items there are. */
export const producersWanted = (items: number, perProducer: number): number =>
  Math.max(1, Math.ceil(items / perProducer))

export interface Producer {
  readonly node: string
  /** Shards of the stream that it holds. */
  readonly held: number
}

/**
 * How many of the shards a process is to hold. Those that hold the most come first, so that nothing changes hands without need;
 * between equals the id decides, so that all come to the same answer.
 * @param living - All processes that live, those included that hold nothing.
 */
export function producerShare(
  node: string,
  {
    shards,
    wanted,
    living,
  }: { readonly shards: number; readonly wanted: number; readonly living: readonly Producer[] },
): number {
  const inOrder = [...living].sort((one, other) => other.held - one.held || (one.node < other.node ? -1 : 1))
  const place = inOrder.findIndex((producer) => producer.node === node)
  const producers = Math.min(wanted, living.length)
  if (place < 0 || place >= producers) return 0
  return Math.floor(shards / producers) + (place < shards % producers ? 1 : 0)
}
