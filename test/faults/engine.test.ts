/** What a bad network between an engine and its database does to runs: nothing is lost, doubled, or done by two at once. */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Database, statement } from '../../src/ports/database.ts'
import { type EngineOptions, EngineWorld, type RunningEngine, until } from '../engine-world.ts'
import { breaches } from '../invariants/check.ts'
import { cutsOf, seed, timeout } from './cuts.ts'
import { proxyFor, type TcpProxy } from './tcp-proxy.ts'

let world: EngineWorld
let proxy: TcpProxy
let url: string
let engines: RunningEngine[] = []
beforeAll(async () => {
  world = await EngineWorld.open()
})
afterAll(() => world.close())
beforeEach(async () => {
  ;({ proxy, url } = await proxyFor(world.url))
})
afterEach(async () => {
  proxy.set({ kind: 'pass' })
  for (const engine of engines) await engine.crash()
  engines = []
  await proxy.close()
  // The next test's engine is not to wait for the leases of this one's.
  await world.db.execute(statement('test.forget-nodes', 'delete from sluice.nodes'))
})

/** Which the next engine reaches through the proxy; others directly. */
async function start(options: EngineOptions & { readonly faulty?: boolean } = {}): Promise<RunningEngine> {
  const { faulty = true, ...rest } = options
  const engine = await world.engine({ ...rest, ...(faulty ? { url } : {}) })
  engines.push(engine)
  return engine
}

const atRest = () => breaches(world.db, { atRest: true })
const published = statement<{ count: number; distinct: number }>(
  'test.published',
  `select count(*)::int as count, count(distinct id)::int as distinct from sluice.topic_records where topic = 'things'`,
)

describe(`a connection cut at any message (seed ${seed})`, () => {
  it('loses and doubles nothing of runs', { timeout }, async () => {
    await start()
    for (const cut of cutsOf(8, 150)) {
      proxy.cut(cut)
      const ids = await Promise.all([
        world.start('wide', { n: 30 }),
        world.start('retried'),
        world.start('weighs', { bytes: 300_000 }),
      ])
      for (const id of ids) expect(await world.ended(id), JSON.stringify(cut)).toBe('success')
    }
    expect(await atRest()).toEqual([])
  })

  it('publishes each record once', { timeout }, async () => {
    await start()
    const publishCuts = cutsOf(2, 40)
    const all = publishCuts.length * 2_500
    for (const cut of publishCuts) {
      proxy.cut(cut)
      expect(await world.ended(await world.start('publisher')), JSON.stringify(cut)).toBe('success')
    }
    const [{ count, distinct } = { count: 0, distinct: -1 }] = await world.db.query(published)
    expect({ count, distinct }).toEqual({ count: all, distinct: all })
    expect(await atRest()).toEqual([])
  })
})

describe('an engine whose database is away for less than its lease', () => {
  it('starts nothing meanwhile, and does not repeat what ended meanwhile', { timeout: 60_000 }, async () => {
    const engine = await start({ leaseMs: 600_000 })
    const places = engine.executor.free('process')
    const id = await world.start('isolated', world.place('ended-meanwhile'))
    for (const index of [0, 1, 2]) await world.started('ended-meanwhile', index)
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    await world.go('ended-meanwhile')
    await until('the attempts to end', () => engine.executor.free('process') === places)
    await until('it to notice', () => engine.notes.some((note) => note.includes('failed')))
    const forked = engine.forked.length
    await world.start('wide', { n: 50 })
    proxy.set({ kind: 'pass' })
    expect(await world.ended(id)).toBe('success')
    expect(await world.tasks(id)).toMatchObject(Array(3).fill({ attempt: 1, losses: 0, state: 'success' }))
    expect(engine.forked).toHaveLength(forked)
    await world.allEnded()
    expect(await atRest()).toEqual([])
  })
})

