import { afterEach, beforeEach, expect, it } from 'vitest'
import { EngineWorld } from '../../test/engine-world.ts'
import { SluiceError } from '../errors.ts'
import type { Database } from '../ports/database.ts'

let world: EngineWorld
beforeEach(async () => {
  world = await EngineWorld.open()
})
afterEach(() => world.close())

/** Statements of these names find no database so many times. */
function away(db: Database, times: Record<string, number>): Database {
  return {
    ...db,
    query(sql, values) {
      const left = times[sql.name] ?? 0
      if (left === 0) return db.query(sql, values)
      times[sql.name] = left - 1
      return Promise.reject(new SluiceError('DATABASE_UNREACHABLE', 'no answer'))
    },
  }
}

it('an outage is told when it begins and when it ends, however often is tried meanwhile', async () => {
  const times = { 'runs.claim': 2, 'transitions.commit_one': 1, 'runs.reclaim': 4 }
  const engine = await world.engine({ leaseMs: 6_000, wrap: (db) => away(db, times) })
  expect(await world.ended(await world.start('says', { value: 'still here' }))).toBe('success')
  expect(times).toEqual({ 'runs.claim': 0, 'transitions.commit_one': 0, 'runs.reclaim': 0 })
  const told = (what: string) => engine.notes.filter((note) => note.startsWith(what))
  expect(told('taking runs')).toEqual([
    'taking runs failed, and is tried until it goes well: no answer',
    expect.stringMatching(/^taking runs goes well again after [\d.]+ s$/),
  ])
  expect(told('reading runs')).toEqual([
    'reading runs again failed, and is tried until it goes well: no answer',
    expect.stringMatching(/^reading runs again goes well again after [\d.]+ s \(runs: 1\)$/),
  ])
  expect(await world.breaches()).toEqual([])
})
