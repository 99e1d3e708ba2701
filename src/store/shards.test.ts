import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { offsetOf } from '../core/ticks.ts'
import { totals } from './ledger.ts'
import { readStuck } from './reading/server.ts'
import { acquire, advance, ensureShards, release, releaseHeldBy, renew } from './shards.ts'
import { oldestOpen } from './stream-age.ts'
import { shardFigures } from './stream-figures.ts'
import { ensureTopic } from './topics.ts'

let test: TestDatabase
beforeAll(async () => {
  test = await testDatabase()
  await ensureTopic(test.db, 'letters', 2)
  await ensureShards(test.db, 'reading', 'letters')
})
afterAll(() => test.drop())

const take = (node: string, known: readonly { stream: string; partition: number }[] = []) =>
  acquire(test.db, ['reading'], node, 60_000, 10, known)

it('what a node holds and does not know of it takes again under a new epoch; the former one is refused', async () => {
  const [node, other] = [randomUUID(), randomUUID()]
  const [first, second] = (await take(node)).toSorted((a, b) => a.partition - b.partition)
  expect(await take(other)).toEqual([])
  expect(await take(node, [first!, second!])).toEqual([])
  expect(await take(node, [first!])).toEqual([{ ...second, epoch: second!.epoch + 1 }])
  const move = { ...second!, from: 0, to: 1, inFlight: 0, parked: 0 }
  await expect(advance(test.db, move)).rejects.toMatchObject({ code: 'FENCED' })
  expect((await advance(test.db, { ...move, epoch: second!.epoch + 1 })).getTime()).toBeGreaterThan(0)

  await releaseHeldBy(test.db, [other])
  expect(await take(other)).toEqual([])
  await releaseHeldBy(test.db, [node])
  expect(await take(other)).toHaveLength(2)
})

it('tell what their holder knows of a source outside of the tables: its end and its items', async () => {
  await ensureShards(test.db, 'timed', 'timer:items', 1, 5_000)
  const node = randomUUID()
  const [held] = await acquire(test.db, ['timed'], node, 60_000, 10)
  expect(held).toMatchObject({ topic: 'timer:items', committedOffset: 5_000 })
  const told = { ...held!, inFlight: 2, parked: 1 }
  await renew(test.db, node, 60_000, [{ ...told, end: 5_020, figures: { items: 7, refused: 2, failure: 'a\0b' } }])
  const shown = async () => (await shardFigures(test.db, 'timed'))[0]
  expect(await shown()).toMatchObject({ lag: 20, items: 7, refused: 2, failure: 'a\uFFFDb', inFlight: 2, parked: 1 })
  expect(await totals(test.db, 'timed')).toMatchObject({ received: 20, pending: 20, queued: 20 })
  // Who does not know does not forget what was known; a failure is over when the items are there again.
  await renew(test.db, node, 60_000, [told])
  expect(await shown()).toMatchObject({ lag: 20, items: 7, failure: 'a\uFFFDb' })
  await renew(test.db, node, 60_000, [{ ...told, figures: { items: 8, refused: 0, failure: null } }])
  expect(await shown()).toMatchObject({ lag: 20, items: 8, refused: 0, failure: null })
  // The end that was told before the offset moved past it is no negative lag.
  const { stream, partition, epoch } = held!
  const move = { stream, partition, epoch, from: 5_000, to: 5_100, inFlight: 0, parked: 0 }
  await advance(test.db, { ...move, skipped: { missed: 3, folded: 4 } })
  expect(await shown()).toMatchObject({ lag: 0, missed: 3, folded: 4 })
  await expect(advance(test.db, { ...move, skipped: { missed: 3, folded: 4 } })).rejects.toMatchObject({
    code: 'FENCED',
  })
  expect(await shown()).toMatchObject({ missed: 3, folded: 4 })
})

it('never get ahead of the time where offsets are times: a machine whose clock is wrong commits nothing', async () => {
  const now = Date.now()
  await ensureShards(test.db, 'clocks', 'timer:clocks', 1, offsetOf(now))
  const [held] = await acquire(test.db, ['clocks'], randomUUID(), 60_000, 10)
  const { stream, partition, epoch } = held!
  const move = { stream, partition, epoch, from: offsetOf(now), inFlight: 0, parked: 0, timed: true }
  const ahead = test.db.transaction((session) => advance(session, { ...move, to: offsetOf(now + 3_600_000) }))
  await expect(ahead).rejects.toMatchObject({
    code: 'CONFIGURATION',
    message: expect.stringContaining('The clock of this machine says'),
  })
  await test.db.transaction((session) => advance(session, { ...move, to: offsetOf(now + 1_000) }))
  expect((await shardFigures(test.db, 'clocks'))[0]!.committedOffset).toBe(offsetOf(now + 1_000))
})

it('go by one source for ever: another one is refused, and nothing is changed', async () => {
  await ensureShards(test.db, 'moved', 'timer:first', 2, 7)
  await expect(ensureShards(test.db, 'moved', 'timer:second', 4)).rejects.toMatchObject({
    code: 'DEFINITION_INVALID',
    message: expect.stringContaining('has read "timer:first", and is to read "timer:second" now'),
  })
  expect((await shardFigures(test.db, 'moved')).map(({ topic, committedOffset }) => [topic, committedOffset])).toEqual([
    ['timer:first', 7],
    ['timer:first', 7],
  ])
})

it('of a timer have work to do whenever there are items: how late they are, and that nobody holds them, is seen', async () => {
  const begun = Date.now() - 120_000
  await ensureShards(test.db, 'late', 'timer:late', 1, offsetOf(begun))
  const seen = async () => ({
    queued: (await oldestOpen(test.db, 'late')).get('late')!.queued?.getTime(),
    orphans: (await readStuck(test.db)).orphanShards,
  })
  const { orphans } = await seen()
  expect(await seen()).toEqual({ queued: undefined, orphans })
  const node = randomUUID()
  const [held] = await acquire(test.db, ['late'], node, 60_000, 10)
  const { stream, partition, epoch } = held!
  const figures = { items: 3, refused: 0, failure: null }
  await renew(test.db, node, 60_000, [{ stream, partition, epoch, inFlight: 0, parked: 0, figures }])
  expect(await seen()).toEqual({ queued: begun, orphans })
  await release(test.db, { stream, partition }, epoch)
  expect(await seen()).toEqual({ queued: begun, orphans: orphans + 1 })
  const [again] = await acquire(test.db, ['late'], node, 60_000, 10)
  const move = { stream, partition, epoch: again!.epoch, inFlight: 0, parked: 0, timed: true }
  await advance(test.db, { ...move, from: offsetOf(begun), to: offsetOf(Date.now()) })
  expect(await seen()).toEqual({ queued: undefined, orphans })
})
