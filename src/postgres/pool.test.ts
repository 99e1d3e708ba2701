import { once } from 'node:events'
import { createServer } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { type Database, statement } from '../ports/database.ts'
import { openDatabase } from './pool.ts'

let own: TestDatabase
let db: Database
beforeAll(async () => {
  own = await testDatabase({ migrated: false })
  db = own.db
  await db.script('CREATE TABLE items (id int PRIMARY KEY, name text); CREATE TABLE more (id int);')
})
afterAll(() => own.drop())

const one = statement<{ n: number }>('test.one', 'SELECT 1 AS n')
const myBackend = statement<{ pid: number }>('test.backend', 'SELECT pg_backend_pid() AS pid')
const kill = statement('test.kill', 'SELECT pg_terminate_backend($1, 5000)')
const insert = statement('test.insert', 'INSERT INTO items SELECT * FROM unnest($1::int[], $2::text[])')
const count = statement<{ n: number }>('test.count', 'SELECT count(*) AS n FROM items')
const empty = statement('test.empty', 'DELETE FROM items')
const prepared = statement<{ name: string }>('test.prepared', 'SELECT name FROM pg_prepared_statements ORDER BY name')
const notify = statement('test.notify', 'SELECT pg_notify($1, $2)')

const alone = (more: Partial<Parameters<typeof openDatabase>[0]> = {}) =>
  openDatabase({ ...own.options, max: 1, ...more })

test('values come as what they are', async () => {
  const all = statement<Record<string, unknown>>(
    'test.values',
    `SELECT 9007199254740991::int8 AS big, '{1,NULL}'::int8[] AS bigs, '2024-05-06 07:08:09.5+02'::timestamptz AS time,
      '2024-02-29'::date AS day, '{2024-02-29}'::date[] AS days, 1.10::numeric AS exact, '{"a":1}'::jsonb AS json, '\\x00ff'::bytea AS bytes`,
  )
  expect(await db.query(all)).toEqual([
    {
      big: 9_007_199_254_740_991,
      bigs: [1, null],
      time: new Date('2024-05-06T05:08:09.500Z'),
      day: '2024-02-29',
      days: ['2024-02-29'],
      exact: '1.10',
      json: { a: 1 },
      bytes: Buffer.from([0, 255]),
    },
  ])
})

test('an int8 that no number can hold is an error, not another number', async () => {
  const huge = statement('test.huge', 'SELECT 9007199254740993::int8 AS n')
  await expect(db.query(huge)).rejects.toMatchObject({
    code: 'INTERNAL',
    message: expect.stringContaining('9007199254740993'),
  })
})

test('a statement is prepared once under its name, and one that fails keeps the connection', async () => {
  const pool = alone()
  const before = await pool.query(myBackend)
  await pool.query(one)
  await pool.query(one)
  await expect(pool.query(statement('test.wrong', 'SELECT nonsense'))).rejects.toMatchObject({ code: '42703' })
  expect(await pool.query(myBackend)).toEqual(before)
  const names = (await pool.query(prepared)).map(({ name }) => name)
  expect(names).toEqual(['test.backend', 'test.one', 'test.prepared'])
  await pool.close()
})

test('a transaction commits what returns and rolls back what throws', async () => {
  expect(
    await db.transaction((session) =>
      session.execute(insert, [
        [1, 2],
        ['a', 'b'],
      ]),
    ),
  ).toBe(2)
  const failing = db.transaction(async (session) => {
    await session.execute(insert, [[3], ['c']])
    throw new Error('thought better of it')
  })
  await expect(failing).rejects.toThrow('thought better of it')
  expect(await db.query(count)).toEqual([{ n: 2 }])
  expect(await db.execute(empty)).toBe(2)
})

test('a failure inside that the work ignored does not pass for a commit', async () => {
  const careless = db.transaction(async (session) => {
    await session.execute(insert, [[1], ['a']])
    await session.execute(insert, [[1], ['again']]).catch(() => {})
  })
  await expect(careless).rejects.toMatchObject({ code: 'INTERNAL', message: expect.stringContaining('rolled back') })
  expect(await db.query(count)).toEqual([{ n: 0 }])
})

test('copies rows of every size in, alone and in a transaction', async () => {
  const sql = 'COPY items FROM STDIN'
  const wide = 'w'.repeat(200_000)
  async function* rows() {
    for (let id = 0; id < 5_000; id++) yield `${id}\tname ${id}\n`
    yield Buffer.from(`5000\tbytes\n`)
    yield `5001\t${wide}\n`
  }
  expect(await db.copyIn(sql, rows())).toBe(5_002)
  expect(await db.transaction((session) => session.copyIn(sql, ['-1\ta\n', '-2\tb\n']))).toBe(2)
  expect(await db.copyIn(sql, [])).toBe(0)
  expect(await db.execute(empty)).toBe(5_004)
})

