import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../../test/database.ts'
import { SluiceError } from '../../errors.ts'
import { statement } from '../../ports/database.ts'
import { type PostgresClient, SqlError } from '../../sdk/postgres.ts'
import { type OpenPostgres, openPostgres } from './postgres.ts'
import { postgresSettings } from './settings.ts'

const never = new AbortController().signal

const failureOf = async (work: Promise<unknown>): Promise<SluiceError> => {
  try {
    await work
  } catch (thrown) {
    if (thrown instanceof SluiceError) return thrown
    throw thrown
  }
  throw new Error('nothing was thrown')
}

describe('a connection of kind postgres', () => {
  let test: TestDatabase
  let opened: OpenPostgres
  let sql: PostgresClient
  const open = (settings: object = {}) =>
    openPostgres('house', postgresSettings.parse({ kind: 'postgres', url: test.url, ...settings }))
  beforeAll(async () => {
    test = await testDatabase({ migrated: false })
    await test.db.script('create table t (n int primary key, word text not null check (word <> $$bad$$))')
    opened = open()
    sql = opened.client(never)
  })
  afterAll(async () => {
    await opened.close()
    await test.drop()
  })

  it('reads each type as it says', async () => {
    const [row] =
      await sql.query(`select 1::int2 as i2, 2 as i4, 9007199254740991 as safe, 9007199254740993 as beyond, 1.5::float8 as f8,
      'NaN'::float8 as nan, 12.50::numeric as num, true as yes, null as nothing, 'ü''\\'::text as word,
      timestamptz '2026-01-31 12:00:00+01' as whole, timestamptz '2026-01-31 12:00:00.123456Z' as micro, timestamptz '2026-01-31 12:00:00.5Z' as half,
      'infinity'::timestamptz as ever, timestamp '2026-01-31 12:00:00.25' as wall, date '2026-01-31' as day, '{"a":[1,null]}'::jsonb as doc, 'null'::jsonb as none,
      '\\x00ff'::bytea as bytes, array[1,2] as ints, array[9007199254740993, null] as bigs, array['a,"b', null] as words,
      array[array[1,2],array[3,4]]::int8[] as grid, array[timestamptz '2026-01-31 12:00Z'] as times, array[1.10]::numeric[] as nums,
      interval '1 day 02:03' as span, '{}'::int[] as empty, 'abcdef00-0000-4000-8000-000000000000'::uuid as id`)
    expect(row).toEqual({
      ...{ i2: 1, i4: 2, safe: 9007199254740991, beyond: '9007199254740993', f8: 1.5, nan: Number.NaN, num: '12.50' },
      ...{ yes: true, nothing: null, word: "ü'\\", whole: '2026-01-31T11:00:00.000Z' },
      ...{ micro: '2026-01-31T12:00:00.123456Z', half: '2026-01-31T12:00:00.500Z', ever: 'infinity' },
      ...{ wall: '2026-01-31T12:00:00.25', day: '2026-01-31', doc: { a: [1, null] }, none: null },
      ...{ bytes: Buffer.from([0, 255]), ints: [1, 2], bigs: ['9007199254740993', null], words: ['a,"b', null] },
      ...{
        grid: [
          [1, 2],
          [3, 4],
        ],
        times: ['2026-01-31T12:00:00.000Z'],
        nums: ['1.10'],
        span: '1 day 02:03:00',
      },
      ...{ empty: [], id: 'abcdef00-0000-4000-8000-000000000000' },
    })
  })

  it('takes values of each type', async () => {
    const values = [
      1,
      2n ** 62n,
      'a\'"\\',
      true,
      null,
      undefined,
      new Date('2026-01-31T12:00:00.123Z'),
      Buffer.from([0, 255]),
    ]
    const casts = ['int', 'int8', 'text', 'bool', 'text', 'text', 'timestamptz', 'bytea']
    const text = casts.map((type, index) => `$${index + 1}::${type} as v${index}`).join(', ')
    const [row] = await sql.query<Record<string, unknown>>(
      `select ${text}, $9::jsonb as doc, $10::text[] as list, $11::bytea as raw`,
      [...values, { a: 1 }, ['x', null, '"'], new Uint8Array([7])],
    )
    expect(row).toEqual({
      ...{ v0: 1, v1: String(2n ** 62n), v2: 'a\'"\\', v3: true, v4: null, v5: null },
      ...{ v6: '2026-01-31T12:00:00.123Z', v7: Buffer.from([0, 255]), doc: { a: 1 }, list: ['x', null, '"'] },
      raw: Buffer.from([7]),
    })
  })

  it('takes one statement, and nothing that begins or ends a transaction', async () => {
    expect(await failureOf(sql.query('select 1; select 2'))).toMatchObject({
      code: 'POSTGRES_INVALID',
      sqlState: '42601',
    })
    expect(await failureOf(sql.query("select 1; insert into t values (99, 'x')", []))).toMatchObject({
      sqlState: '42601',
    })
    for (const text of ['begin', 'start transaction'])
      expect(await failureOf(sql.query(text))).toMatchObject({ code: 'USAGE' })
    const inside = sql.transaction(async (tx) => {
      await tx.query("insert into t values (98, 'x')")
      await tx.query('rollback')
    })
    expect(await failureOf(inside)).toMatchObject({ code: 'USAGE' })
    expect(await sql.query('select n from t')).toEqual([])
    expect(await sql.query('')).toEqual([])
  })

  it('leaves nothing of a statement to the next one', async () => {
    const one = open({ pool: 1 })
    const only = one.client(never)
    await only.query("set statement_timeout = '1ms'")
    await only.query('create temp table mine (n int)')
    await only.query('begin').catch(() => {})
    await only.query("insert into t values (50, 'there')")
    const [row] = await only.query(
      `select current_setting('statement_timeout') as timeout, to_regclass('mine') is null as gone`,
    )
    expect(row).toEqual({ timeout: '1min', gone: true })
    expect(await sql.query('delete from t where n = 50 returning n')).toEqual([{ n: 50 }])
    await one.close()
  })

  it('commits what returns, rolls back what throws, at the level it is asked for', async () => {
    await sql.transaction(async (tx) => {
      await tx.query("insert into t values (1, 'one')")
      await tx.query('savepoint a')
      await tx.query("insert into t values (1, 'again')").catch(() => tx.query('rollback to a'))
    })
    await expect(
      sql.transaction(async (tx) => {
        await tx.query("insert into t values (2, 'two')")
        throw new Error('no')
      }),
    ).rejects.toThrow('no')
    expect(await sql.query('select n from t order by n')).toEqual([{ n: 1 }])
    const level = (isolation: 'serializable' | 'repeatable read') =>
      sql.transaction((tx) => tx.query(`select current_setting('transaction_isolation') as level`), { isolation })
    expect([await level('serializable'), await level('repeatable read')]).toEqual([
      [{ level: 'serializable' }],
      [{ level: 'repeatable read' }],
    ])
    const writing = sql.transaction((tx) => tx.query("insert into t values (3, 'x')"), { readOnly: true })
    expect(await failureOf(writing)).toMatchObject({ sqlState: '25006' })
    const odd = sql.transaction(async () => 1, { isolation: 'read committed; drop table t' as never })
    expect(await failureOf(odd)).toMatchObject({ code: 'USAGE' })
  })

  it('tells of a commit that was none, and of a transaction that is over', async () => {
    const ignored = sql.transaction(async (tx) => {
      await tx.query('select 1/0').catch(() => {})
    })
    expect(await failureOf(ignored)).toMatchObject({ code: 'USAGE', message: expect.stringMatching(/rolled back/) })
    let kept: Pick<PostgresClient, 'query'> | undefined
    await sql.transaction(async (tx) => {
      kept = tx
    })
    expect(await failureOf(kept!.query('select 1'))).toMatchObject({
      code: 'USAGE',
      message: 'the transaction has ended',
    })
  })

  it('asks one after another what a transaction asks at once', async () => {
    const rows = await sql.transaction((tx) => Promise.all([1, 2, 3].map((n) => tx.query(`select $1::int as n`, [n]))))
    expect(rows).toEqual([[{ n: 1 }], [{ n: 2 }], [{ n: 3 }]])
  })

  it('names what went wrong, with the SQLSTATE and the constraint', async () => {
    await sql.query("insert into t values (10, 'ten')")
    const cases: [string, string, string, string?][] = [
      ["insert into t values (10, 'x')", 'POSTGRES_REFUSED', '23505', 't_pkey'],
      ['insert into t values (11, null)', 'POSTGRES_REFUSED', '23502'],
      ["insert into t values (11, 'bad')", 'POSTGRES_REFUSED', '23514', 't_word_check'],
      ["select 'x'::int", 'POSTGRES_REFUSED', '22P02'],
      ['select * from nowhere', 'POSTGRES_INVALID', '42P01'],
      ['selec', 'POSTGRES_INVALID', '42601'],
      ['select $1::int, $2::int', 'POSTGRES_INVALID', '08P01'],
      ["do $$ begin raise exception using errcode = '40001', message = 'later'; end $$", 'POSTGRES_FAILED', '40001'],
    ]
    for (const [text, code, sqlState, constraint] of cases) {
      const failure = await failureOf(sql.query(text))
      expect(failure).toBeInstanceOf(SqlError)
      expect(failure).toMatchObject({
        code,
        sqlState,
        constraint,
        message: expect.stringContaining(`(SQLSTATE ${sqlState})`),
      })
      expect(failure.retryable).toBe(code === 'POSTGRES_FAILED')
    }
    expect(await failureOf(sql.query('select $1', Array(70_000).fill(1)))).toMatchObject({ code: 'USAGE' })
    expect(await failureOf(sql.query(5 as never))).toMatchObject({ code: 'USAGE' })
  })

  it('gives up what is cancelled: under way, in a transaction, or before it began', async () => {
    const controller = new AbortController()
    const mine = opened.client(controller.signal)
    const sleeping = failureOf(mine.query('select pg_sleep(600)'))
    const transacting = failureOf(
      mine.transaction(async (tx) => {
        await tx.query("insert into t values (20, 'x')")
        await tx.query('select pg_sleep(600)')
      }),
    )
    await eventually(async () => (await asleep()) === 2)
    controller.abort()
    expect([await sleeping, await transacting]).toMatchObject([{ code: 'CANCELLED' }, { code: 'CANCELLED' }])
    await eventually(async () => (await asleep()) === 0)
    expect(await failureOf(mine.query('select 1'))).toMatchObject({ code: 'CANCELLED' })
    expect(await sql.query('select n from t where n = 20')).toEqual([])
  })

  it('does not wait for a free connection when it is cancelled', async () => {
    const one = open({ pool: 1 })
    const controller = new AbortController()
    const held = Promise.withResolvers<void>()
    const holder = one.client(never).transaction(() => held.promise)
    const waiting = failureOf(one.client(controller.signal).query('select 1'))
    controller.abort()
    expect(await waiting).toMatchObject({ code: 'CANCELLED' })
    held.resolve()
    await holder
    expect(await one.client(never).query('select 1 as n')).toEqual([{ n: 1 }])
    await one.close()
  })

  it('ends what takes too long, and what gives too many rows', async () => {
    const short = open({ statementTimeout: '50ms' })
    expect(await failureOf(short.client(never).query('select pg_sleep(600)'))).toMatchObject({
      code: 'TIMEOUT',
      retryable: true,
    })
    await short.close()
    const small = open({ maxRows: 100 })
    const client = small.client(never)
    expect(await failureOf(client.query('select * from generate_series(1, 101)'))).toMatchObject({
      code: 'USAGE',
      message: expect.stringMatching(/more than 100 rows/),
    })
    expect(await client.query('select * from generate_series(1, 100)')).toHaveLength(100)
    await small.close()
  })

  it('says when all connections are busy, or the server is not there, or refuses', async () => {
    const one = open({ pool: 1, connectTimeout: '300ms' })
    // Its connection is there from now on, however slow this machine is.
    await eventually(() =>
      one
        .client(never)
        .query('select 1')
        .then(
          () => true,
          () => false,
        ),
    )
    const held = Promise.withResolvers<void>()
    const holder = one.client(never).transaction(() => held.promise)
    const busy = await failureOf(one.client(never).query('select 1'))
    expect(busy).toMatchObject({
      code: 'POSTGRES_UNREACHABLE',
      isAttempt: false,
      message: expect.stringMatching(/all 1 connections/),
    })
    held.resolve()
    await holder
    await one.close()
    const away = open({ url: 'postgresql://nobody@127.0.0.1:1/none' })
    expect(await failureOf(away.client(never).query('select 1'))).toMatchObject({
      code: 'POSTGRES_UNREACHABLE',
      retryable: true,
    })
    await away.close()
    const unknown = open({ url: test.url.replace(/sluice_test_\w+/, 'sluice_not_there') })
    expect(await failureOf(unknown.client(never).query('select 1'))).toMatchObject({ code: 'CONFIGURATION' })
    await unknown.close()
  })

  it('fails what was under way when its connection is killed, and goes on with another', async () => {
    const sleeping = failureOf(sql.query('select pg_sleep(600)'))
    await eventually(async () => (await asleep()) === 1)
    await test.db.query(killStatement)
    expect(await sleeping).toMatchObject({ code: 'POSTGRES_FAILED', retryable: true })
    expect(await sql.query('select 1 as n')).toEqual([{ n: 1 }])
  })

  it('never shows the password', async () => {
    const secret = 'h:u@n/t?er#2 %'
    const hidden = open({ url: 'postgresql://someone:hunter2@127.0.0.1:1/none', password: secret })
    const failure = await failureOf(hidden.client(never).query('select 1'))
    const shown = inspect([failure, hidden, hidden.client(never)], { depth: 9, showHidden: true }) + failure.stack
    for (const text of [secret, encodeURIComponent(secret), 'hunter2']) expect(shown).not.toContain(text)
    await hidden.close()
  })

  const asleep = async () => (await test.db.query(asleepStatement)).length
})

const asleepStatement = statement(
  'test.asleep',
  `select 1 from pg_stat_activity where datname = current_database() and query like 'select pg_sleep%' and state = 'active'`,
)
const killStatement = statement(
  'test.kill-asleep',
  `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'select pg_sleep%' and state = 'active'`,
)

async function eventually(holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error('it did not come to pass within 30 s')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
