/** What a bad network between Sluice and its database does to the pool and to LISTEN, through a real proxy to a real server. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { statement } from '../../src/ports/database.ts'
import { openListener } from '../../src/postgres/listener.ts'
import { openDatabase, openHeartbeat, type PooledDatabase } from '../../src/postgres/pool.ts'
import { type TestDatabase, testDatabase } from '../database.ts'
import { until } from '../engine-world.ts'
import { proxyFor, type TcpProxy } from './tcp-proxy.ts'

let own: TestDatabase
let proxy: TcpProxy
let url: string
let pool: PooledDatabase
const unreachable = { code: 'DATABASE_UNREACHABLE', retryable: true, retryAfterMs: 5_000 }

beforeAll(async () => {
  own = await testDatabase({ migrated: false })
  await own.db.script('CREATE TABLE kept (id int PRIMARY KEY)')
})
afterAll(() => own.drop())
beforeEach(async () => {
  ;({ proxy, url } = await proxyFor(own.url))
  pool = openDatabase({ url, applicationName: 'faulty', max: 2, answerTimeoutMs: 300, idleInTransactionMs: 500 })
})
afterEach(async () => {
  await proxy.close()
  await pool.close()
  await own.db.script('TRUNCATE kept')
})

const one = statement<{ n: number }>('test.one', 'SELECT 1 AS n')
const backend = statement<{ pid: number }>('test.backend', 'SELECT pg_backend_pid() AS pid')
const keep = statement('test.keep', 'INSERT INTO kept VALUES ($1)')
const kept = statement<{ id: number }>('test.kept', 'SELECT id FROM kept ORDER BY id')
const sleep = statement('test.sleep', 'SELECT pg_sleep($1)')
const sessions = statement<{ state: string }>(
  'test.sessions',
  `SELECT state FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'faulty'`,
)
const lockRow = statement('test.lock-row', 'SELECT id FROM kept WHERE id = $1 FOR UPDATE')

/** The process id of its backend. Answers may take longer than the short limit here on a machine that is busy: it is asked again. */
async function works(): Promise<number> {
  let pid = 0
  await until('the pool to work', async () => {
    pid = (await pool.query(backend).catch(() => []))[0]?.pid ?? 0
    return pid > 0
  })
  return pid
}

const notify = statement('test.notify', `SELECT pg_notify('news', $1)`)

