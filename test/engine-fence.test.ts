import { afterEach, beforeEach, expect, it } from 'vitest'
import { type Database, statement } from '../src/ports/database.ts'
import { EngineWorld } from './engine-world.ts'

let world: EngineWorld
beforeEach(async () => {
  world = await EngineWorld.open()
})
afterEach(() => world.close())

const takeAway = statement('test.take-away', 'update sluice.runs set epoch = epoch + 1')

/** Every run is another's for a moment before each of the first `times` writes. */
function stolen(db: Database, times: number): Database {
  let left = times
  return {
    ...db,
    async query(sql, values) {
      if (sql.name.startsWith('transitions.commit_') && left > 0) {
        left -= 1
        await db.execute(takeAway)
      }
      return db.query(sql, values)
    },
  }
}

it('a run whose writes are refused since it is no longer held is read again as often as it takes, and never failed for it', async () => {
  await world.engine({ wrap: (db) => stolen(db, 4) })
  const id = await world.start('says', { value: 'still here' })
  expect(await world.ended(id)).toBe('success')
  expect(await world.breaches()).toEqual([])
})
