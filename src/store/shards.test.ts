import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { acquire, advance, ensureShards, releaseHeldBy } from './shards.ts'
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