describe('an engine that cannot renew its lease', () => {
  it('ends its attempts before another takes their run, and comes back when it can', { timeout: 60_000 }, async () => {
    const first = await start({ leaseMs: 3_000 })
    const id = await world.start('gated', world.place('vanished'))
    await world.started('vanished')
    const runner = first.forked[0]!
    const gone = once(runner, 'exit').then(() => existsSync(join(world.dir, 'vanished.2.started')))
    await start({ faulty: false, leaseMs: 3_000 })
    proxy.set({ kind: 'vanish', of: 'both' })
    expect(await gone).toBe(false)
    expect(first.notes.join('\n')).toContain('the lease could not be renewed')
    expect(first.notes.join('\n')).toContain('attempts are ended before others may take their runs')
    await world.started('vanished', 2)
    expect(first.engine.runs.held).toBe(0)
    await world.go('vanished')
    expect(await world.ended(id)).toBe('success')
    expect(await world.tasks(id)).toMatchObject([{ attempt: 2, losses: 1 }])
    proxy.set({ kind: 'pass' })
    await until('it to be back', () => first.notes.join('\n').includes('it reads its runs again'))
    await engines[1]!.stop()
    expect(await world.ended(await world.start('none'))).toBe('success')
    expect(await atRest()).toEqual([])
  })

  it('that can again at once begins nothing before its attempts have ended', { timeout: 60_000 }, async () => {
    const first = await start({ leaseMs: 6_000, settings: { runners: 2 } })
    const id = await world.start('loops', world.place('lingers'))
    await world.started('lingers')
    const again = () => existsSync(join(world.dir, 'lingers.2.started'))
    const gone = Promise.any(first.forked.map((runner) => once(runner, 'exit'))).then(again)
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    await until('the doubt', () => first.notes.join('\n').includes('attempts are ended before others may take'))
    proxy.set({ kind: 'pass' })
    expect(await gone).toBe(false)
    expect(await world.ended(id)).toBe('success')
    expect(await world.tasks(id)).toMatchObject([{ attempt: 2, losses: 1 }])
    expect(await atRest()).toEqual([])
  })

  it('gives what they held to others once they have ended, also before it has written that', {
    timeout: 60_000,
  }, async () => {
    const held = Promise.withResolvers<void>()
    let slow: string | undefined
    const wrap = (db: Database): Database => ({
      ...db,
      async query(sql, values) {
        if (sql.name === 'tasks.read_run' && values?.[0] === slow) await held.promise
        return db.query(sql, values)
      },
    })
    const engine = await start({ leaseMs: 6_000, settings: { runners: 2 }, wrap })
    const id = await world.start('narrow', world.place('holds'))
    await world.started('holds')
    const other = await world.start('narrow', world.place('follows'))
    slow = id
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    await until('the doubt', () => engine.notes.join('\n').includes('attempts are ended before others may take'))
    proxy.set({ kind: 'pass' })
    await world.started('follows')
    // The rows have two that run, where one may; one of them has ended, and that is not written.
    expect((await world.tasks(id)).concat(await world.tasks(other))).toMatchObject(Array(2).fill({ state: 'running' }))
    expect(await breaches(world.db)).toEqual([])
    held.resolve()
    for (const name of ['follows', 'holds']) await world.go(name)
    for (const one of [other, id]) expect(await world.ended(one)).toBe('success')
    expect(await world.tasks(id)).toMatchObject([{ attempt: 2, losses: 1 }])
    expect(await atRest()).toEqual([])
  })

  it('kills attempts that do not stop', { timeout: 60_000 }, async () => {
    const first = await start({ leaseMs: 3_000 })
    const id = await world.start('loops', world.place('deaf'))
    await world.started('deaf')
    const gone = once(first.forked[0]!, 'exit')
    await start({ faulty: false, leaseMs: 3_000 })
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    expect(await gone).toEqual([null, 'SIGKILL'])
    expect(await world.ended(id)).toBe('success')
    expect(await world.tasks(id)).toMatchObject([{ attempt: 2, losses: 1 }])
  })

  it('is refused when what it wrote arrives late', { timeout: 60_000 }, async () => {
    const first = await start({ leaseMs: 3_000 })
    const id = await world.start('gated', world.place('late'))
    await world.started('late')
    proxy.set({ kind: 'hold' })
    // Its end is decided and written at once, and the write is under way for longer than the lease.
    await world.go('late')
    await until('it to give up', () => first.notes.some((note) => note.includes('attempts are ended')))
    await start({ faulty: false, leaseMs: 3_000 })
    expect(await world.ended(id)).toBe('success')
    expect(await world.tasks(id)).toMatchObject([{ attempt: 2 }])
    const log = await world.log()
    proxy.set({ kind: 'pass' })
    await until('the late write', () => proxy.errors.some((text) => text.includes('refused by the fence')))
    expect(await world.log()).toEqual(log)
  })

  it('goes on by itself when the database was away for longer than the lease', { timeout: 60_000 }, async () => {
    const engine = await start({ leaseMs: 3_000 })
    const id = await world.start('gated', world.place('away'))
    await world.started('away')
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    await until('it to give up', () => engine.notes.some((note) => note.includes('attempts are ended')))
    await world.go('away')
    proxy.set({ kind: 'pass' })
    expect(await world.ended(id)).toBe('success')
    const [task] = await world.tasks(id)
    expect(task!.losses).toBeGreaterThan(0)
    expect(task!.attempt).toBe(task!.losses + 1)
    expect(await atRest()).toEqual([])
  })
})
