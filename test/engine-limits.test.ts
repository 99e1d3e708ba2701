import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Database, type Session, type Statement, statement } from '../src/ports/database.ts'
import { setLimit } from '../src/store/limits.ts'
import { EngineWorld, type RunningEngine, until } from './engine-world.ts'
import { limitInvariants } from './invariants/limits.ts'

let world: EngineWorld
beforeEach(async () => {
  world = await EngineWorld.open('limits-project')
})
afterEach(async () => {
  const breaches = [...(await world.breaches()), ...(await limitBreaches())]
  await world.close()
  expect(breaches).toEqual([])
})

const limitBreaches = async () =>
  (await Promise.all(limitInvariants.map(({ find }) => find({ session: world.db, now: world.db, options: {} })))).flat()

const list = (count: number) => Array.from({ length: count }, (_, index) => index)
const hold = (workflow: string, name: string, more: object = {}) =>
  world.start(workflow, { ...world.place(name), ...more })
/** One after another, each in a millisecond of its own: the age of runs is that of their ids. */
const holdInOrder = async (workflow: string, names: readonly string[]) => {
  const ids: string[] = []
  for (const name of names) {
    ids.push(await hold(workflow, name))
    const now = Date.now()
    while (Date.now() === now);
  }
  return ids
}
const isRunning = (name: string, attempt = 1) => existsSync(join(world.dir, `${name}.${attempt}.started`))
const letGo = async (names: readonly string[]) => {
  for (const name of names) await world.go(name)
}
const grants = statement<{ node_id: string; kind: string; amount: number; waits: boolean }>(
  'test.grants-of-engines',
  `select node_id, kind, amount, json_array_length(line) > 0 as waits from sluice.limit_grants where kind <> 'rate' order by 1, 2`,
)
const waits = (engine: RunningEngine) => async () =>
  (await world.db.query(grants)).some((row) => row.node_id === engine.nodeId && row.waits)
/** Lets a test see every query of an engine's transactions. */
const seen = (see: (sql: Statement) => void) => (db: Database) => ({
  ...db,
  transaction: <T>(work: (session: Session) => Promise<T>) =>
    db.transaction((session) => {
      const around: Session = {
        query: async (sql, values) => {
          see(sql)
          return session.query(sql, values)
        },
        execute: (sql, values) => session.execute(sql, values),
        copyIn: (sql, rows) => session.copyIn(sql, rows),
        copyOut: (sql, take) => session.copyOut(sql, take),
        script: (sql) => session.script(sql),
      }
      return work(around)
    }),
})
const lapse = statement('test.lapse-node', `update sluice.nodes set lease_until = sluice.sluice_now() where id = $1`)

