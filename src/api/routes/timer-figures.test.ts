import { expect, it } from 'vitest'
import { testManifest } from '../../../test/test-api.ts'
import type { ShardFigures } from '../../store/stream-figures.ts'
import { timerFiguresOf } from './timer-figures.ts'

const [images] = testManifest.streams
const timed = {
  ...images!,
  source: { kind: 'timer', name: 'sites', shards: 4, refreshMs: 5_000, perProducer: 10 },
} as const
const shard = (partition: number, changes: Partial<ShardFigures>): ShardFigures => ({
  ...{ stream: 'images', partition, topic: 'timer:sites', holder: null, epoch: 1, committedOffset: 0, lag: 0 },
  ...{ inFlight: 0, parked: 0, waiting: 0, retrying: 0, dead: 0, committedAt: null, drained: false },
  ...{ items: null, missed: 0, folded: 0, refused: null, failure: null },
  ...changes,
})

it('sums up the shards, and says when fewer processes hold them than their items need', () => {
  const shards = [
    shard(0, { holder: 'a', items: 12, missed: 1, refused: 2, failure: 'no database' }),
    shard(1, { holder: 'a', items: 9, folded: 5, refused: 3 }),
    shard(2, { items: 5, missed: 3, refused: 90, failure: 'long ago' }),
    shard(3, {}),
  ]
  expect(timerFiguresOf(timed, shards)).toEqual({
    ...{ items: 26, refused: 3, failure: 'no database', missed: 4, folded: 5 },
    producers: { wanted: 3, holding: 1, fewer: true },
  })
  const all = shards.map((one) => ({ ...one, holder: `node-${one.partition % 3}` }))
  expect(timerFiguresOf(timed, all)).toMatchObject({ producers: { wanted: 3, holding: 3, fewer: false } })
})

it('says nothing of producers without perProducer, and nothing at all of other sources', () => {
  const { perProducer: _, ...source } = timed.source
  expect(timerFiguresOf({ ...timed, source }, [])).toMatchObject({ items: 0, producers: null })
  expect(timerFiguresOf(images!, [])).toBeNull()
})
