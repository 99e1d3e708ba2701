import { afterEach, beforeEach, expect, it } from 'vitest'
import { EngineWorld, until } from '../../test/engine-world.ts'
import { compileGraph } from '../core/graph.ts'
import { SluiceError } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import { clearRun } from '../store/clear.ts'

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

it('a run that is about to be read again is not handed back: what ended meanwhile is not done again', async () => {
  const failing = new Set<string>()
  const released = Promise.withResolvers<void>()
  const reclaimed = Promise.withResolvers<void>()
  // The run is read again between the moment strays are handed back and the one free runs are taken.
  const wrap = (db: Database): Database => ({
    ...db,
    async query(sql, values) {
      if (failing.delete(sql.name)) throw new SluiceError('DATABASE_UNREACHABLE', 'no answer')
      if (sql.name === 'runs.claim' && failing.has('strays')) await reclaimed.promise
      if (sql.name !== 'runs.reclaim') return db.query(sql, values)
      await released.promise
      const rows = await db.query(sql, values)
      reclaimed.resolve()
      return rows
    },
    async execute(sql, values) {
      const done = await db.execute(sql, values)
      if (sql.name === 'runs.release') released.resolve()
      return done
    },
  })
  const engine = await world.engine({ leaseMs: 600_000, wrap })
  const id = await world.start('isolated', world.place('handed-back'))
  for (const index of [0, 1, 2]) await world.started('handed-back', index)
  failing.add('runs.claim')
  const other = await world.start('says', { value: 1 })
  await until('strays', () => engine.notes.some((note) => note.startsWith('taking runs failed')))
  failing.add('strays').add('transitions.commit_one').add('transitions.commit_group')
  await world.go('handed-back')
  await until('a failed write', () => engine.notes.some((note) => note.startsWith('a write for')))
  failing.delete('transitions.commit_one')
  failing.delete('transitions.commit_group')
  expect(await world.ended(await world.start('says', { value: 2 }))).toBe('success')
  expect(await world.ended(other)).toBe('success')
  expect(await world.ended(id)).toBe('success')
  expect(await world.tasks(id)).toMatchObject(Array(3).fill({ attempt: 1, losses: 0, state: 'success' }))
  expect(await world.breaches()).toEqual([])
})

it('a run that is cleared between the commit of its end and the answer to that goes on', async () => {
  const id = await world.start('wide', { n: 3 })
  const ended = Promise.withResolvers<void>()
  const answer = Promise.withResolvers<void>()
  const wrap = (db: Database): Database => ({
    ...db,
    async query(sql, values) {
      const rows = await db.query(sql, values)
      if (sql.name.startsWith('transitions.commit') && (await world.run(id)).state === 'success') {
        ended.resolve()
        await answer.promise
      }
      return rows
    },
  })
  await world.engine({ wrap })
  await ended.promise
  const graph = compileGraph(world.version.manifest.workflows.find(({ name }) => name === 'wide')!)
  const request = { tasks: ['count'], failed: false, fresh: false, by: 'ann', note: null }
  await world.db.transaction((session) => clearRun(session, id, graph, request))
  await until('its second life', async () => (await world.tasks(id)).some(({ attempt }) => attempt === 2))
  answer.resolve()
  expect(await world.ended(id)).toBe('success')
  expect(await world.tasks(id)).toMatchObject(Array(4).fill({ attempt: 2, state: 'success' }))
  expect(await world.breaches()).toEqual([])
})