describe('limits of tasks', () => {
  it('of all sorts hold together, with retries and in processes of their own, and all comes to its end', async () => {
    await world.engine()
    const ids = await Promise.all(list(2).map(() => world.start('many', { list: list(6) })))
    for (const id of ids) expect(await world.ended(id)).toBe('success')
    const kinds = new Set((await world.db.query(grants)).map(({ kind }) => kind))
    expect(kinds).toEqual(new Set(['pool', 'workers']))
  })

  it('hold over several engines, and none of them waits for ever', async () => {
    await Promise.all(list(3).map(() => world.engine({ maxRuns: 1 })))
    const ids = await Promise.all(list(3).map(() => world.start('many', { list: list(4) })))
    for (const id of ids) expect(await world.ended(id)).toBe('success')
  })

  it('let the next start when a slot is free, over runs and engines, in the order in which they came', async () => {
    const one = await world.engine({ maxRuns: 3 })
    const first = await Promise.all(list(3).map((n) => hold('holds', `first-${n}`)))
    for (const n of list(3)) await world.started(`first-${n}`)
    const two = await world.engine()
    await hold('holds', 'second')
    await until('the second to wait', waits(two))
    expect(isRunning('second')).toBe(false)
    await world.go('first-1')
    expect(await world.ended(first[1]!)).toBe('success')
    await world.started('second')
    await letGo(['first-0', 'first-2', 'second'])
    await world.allEnded()
    await until('the engine to forget them', () => one.engine.runs.held === 0)
  })

  it('keep room for a large request that is first in line', async () => {
    await world.engine()
    await hold('holds', 'a')
    await world.started('a')
    await hold('holds', 'b')
    await world.started('b')
    await hold('holds-two', 'large')
    await until('the large one to be held', async () => (await world.db.query(heldRuns))[0]!.count === 3)
    const small = await hold('holds', 'small')
    await until('all to be held', async () => (await world.db.query(heldRuns))[0]!.count === 4)
    await world.go('a')
    await world.started('large')
    expect(isRunning('small')).toBe(false)
    await letGo(['b', 'large', 'small'])
    expect(await world.ended(small)).toBe('success')
  })

  it('are one for each value of a key', async () => {
    await world.engine()
    await hold('holds-key', 'x1', { customer: 'x' })
    await world.started('x1')
    const waiting = await hold('holds-key', 'x2', { customer: 'x' })
    await hold('holds-key', 'y', { customer: 'y' })
    await world.started('y')
    expect(isRunning('x2')).toBe(false)
    await world.go('x1')
    await world.started('x2')
    await letGo(['x2', 'y'])
    expect(await world.ended(waiting)).toBe('success')
  })

  it('count the workers of a workflow over all its runs', async () => {
    await world.engine()
    const ids = await Promise.all(list(3).map((n) => hold('two-workers', `w${n}`)))
    await until('two of three to run', () => list(3).filter((n) => isRunning(`w${n}`)).length === 2)
    await letGo(list(3).map((n) => `w${n}`))
    for (const id of ids) expect(await world.ended(id)).toBe('success')
  })

  it('hold a rate over engines', async () => {
    await Promise.all([world.engine(), world.engine()])
    const ids = await Promise.all(list(2).map(() => world.start('paced', { list: list(4) })))
    for (const id of ids) expect(await world.ended(id)).toBe('success')
  })

  const pools = async () => (await world.db.query(grants)).filter(({ kind }) => kind === 'pool')

  it('that are lowered end nothing, and let nothing start until less is in use; 0 is closed', async () => {
    await world.engine()
    const ids = [await hold('holds', 'a'), await hold('holds', 'b')]
    await world.started('a')
    await world.started('b')
    await setLimit(world.db, { kind: 'pool', name: 'etl', slots: 1 }, 'ann')
    ids.push(await hold('holds', 'c'))
    await world.go('a')
    expect(await world.ended(ids[0]!)).toBe('success')
    await world.go('b')
    await world.started('c')
    await setLimit(world.db, { kind: 'pool', name: 'etl', slots: 0 }, 'ann')
    await world.go('c')
    expect(await world.ended(ids[2]!)).toBe('success')
    // An engine goes on with what it was granted until it hears that there is less; then it gives back what is free.
    await until('the slots to be given back', async () => (await pools()).every(({ amount }) => amount === 0))
    ids.push(await hold('holds', 'd'))
    await until('its run to be taken', async () => (await world.run(ids[3]!)).state === 'running')
    expect(isRunning('d')).toBe(false)
    await setLimit(world.db, { kind: 'pool', name: 'etl', slots: null }, 'ann')
    await world.started('d')
    await world.go('d')
    expect(await world.ended(ids[3]!)).toBe('success')
  })

  it('free what a cancelled run holds and waits for', async () => {
    await world.engine()
    const holding = await Promise.all(list(3).map((n) => hold('holds', `h${n}`)))
    for (const n of list(3)) await world.started(`h${n}`)
    const waiting = await hold('holds', 'w')
    const last = await hold('holds', 'last')
    await world.cancel(waiting)
    expect(await world.ended(waiting)).toBe('cancelled')
    await world.cancel(holding[0]!)
    await world.started('last')
    await letGo(['h1', 'h2', 'last'])
    expect(await world.ended(last)).toBe('success')
  })

  it('cost a fan-out one word of its engine, not one for each task', async () => {
    let words = 0
    await world.engine({
      wrap: seen((sql) => {
        if (sql.name === 'limits.lock') words += 1
      }),
    })
    expect(await world.ended(await world.start('wide', { list: list(500) }))).toBe('success')
    expect(words).toBeLessThan(10)
  })
})

