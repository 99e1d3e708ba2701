import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { statement } from '../ports/database.ts'
import { claimDelivery, forgetDeliveries } from './hook-deliveries.ts'
import { recordTicks } from './plans.ts'

let test: TestDatabase
beforeAll(async () => {
  test = await testDatabase()
})
afterAll(() => test?.drop())

const events = statement<{ event: string }>('test.tick-events', 'select event from sluice.ticks order by seq')

it('events of one millisecond leave a row each, and one that is told twice leaves one', async () => {
  const tick = { workflow: 'w', plan: 'p', logicalTime: new Date(0), outcome: 'fired', reason: 'a\0b', runId: null }
  await recordTicks(test.db, [{ ...tick, event: 'a.txt' }])
  await recordTicks(test.db, [{ ...tick, event: 'b.txt' }])
  await recordTicks(test.db, [{ ...tick, event: 'b.txt' }, tick])
  expect((await test.db.query(events)).map(({ event }) => event)).toEqual(['a.txt', 'b.txt', ''])
})

it('a delivery is known by each of its keys until it is forgotten', async () => {
  const plan = { workflow: 'w', plan: 'p' }
  const [first, second, third] = [randomUUID(), randomUUID(), randomUUID()]
  expect(await claimDelivery(test.db, plan, ['id:1', 'signature:a'], first)).toBeUndefined()
  expect(await claimDelivery(test.db, plan, ['id:2', 'signature:a'], second)).toBe(first)
  expect(await claimDelivery(test.db, plan, ['id:2', 'signature:b'], third)).toBe(first)
  expect(await claimDelivery(test.db, { ...plan, plan: 'q' }, ['id:1'], third)).toBeUndefined()
  expect(await forgetDeliveries(test.db, new Date(Date.now() + 60_000))).toBe(5)
  expect(await claimDelivery(test.db, plan, ['id:1'], third)).toBeUndefined()
})
