/** What a database that is in trouble does to runs and records: they wait, and go on by themselves when it is over. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { documents, type Stream, stream, topic, z } from 'sluice'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { statement } from '../../src/ports/database.ts'
import { startEmbedded } from '../../src/postgres/embedded.ts'
import { openDatabase } from '../../src/postgres/pool.ts'
import { totals } from '../../src/store/ledger.ts'
import { openStreams } from '../../src/streams/streams.ts'
import { EngineWorld, type RunningEngine, until } from '../engine-world.ts'
import { breaches } from '../invariants/check.ts'
import { builtIn, plainCapabilities, StreamWorld } from '../stream-world.ts'
import { proxyFor } from './tcp-proxy.ts'

/** Makes the next `times` writes to a table fail with an SQLSTATE. */
const failing = (table: string, sqlstate: string, times: number) => `
  drop trigger if exists test_fault on ${table};
  drop sequence if exists test_faults;
  create sequence test_faults;
  create or replace function test_fault() returns trigger language plpgsql as
    $$ begin
      -- A sequence keeps its count also when the transaction is rolled back.
      if nextval('test_faults') <= ${times} then raise exception 'on purpose' using errcode = '${sqlstate}'; end if;
      return new;
    end $$;
  create trigger test_fault before insert or update on ${table} for each row execute function test_fault()`

const troubles = {
  '40001': 'serialization failure',
  '40P01': 'deadlock',
  '53100': 'disk full',
  '53200': 'out of memory',
  '53300': 'too many connections',
  '55P03': 'lock not available',
  '57014': 'statement timeout',
  '57P01': 'admin shutdown',
  '57P03': 'starting up',
  '58030': 'I/O error',
  '25006': 'read-only',
}

describe('runs', () => {
  let world: EngineWorld
  let engines: RunningEngine[] = []
  beforeAll(async () => {
    world = await EngineWorld.open()
  })
  afterEach(async () => {
    for (const engine of engines) await engine.crash()
    engines = []
    await world.db.script('drop trigger if exists test_fault on sluice.tasks; delete from sluice.nodes')
  })
  afterAll(() => world.close())

  it('outlast every state of the server, with no attempt blamed', { timeout: 60_000 }, async () => {
    engines = [await world.engine()]
    for (const [sqlstate, what] of Object.entries(troubles)) {
      await world.db.script(failing('sluice.tasks', sqlstate, 2))
      const id = await world.start('wide', { n: 3 })
      expect(await world.ended(id), what).toBe('success')
      expect(await world.tasks(id), what).toMatchObject(Array(4).fill({ state: 'success' }))
    }
    expect(await breaches(world.db, { atRest: true })).toEqual([])
    // A read-only server and one without room are named; the others are told as the server says it.
    const notes = engines[0]!.notes.join('\n')
    expect(notes).toContain('has no room left on its disk')
    expect(notes).toContain('takes no writes now')
    expect(notes).toContain('cannot read or write its files')
  })

  it('outlast a lock that somebody holds for longer than the lease', { timeout: 60_000 }, async () => {
    engines = [await world.engine({ leaseMs: 3_000 })]
    const id = await world.start('gated', world.place('locked'))
    await world.started('locked')
    const notes = () => engines[0]!.notes.join('\n')
    await world.db.transaction(async (session) => {
      await session.script('lock table sluice.nodes in access exclusive mode')
      await until('the engine to give up', () => notes().includes('attempts are ended'))
    })
    await world.go('locked')
    expect(await world.ended(id)).toBe('success')
    expect(notes()).toContain('it reads its runs again')
  })

  it('outlast a server that is slow at everything', { timeout: 60_000 }, async () => {
    const { proxy, url } = await proxyFor(world.url)
    engines = [await world.engine({ url })]
    proxy.set({ kind: 'slow', latencyMs: 250 })
    const id = await world.start('retried')
    expect(await world.ended(id)).toBe('success')
    expect(await world.tasks(id)).toMatchObject([{ attempt: 3, losses: 0 }])
    expect(engines[0]!.notes).toEqual([])
    proxy.set({ kind: 'pass' })
    await engines[0]!.stop()
    engines = []
    await proxy.close()
  })

  it('outlast a restart: sessions ended, new ones turned away, then taken', { timeout: 60_000 }, async () => {
    const { proxy, url } = await proxyFor(world.url)
    engines = [await world.engine({ url })]
    const id = await world.start('gated', world.place('restart'))
    await world.started('restart')
    proxy.set({ kind: 'turn away', sqlstate: '57P03', message: 'the database system is starting up' })
    await world.db.query(endSessions, [`engine ${engines[0]!.nodeId}%`])
    await world.go('restart')
    await until('it to notice', () => engines[0]!.notes.some((note) => note.includes('starting up')))
    proxy.set({ kind: 'pass' })
    expect(await world.ended(id)).toBe('success')
    // The restart was shorter than the lease: the attempt went on.
    expect(await world.tasks(id)).toMatchObject([{ attempt: 1, losses: 0 }])
    await engines[0]!.stop()
    engines = []
    await proxy.close()
  })
})