const heldRuns = statement<{ count: number }>(
  'test.held-runs',
  `select count(*)::int as count from sluice.runs where state = 'running'`,
)

describe('an engine that dies', () => {
  it('holds its slots until its lease has lapsed; then who waits has them', async () => {
    const dead = await world.engine({ leaseMs: 600_000 })
    for (const n of list(3)) {
      await hold('holds', `d${n}`)
      await world.started(`d${n}`)
    }
    await dead.crash()
    const engine = await world.engine()
    const waiting = await hold('holds', 'waiting')
    await until('it to wait', waits(engine))
    expect(isRunning('waiting')).toBe(false)
    await world.db.query(lapse, [dead.nodeId])
    engine.engine.runs.limits.sweep()
    void engine.engine.runs.wake()
    await world.started('waiting')
    await letGo(['d0', 'd1', 'd2', 'waiting'])
    expect(await world.ended(waiting)).toBe('success')
    await world.allEnded()
  })

  it('or fails at any statement of its word, or after it, leaves limits whole', async () => {
    const words: string[] = []
    await world.engine({
      wrap: seen((sql) => {
        if (!sql.name.startsWith('limits.')) return
        words.push(sql.name)
        // Each statement of a word once, at its first time.
        if (words.filter((name) => name === sql.name).length === 1) throw new Error('it died')
      }),
    })
    for (const count of [3, 4]) {
      expect(await world.ended(await world.start('wide', { list: list(count) }))).toBe('success')
    }
    expect(new Set(words)).toEqual(new Set(['limits.lock', 'limits.read_grants', 'limits.write']))
  })

  it('in doubt of its lease forgets what it was granted, and goes on when it is back', async () => {
    const engine = await world.engine()
    const id = await hold('holds', 'a')
    await world.started('a')
    engine.engine.runs.suspend()
    await engine.executor.abandon(10)
    await engine.engine.runs.startOver()
    await world.started('a', 2)
    await world.go('a')
    expect(await world.ended(id)).toBe('success')
    const ids = await Promise.all(list(3).map((n) => hold('holds', `b${n}`)))
    for (const n of list(3)) await world.started(`b${n}`)
    await letGo(list(3).map((n) => `b${n}`))
    for (const one of ids) expect(await world.ended(one)).toBe('success')
  })

  it('and stops gives back what it holds', async () => {
    const engine = await world.engine()
    await hold('holds', 'a')
    await world.started('a')
    await engine.stop()
    expect(await world.db.query(grants)).toEqual([])
    await world.engine()
    await world.started('a', 2)
    await world.go('a')
    await world.allEnded()
  })
})

describe('active runs', () => {
  it('of a workflow are at most as many as it says; the oldest goes next', async () => {
    await Promise.all([world.engine(), world.engine()])
    const ids = await holdInOrder('few', ['f0', 'f1', 'f2', 'f3'])
    await world.started('f0')
    await world.started('f1')
    expect((await world.run(ids[2]!)).state).toBe('queued')
    await world.go('f0')
    await world.started('f2')
    expect(isRunning('f3')).toBe(false)
    await letGo(list(4).map((n) => `f${n}`))
    for (const id of ids) expect(await world.ended(id)).toBe('success')
  })

  it('do not hold up the end of one that is cancelled while it waits', async () => {
    await world.engine()
    const ids = await holdInOrder('few', ['f0', 'f1', 'f2'])
    await world.started('f1')
    await world.cancel(ids[2]!)
    expect(await world.ended(ids[2]!)).toBe('cancelled')
    expect(isRunning('f2')).toBe(false)
    await letGo(['f0', 'f1'])
    await world.allEnded()
  })

  it('are let in when a person allows more', async () => {
    await world.engine()
    await holdInOrder('few', ['f0', 'f1', 'f2', 'f3'])
    await world.started('f1')
    await setLimit(world.db, { kind: 'runs', name: 'few', slots: 4 }, 'ann')
    await world.started('f3')
    await letGo(list(4).map((n) => `f${n}`))
    await world.allEnded()
  })
})
