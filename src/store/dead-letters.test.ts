import { afterAll, beforeAll, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { listDeadLetters } from './dead-letters.ts'

let test: TestDatabase
beforeAll(async () => {
  test = await testDatabase()
})
afterAll(() => test.drop())

it('lists dead letters in pages of at most 8 MiB, one at least', async () => {
  // Three of 3 MB, and one that is longer than a page alone.
  await test.db.script(`
    insert into sluice.stream_waiting (stream, partition, "offset", record_id, value, state, attempts, since)
    select 'sales', n % 2, n, 'r' || n, '"' || repeat('x', case n when 1 then 9000000 else 3000000 end) || '"', 'dead', 1, now()
    from generate_series(0, 4) as n where n <> 3`)
  const pages: string[][] = []
  for (let cursor: string | null = null; pages.length === 0 || cursor !== null; ) {
    const { items, nextCursor } = await listDeadLetters(test.db, 'sales', { cursor })
    pages.push(items.map((letter) => letter.recordId))
    cursor = nextCursor
  }
  expect(pages).toEqual([['r0', 'r2'], ['r4'], ['r1']])
})