const endSessions = statement(
  'test.end-sessions',
  'select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name like $1',
)

describe('records', () => {
  const samples = topic('samples', { schema: z.object({ n: z.number() }), partitions: 1 })
  const definition = stream('samples', {
    from: samples,
    id: (record) => String(record.n),
    retry: { attempts: 1 },
    steps: (records) => records.step((record) => ({ id: `row-${record.n}` })),
    to: documents('samples', { key: 'id' }),
  }) as unknown as Stream

  it('outlast every state of the server, and none is rejected or dead for it', { timeout: 60_000 }, async () => {
    const world = await StreamWorld.open()
    const database = openDatabase({ ...world.options, applicationName: 'records', max: 6 })
    const streams = await openStreams({
      ...{ database, streams: [definition], node: randomUUID(), random: Math.random },
      ...{ capabilities: plainCapabilities, adapters: builtIn(database), leaseMs: 3_000 },
    })
    let received = 0
    for (const sqlstate of ['40P01', '53100', '57014', '57P01', '25006'] as const) {
      await world.db.script(failing('sluice.documents', sqlstate, 1))
      await world.publishValues('samples', [{ n: received }, { n: received + 1 }])
      received += 2
      await until(
        `the records after ${troubles[sqlstate]}`,
        async () => (await totals(world.db, 'samples')).written === received,
      )
    }
    expect(await totals(world.db, 'samples')).toMatchObject({ received, written: received, rejected: 0, dead: 0 })
    await streams.stop()
    await database.close()
    expect(await breaches(world.db, { atRest: true })).toEqual([])
    await world.close()
  })
})

describe('a server that is restarted', () => {
  const sleep = statement('test.sleep', 'select pg_sleep(60)')
  const sleeping = statement<{ count: number }>(
    'test.sleeping',
    `select count(*)::int as count from pg_stat_activity where wait_event = 'PgSleep'`,
  )

  it('is found again, however it ended, and who listens is told', { timeout: 60_000 }, async () => {
    const home = await mkdtemp(join(tmpdir(), 'sluice-restart-'))
    let server = await startEmbedded({ home })
    const db = openDatabase({ url: server.url, applicationName: 'restart', max: 2, connectTimeoutMs: 2_000 })
    let back = 0
    await db.listen(
      'news',
      () => {},
      () => {
        back += 1
      },
    )
    // Fast, at once, and by the kernel.
    for (const [index, signal] of (['SIGINT', 'SIGQUIT', 'SIGKILL'] as const).entries()) {
      const asking = expect(db.query(sleep)).rejects.toMatchObject({ code: 'DATABASE_UNREACHABLE' })
      await until('the statement to run', async () => (await db.query(sleeping))[0]!.count === 1)
      process.kill(server.pid, signal)
      await asking
      const former = server
      server = await startEmbedded({ home })
      await former.stop()
      await until('the pool to work', () =>
        db.query(sleeping).then(
          () => true,
          () => false,
        ),
      )
      await until('the listener to be back', () => back === index + 1)
    }
    await db.close()
    await server.stop()
    await rm(home, { recursive: true, force: true })
  })
})
