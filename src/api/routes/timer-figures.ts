/** What is shown of a stream that reads of a timer. */
import type { StreamManifest } from '../../core/manifest.ts'
import { producersWanted } from '../../core/producers.ts'
import { z } from '../../sdk/schema.ts'
import type { ShardFigures } from '../../store/stream-figures.ts'

const count = z.int()

export const timerFigures = z
  .object({
    items: count,
    refused: count.meta({ description: 'Items that are left out since they are wrong' }),
    failure: z.string().nullable().meta({ description: 'Why the list of items could not be had the last time' }),
    missed: count.meta({ description: 'Ticks for which nobody was there in time' }),
    folded: count.meta({ description: 'Ticks that came due while a record of their item ran and another waited' }),
    producers: z.object({ wanted: count, holding: count, fewer: z.boolean() }).nullable().meta({
      description: 'Processes: as many as the items need, and those that hold shards; null without `perProducer`',
    }),
  })
  .nullable()
  .meta({ description: 'Null of other sources' })

export function timerFiguresOf(
  { source }: StreamManifest,
  shards: readonly ShardFigures[],
): z.infer<typeof timerFigures> {
  if (source?.kind !== 'timer') return null
  const sum = (of: (shard: ShardFigures) => number | null) =>
    shards.reduce((total, shard) => total + (of(shard) ?? 0), 0)
  const items = sum((shard) => shard.items)
  // Every holder tells of the whole list: who told of it last cannot be known, so the worst is shown.
  const held = shards.filter(({ holder }) => holder !== null)
  const wanted = source.perProducer === undefined ? undefined : producersWanted(items, source.perProducer)
  const holding = new Set(held.map(({ holder }) => holder)).size
  return {
    items,
    refused: Math.max(0, ...held.map(({ refused }) => refused ?? 0)),
    failure: held.find(({ failure }) => failure !== null)?.failure ?? null,
    missed: sum((shard) => shard.missed),
    folded: sum((shard) => shard.folded),
    producers: wanted === undefined ? null : { wanted, holding, fewer: holding < Math.min(wanted, shards.length) },
  }
}