test('a copy whose source or rows fail leaves nothing and the connection usable', async () => {
  const pool = alone()
  const before = await pool.query(myBackend)
  const source = function* () {
    yield '1\ta\n'
    throw new Error('the source broke')
  }
  await expect(pool.copyIn('COPY items FROM STDIN', source())).rejects.toThrow('the source broke')
  await expect(pool.copyIn('COPY items FROM STDIN', ['x\ta\n'])).rejects.toMatchObject({ code: '22P02' })
  await expect(pool.copyIn('COPY nowhere FROM STDIN', ['1\n'])).rejects.toMatchObject({ code: '42P01' })
  expect(await pool.query(count)).toEqual([{ n: 0 }])
  expect(await pool.query(myBackend)).toEqual(before)
  await pool.close()
})

test('a connection that dies idle is replaced, one that dies in use is DATABASE_UNREACHABLE', async () => {
  const pool = alone()
  const [{ pid } = { pid: 0 }] = await pool.query(myBackend)
  await db.query(kill, [pid])
  const next = await pool.query(myBackend).catch(() => pool.query(myBackend))
  expect(next[0]?.pid).not.toBe(pid)
  const dying = pool.transaction(async (session) => {
    const [mine] = await session.query(myBackend)
    await db.query(kill, [mine?.pid])
    await session.query(one)
  })
  await expect(dying).rejects.toMatchObject({ code: 'DATABASE_UNREACHABLE', retryable: true })
  expect(await pool.query(one)).toEqual([{ n: 1 }])
  await pool.close()
})

test('a server that is not there, refuses, or never answers is DATABASE_UNREACHABLE, without the password', async () => {
  const silent = createServer()
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const { port } = silent.address() as { port: number }
  const places = [
    { socketDir: '/nowhere' },
    { url: 'postgresql://me:hush@127.0.0.1:1/x' },
    { url: own.url.replace(/sluice_test_\w+/, 'no_such_database') },
    { url: `postgresql://me:hush@127.0.0.1:${port}/x`, connectTimeoutMs: 50 },
  ]
  for (const place of places) {
    const pool = openDatabase({ applicationName: 'test', max: 1, ...place })
    const failure = await pool.query(one).catch((thrown: unknown) => thrown)
    expect(failure).toMatchObject({ code: 'DATABASE_UNREACHABLE' })
    expect(String(failure)).not.toContain('hush')
    await pool.close()
  }
  silent.close()
})

test('options that cannot be are refused', () => {
  const wrong = { code: 'CONFIGURATION' }
  expect(() => openDatabase({ applicationName: 'x', max: 1 })).toThrow(expect.objectContaining(wrong))
  expect(() => openDatabase({ applicationName: 'x', max: 1, url: 'mysql://x' })).toThrow(expect.objectContaining(wrong))
})

test('a statement over its time is ended by the server', async () => {
  const pool = alone({ statementTimeoutMs: 20 })
  await expect(pool.query(statement('test.sleep', 'SELECT pg_sleep(60)'))).rejects.toMatchObject({ code: '57014' })
  await pool.close()
})

/** Notes what comes and lets a test wait for it. */
function recorder() {
  const seen: string[] = []
  return {
    seen,
    note: (text: string) => void seen.push(text),
    has: (...all: string[]) => expect.poll(() => seen).toEqual(all),
  }
}

test('notifications reach each subscriber of a channel until it stops', async () => {
  const pool = alone()
  const first = recorder()
  const second = recorder()
  const stopFirst = await pool.listen('Odd "name"', first.note)
  const stopSecond = await pool.listen('Odd "name"', second.note)
  await pool.query(notify, ['Odd "name"', 'a'])
  await first.has('a')
  await second.has('a')
  await stopFirst()
  await pool.query(notify, ['Odd "name"', 'b'])
  await second.has('a', 'b')
  await stopSecond()
  await stopSecond()
  expect(first.seen).toEqual(['a'])
  await pool.close()
})

test('a listener that was cut off comes back, says so, and hears again', async () => {
  const pool = alone({ applicationName: 'cut' })
  const heard = recorder()
  await pool.listen('a', heard.note, () => heard.note('back a'))
  await pool.listen('b', heard.note, () => heard.note('back b'))
  await db.query(
    statement(
      'test.cut',
      "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'cut listen'",
    ),
  )
  await heard.has('back a', 'back b')
  await pool.query(notify, ['b', 'hello'])
  await heard.has('back a', 'back b', 'hello')
  await pool.close()
})

test('closing ends what listens, also while it cannot reconnect', async () => {
  const pool = openDatabase({ socketDir: '/nowhere', applicationName: 'x', max: 1 })
  await expect(pool.listen('a', () => {})).rejects.toMatchObject({ code: 'DATABASE_UNREACHABLE' })
  await pool.close()
  await pool.close()
})