describe('the pool', () => {
  it('replaces connections that are reset, idle or in use', async () => {
    const before = await works()
    proxy.reset()
    expect(await works()).not.toBe(before)
    const asking = expect(pool.query(sleep, [30])).rejects.toMatchObject(unreachable)
    await until('the statement to run', async () => (await own.db.query(sessions)).some((it) => it.state === 'active'))
    proxy.reset()
    await asking
    await works()
  })

  it('says that nobody listens, and goes on when somebody does', async () => {
    proxy.set({ kind: 'refuse' })
    await expect(pool.query(one)).rejects.toMatchObject(unreachable)
    proxy.set({ kind: 'pass' })
    await works()
  })

  it.each(['requests', 'answers', 'both'] as const)(
    'destroys a connection whose %s vanish, and opens another',
    async (of) => {
      const before = await works()
      proxy.set({ kind: 'vanish', of })
      await expect(pool.query(one)).rejects.toMatchObject({
        ...unreachable,
        message: expect.stringContaining('it has not answered for 300 ms'),
      })
      proxy.set({ kind: 'pass' })
      expect(await works()).not.toBe(before)
    },
  )

  it('does not wait for a server that takes the connection and says nothing', async () => {
    const heartbeat = openHeartbeat({ url, applicationName: 'faulty' }, 200)
    proxy.set({ kind: 'vanish', of: 'both' })
    await expect(heartbeat.query(one)).rejects.toMatchObject(unreachable)
    proxy.set({ kind: 'pass' })
    expect(await heartbeat.query(one)).toEqual([{ n: 1 }])
    await heartbeat.close()
  })

  it('destroys a connection on which an answer is torn', async () => {
    await works()
    proxy.cut({ at: 'byte', number: 7, end: 'stall' })
    await expect(pool.query(one)).rejects.toMatchObject(unreachable)
    expect(proxy.struck).toBe(true)
    proxy.cut({ at: 'byte', number: 7, end: 'reset' })
    await expect(pool.query(one)).rejects.toMatchObject(unreachable)
    await works()
  })

  it('gives what a slow network brings, in time and whole', async () => {
    const patient = openDatabase({ url, applicationName: 'faulty', max: 1 })
    proxy.set({ kind: 'slow', latencyMs: 20, bytesPerSecond: 500_000 })
    const wide = statement<{ text: string }>('test.wide', `SELECT repeat('w', 100000) AS text`)
    expect((await patient.query(wide))[0]?.text).toHaveLength(100_000)
    await patient.close()
  })

  it('does not say of a commit whose answer was lost that it failed or that it went well', async () => {
    proxy.cut({ at: 'commit', number: 1 })
    const lost = pool.transaction((session) => session.execute(keep, [1]))
    await expect(lost).rejects.toMatchObject(unreachable)
    expect(proxy.struck).toBe(true)
    await until('the commit', async () => (await own.db.query(kept)).length === 1)
  })

  it('leaves no lock behind when it vanishes inside a transaction: the server ends that after its time', async () => {
    await own.db.execute(keep, [7])
    const vanishing = pool.transaction(async (session) => {
      await session.query(lockRow, [7])
      proxy.set({ kind: 'vanish', of: 'both' })
      await session.query(one)
    })
    await expect(vanishing).rejects.toMatchObject(unreachable)
    // Waits for the lock until the server has ended the session that holds it.
    expect(await own.db.query(lockRow, [7])).toHaveLength(1)
  })

  it('copies in: a connection that takes nothing more is destroyed, and nothing of it stays', async () => {
    const rows = function* () {
      for (let id = 0; id < 400_000; id++) {
        if (id === 1_000) proxy.set({ kind: 'vanish', of: 'both' })
        yield `${id}\n`
      }
    }
    await expect(pool.copyIn('COPY kept FROM STDIN', rows())).rejects.toMatchObject(unreachable)
    proxy.set({ kind: 'pass' })
    proxy.reset()
    await until('the server to let go', async () => (await own.db.query(sessions)).length === 0)
    expect(await own.db.query(kept)).toEqual([])
  })

  it('passes on what the work in a transaction throws, whatever it looks like, and rolls back', async () => {
    const missing = Object.assign(new Error('no such file'), { code: 'ENOENT' })
    const failing = pool.transaction(async (session) => {
      await session.execute(keep, [1])
      throw missing
    })
    await expect(failing).rejects.toBe(missing)
    const before = await works()
    expect(await own.db.query(kept)).toEqual([])
    expect(await works()).toBe(before)
  })

  it('says of connections that are all in use that they are', async () => {
    const busy = openDatabase({ url, applicationName: 'faulty', max: 1, connectTimeoutMs: 100 })
    const holding = busy.query(sleep, [1])
    await expect(busy.query(one)).rejects.toMatchObject({
      ...unreachable,
      message: expect.stringContaining('all 1 connections were busy'),
    })
    await holding
    await busy.close()
  })

  it('closes though its connections are half open', async () => {
    await Promise.all([pool.query(one), pool.listen('news', () => {})])
    proxy.set({ kind: 'vanish', of: 'both' })
    await pool.close()
  })
})

describe('a listener', () => {
  it('notices a connection that only seems open, and says so after it is back: what was missed is read', async () => {
    const listener = openListener(
      { url, applicationName: 'faulty', connectTimeoutMs: 300 },
      { checkMs: 50, answerMs: 200 },
    )
    const heard: string[] = []
    await listener.listen(
      'news',
      (text) => heard.push(text),
      () => heard.push('back'),
    )
    await own.db.query(notify, ['first'])
    await until('the news', () => heard.length === 1)
    proxy.set({ kind: 'vanish', of: 'both' })
    await own.db.query(notify, ['missed'])
    await until('it to be given up', () => proxy.accepted > 1)
    proxy.set({ kind: 'pass' })
    await until('it to be back', () => heard.includes('back'))
    await own.db.query(notify, ['last'])
    await until('the last news', () => heard.includes('last'))
    expect(heard).toEqual(['first', 'back', 'last'])
    await listener.close()
  })

  it('stays on a connection that answers, however long nothing happens', async () => {
    const listener = openListener({ url, applicationName: 'faulty' }, { checkMs: 5, answerMs: 10_000 })
    await listener.listen('news', () => {})
    await delay(100)
    expect(proxy.accepted).toBe(1)
    await listener.close()
  })
})
