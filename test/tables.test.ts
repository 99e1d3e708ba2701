/** Tables and topics as the ends of streams: every record where it belongs, once, whatever fails meanwhile. */
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { streamAdapters } from '../src/app/stream-adapters.ts'
import { SluiceError } from '../src/errors.ts'
import { type Database, statement } from '../src/ports/database.ts'
import { z } from '../src/sdk/schema.ts'
import { type Stream, stream } from '../src/sdk/stream.ts'
import { type TableOptions, table } from '../src/sdk/table.ts'
import { topic } from '../src/sdk/topic.ts'
import { totals } from '../src/store/ledger.ts'
import { openStreams } from '../src/streams/streams.ts'
import { noObjects, plainCapabilities, StreamWorld } from './stream-world.ts'

const nextTurn = () => new Promise((resolve) => setTimeout(resolve, 5))

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error('it did not come to pass within 30 s')
    await nextTurn()
  }
}

let made = 0
const lineSchema = z.object({ n: z.number(), key: z.string(), word: z.string().nullable() })
type Line = z.infer<typeof lineSchema>

/** A stream from a topic of its own to a table or a topic, whose steps change nothing. */
function streamTo(to: unknown, options: { readonly partitions?: number; readonly key?: boolean } = {}) {
  made += 1
  const name = `to-${made}`
  const from = topic(name, { schema: lineSchema, partitions: options.partitions ?? 1, key: (line) => line.key })
  const definition = stream(name, {
    from,
    id: (line) => `id-${line.n}`,
    ...(options.key ? { key: (line: Line) => line.key } : {}),
    steps: (records) => records.step((line) => line as never),
    to: to as never,
  })
  return { name, definition: definition as unknown as Stream }
}

const rowsStatement = statement<Line & { record_id: string | null }>(
  'test.app-lines',
  'select n, key, word, record_id from app.lines order by seq',
)

/** Whose transactions fail as planned: rolled back, or committed though the answer never comes. */
function crashing(db: Database, plan: readonly ('before' | 'after' | 'none')[]): Database {
  let next = 0
  return {
    ...db,
    transaction: async (work) => {
      const crash = plan[next++] ?? 'none'
      const result = await db.transaction(async (session) => {
        const given = await work(session)
        if (crash === 'before') throw new SluiceError('DATABASE_UNREACHABLE', 'crash before the commit')
        return given
      })
      if (crash === 'after') throw new SluiceError('DATABASE_UNREACHABLE', 'crash after the commit')
      return result
    },
  }
}

async function runOn(world: StreamWorld, definition: Stream, database: Database): Promise<void> {
  for (;;) {
    try {
      return await world.runToRest(definition, { database })
    } catch (thrown) {
      if (!(thrown instanceof SluiceError && thrown.code === 'DATABASE_UNREACHABLE')) throw thrown
    }
  }
}

describe('a table as the end of a stream', () => {
  let world: StreamWorld
  beforeEach(async () => {
    world = await StreamWorld.open()
    await world.db.script(`create schema app; create table app.words (word text primary key);
      insert into app.words values ('good'), ('fine');
      create table app.lines (
        seq bigint generated always as identity, n int not null check (n >= 0), key text not null, word varchar(8) references app.words,
        record_id text, unique (key, n));
      create function app.judge() returns trigger language plpgsql as
        $$ begin if new.n = 666 then raise exception 'not this one'; end if; return new; end $$;
      create trigger judging before insert on app.lines for each row execute function app.judge()`)
  })
  afterEach(() => world.close())
  const lines = (options: Partial<TableOptions<Line>> = {}) => table('app.lines', { schema: lineSchema, ...options })
  const rows = () => world.db.query(rowsStatement)
  const endsOf = async (name: string) =>
    (await world.ends(name)).map(({ offset, outcome, reason }) => [
      offset,
      outcome === 'filtered' ? 'written' : outcome,
      reason,
    ])

  it.each([
    ['without a key', {}],
    ['with a key', { key: ['key', 'n'] as const, recordId: 'record_id' }],
  ])('%s: a row that the server does not take ends its record alone, with the reason', async (_, options) => {
    const { name, definition } = streamTo(lines(options))
    await world.make(definition)
    const given: [object, string | null][] = [
      [{ n: 1, key: 'a', word: 'good' }, null],
      [{ n: -1, key: 'a', word: 'good' }, 'check violation'],
      [{ n: 2, key: 'a', word: 'unknown' }, 'missing reference'],
      [{ n: 3, key: 'a', word: 'far too long a word' }, 'not storable'],
      [{ n: 1.5, key: 'a', word: null }, 'wrong type'],
      [{ n: 2_147_483_648, key: 'a', word: null }, 'wrong type'],
      [{ n: 4, key: 'a', word: 'a\0b' }, 'zero character'],
      [{ n: 666, key: 'a', word: null }, 'refused by a trigger'],
      [{ n: 5, key: 'b', word: null }, null],
    ]
    await world.publishValues(name, given.map(([value]) => value) as never)
    await world.runToRest(definition)
    expect(await endsOf(name)).toEqual(
      given.map(([, reason], offset) => [offset, reason === null ? 'written' : 'rejected', reason]),
    )
    expect((await rows()).map(({ n, key, word }) => [n, key, word])).toEqual([
      [1, 'a', 'good'],
      [5, 'b', null],
    ])
    expect(await totals(world.db, name)).toMatchObject({ received: 9, written: 2, rejected: 7, pending: 0 })
    expect(await world.breaches({ atRest: true, tables: [{ stream: name, table: 'app.lines' }] })).toEqual([])
  })

  it('finds many rows that the server refuses within few transactions', async () => {
    for (const options of [{}, { key: ['key', 'n'] as const }]) {
      await world.db.script('truncate app.lines')
      const { name, definition } = streamTo(lines(options))
      await world.make(definition)
      const given = Array.from({ length: 300 }, (_, n) => ({ n: n % 2 === 0 ? n : -n, key: 'a', word: null }))
      await world.publishValues(name, given)
      let transactions = 0
      const counting: Database = {
        ...world.db,
        transaction: (work) => {
          transactions += 1
          return world.db.transaction(work)
        },
      }
      await world.runToRest(definition, { database: counting })
      expect(await totals(world.db, name)).toMatchObject({ written: 150, rejected: 150, pending: 0 })
      // By halving commits it would be over 300.
      expect(transactions).toBeLessThan(60)
    }
  })

  it('without a key, a row that another unique index refuses is rejected', async () => {
    const { name, definition } = streamTo(lines())
    await world.make(definition)
    await world.publish(
      name,
      [1, 2, 3].map((id) => ({ id: `${id}`, key: null, value: JSON.stringify({ n: 1, key: 'a', word: null }) })),
    )
    await world.runToRest(definition)
    expect((await endsOf(name)).map(([, outcome, reason]) => [outcome, reason])).toEqual([
      ['written', null],
      ['rejected', 'unique violation'],
      ['rejected', 'unique violation'],
    ])
  })

  it('with a key, the first record stands, its repeats are its own, others are duplicates', async () => {
    const { name, definition } = streamTo(lines({ key: ['n', 'key'], recordId: 'record_id' }))
    await world.make(definition)
    await world.db.script(`insert into app.lines (n, key, word, record_id) values (7, 'a', 'fine', 'another')`)
    const line = (id: number, n: number) => ({
      id: `p${id}`,
      key: null,
      value: JSON.stringify({ n, key: 'a', word: 'good' }),
    })
    await world.publish(name, [line(1, 1), line(2, 7), line(3, 1)])
    await world.runToRest(definition)
    // The third is the same record by the id that the stream gives it.
    expect((await endsOf(name)).map(([, outcome]) => outcome)).toEqual(['written', 'duplicate', 'written'])
    expect((await rows()).map(({ n, word, record_id }) => [n, word, record_id])).toEqual([
      [7, 'fine', 'another'],
      [1, 'good', 'id-1'],
    ])
  })

  it('that updates keeps the other columns, and the last offset wins', async () => {
    await world.db.script('alter table app.lines add column kept int default 5')
    const { name, definition } = streamTo(lines({ key: ['n', 'key'], onConflict: 'update', recordId: 'record_id' }))
    await world.make(definition)
    const line = (id: number, word: string | null) => ({
      id: `p${id}`,
      key: null,
      value: JSON.stringify({ n: 1, key: 'a', word }),
    })
    await world.publish(name, [line(1, 'good'), line(2, null), line(3, 'fine')])
    await world.runToRest(definition)
    await world.publish(name, [line(4, 'fine'), line(5, 'good')])
    await world.runToRest(definition)
    expect((await rows()).map(({ n, word }) => [n, word])).toEqual([[1, 'good']])
    expect(await totals(world.db, name)).toMatchObject({ received: 5, written: 5 })
  })

  it('keeps every value as it was given', async () => {
    await world.db.script(`create domain app.percent as int check (value <= 100); create type app.mood as enum ('so', 'la');
      create table app.many (id int primary key, i2 int2, i8 int8, f4 float4, f8 float8, num numeric(12, 2), yes boolean, word text, short char(3), mood app.mood,
        at timestamptz, wall timestamp, day date, doc jsonb, plain json, bytes bytea, ints int[], words text[], docs jsonb[], grid int8[], uid uuid, addr inet,
        span interval, part app.percent, "Odd name" int default 7)`)
    const some = z.any().optional()
    const any = z.object({
      ...{
        id: z.number(),
        i2: some,
        i8: some,
        f4: some,
        f8: some,
        num: some,
        yes: some,
        word: some,
      },
      ...{ short: some, mood: some, at: some, wall: some, day: some, doc: some, plain: some },
      ...{ bytes: some, ints: some, words: some, docs: some, grid: some, uid: some, addr: some },
      ...{ span: some, part: some },
    })
    const full = {
      ...{
        id: 1,
        i2: -32_768,
        i8: 2n ** 63n - 1n,
        f4: 1.5,
        f8: Number.NaN,
        num: '12345678.905',
        yes: false,
        word: 'a\t"\'\\N\n{},ü😀',
      },
      ...{
        short: 'ab',
        mood: 'la',
        at: new Date('2026-01-31T12:00:00.123Z'),
        wall: '2026-01-31T12:00:00.5',
        day: '2026-02-03',
      },
      ...{
        doc: { a: [1, 'ü"\\', null] },
        plain: [1, { b: true }],
        bytes: new Uint8Array([0, 92, 255]),
        ints: [1, null, -3],
      },
      ...{
        words: ['a,b', '"', '\\', 'NULL', '', null, '{x}'],
        docs: [{ a: 1 }, [2], 'x'],
        grid: [
          [1, 2],
          [3, 4],
        ],
      },
      ...{ uid: 'abcdef00-0000-4000-8000-000000000000', addr: '10.0.0.0/8', span: '1 day', part: 100 },
    }
    const empty = { id: 2 }
    for (const [key, expected] of [
      [undefined, 1],
      ['id', 2],
    ] as const) {
      await world.db.script('truncate app.many')
      const many = table('app.many', { schema: any, ...(key === undefined ? {} : { key }) })
      const { definition, name } = streamTo(many)
      const withRows: Stream = {
        ...definition,
        steps: [{ name: 'rows', work: (line) => ((line as Line).n === 1 ? full : empty) }],
      }
      await world.make(withRows)
      await world.publishValues(
        name,
        [1, 2].map((n) => ({ n, key: 'k', word: null })),
      )
      await world.runToRest(withRows)
      expect((await world.ends(name)).filter(({ outcome }) => outcome === 'rejected')).toEqual([])
      expect(await totals(world.db, name)).toMatchObject({ written: 2 })
      const [one, two] = await world.db.query(manyStatement)
      expect([expected, one]).toEqual([
        expected,
        {
          ...{
            id: 1,
            i2: -32_768,
            i8: '9223372036854775807',
            f4: 1.5,
            f8: 'NaN',
            num: '12345678.91',
            yes: false,
            word: full.word,
            short: 'ab ',
            mood: 'la',
          },
          ...{
            at: '2026-01-31 12:00:00.123+00',
            wall: '2026-01-31 12:00:00.5',
            day: '2026-02-03',
            doc: full.doc,
            plain: full.plain,
            bytes: '\\x005cff',
          },
          ...{
            ints: [1, null, -3],
            words: full.words,
            docs: full.docs,
            grid: '{{1,2},{3,4}}',
            uid: full.uid,
            addr: '10.0.0.0/8',
          },
          ...{ span: '1 day', part: 100, odd: 7 },
        },
      ])
      expect(Object.entries(two!).filter(([, value]) => value !== null)).toEqual([
        ['id', 2],
        ['odd', 7],
      ])
    }
  })

  it('rests with a clear fault while its table is not as it is defined, and goes on when it is', async () => {
    await world.db.script('create table app.later (n int, key text, word text, must int not null)')
    const { name, definition } = streamTo(table('app.later', { schema: lineSchema, key: 'n', recordId: 'rid' }))
    await world.make(definition)
    await world.publishValues(name, [{ n: 1, key: 'a', word: null }])
    const told: string[] = []
    const streams = await openStreams({
      ...{ database: world.db, streams: [definition], node: crypto.randomUUID(), random: Math.random },
      ...{ capabilities: plainCapabilities, adapters: streamAdapters({ db: world.db, objects: noObjects }) },
      report: (message, fields) => told.push(`${message}: ${fields.error}`),
    })
    try {
      await until(async () => told.length >= 3)
      expect(told[0]).toBe(
        'a shard was given up: CONFIGURATION: The table app.later cannot take the rows of a stream: it has no column rid, but n, key, word, must; its column must must have a value, and is no field of the schema; it has no unique index on (n) that is neither partial nor deferrable',
      )
      // The rest grows from one to the next: it does not spin.
      expect(told.length).toBeLessThan(50)
      expect(await totals(world.db, name)).toMatchObject({ pending: 1, written: 0 })
      await world.db.script(
        'drop table app.later; create table app.later (n int unique, key text, word text, rid text)',
      )
      await until(async () => (await totals(world.db, name)).written === 1)
    } finally {
      await streams.stop()
    }
  })

  it('goes on when its table is changed under it', async () => {
    const { name, definition } = streamTo(lines({ key: ['n', 'key'] }))
    await world.make(definition)
    const streams = await openStreams({
      ...{ database: world.db, streams: [definition], node: crypto.randomUUID(), random: Math.random },
      ...{ capabilities: plainCapabilities, adapters: streamAdapters({ db: world.db, objects: noObjects }) },
    })
    try {
      await world.publishValues(name, [{ n: 1, key: 'a', word: null }])
      await until(async () => (await totals(world.db, name)).written === 1)
      await world.db.script('alter table app.lines alter column n type bigint, alter column word type text')
      await world.publishValues(name, [{ n: 2 ** 40, key: 'a', word: null }])
      await until(async () => (await totals(world.db, name)).received === 2)
    } finally {
      await streams.stop()
    }
  })

  it('has each record once, whatever crashes, before a commit or after it', async () => {
    const plan = fc.array(fc.constantFrom('before', 'after', 'none', 'none' as const), { maxLength: 10 })
    const script = fc.record({
      crashes: plan,
      partitions: fc.constantFrom(1, 3),
      keyed: fc.boolean(),
      batches: fc.array(
        fc.array(fc.record({ n: fc.integer({ min: -2, max: 30 }), key: fc.constantFrom('a', 'b', 'c') }), {
          maxLength: 20,
        }),
        { minLength: 1, maxLength: 3 },
      ),
    })
    await fc.assert(
      fc.asyncProperty(script, async ({ crashes, partitions, keyed, batches }) => {
        await world.db.script('truncate app.lines')
        const to = keyed ? lines({ key: ['n', 'key'], recordId: 'record_id' }) : lines({ recordId: 'record_id' })
        const { name, definition } = streamTo(to, { partitions, key: true })
        await world.make(definition)
        const database = crashing(world.db, crashes as never)
        const seen = new Map<string, number>()
        let count = 0
        for (const batch of batches) {
          const records = batch.map((one) => {
            count += 1
            const first = seen.get(`${one.key} ${one.n}`)
            if (first === undefined) seen.set(`${one.key} ${one.n}`, count)
            return { id: `p${count}`, key: one.key, value: JSON.stringify({ ...one, word: null }) }
          })
          await world.publish(name, records)
          await runOn(world, definition, database)
        }
        const fine = [...seen.keys()].filter((key) => !key.includes('-'))
        expect((await rows()).map(({ n, key }) => `${key} ${n}`).sort()).toEqual(fine.sort())
        const sums = await totals(world.db, name)
        expect(sums.received).toBe(count)
        expect(sums.received).toBe(sums.written + sums.duplicate + sums.rejected)
      }),
      { numRuns: 8 },
    )
  }, 300_000)
})

const manyStatement = statement<Record<string, unknown>>(
  'test.app-many',
  `select id, i2, i8::text, f4, f8::text, num, yes, word, short, mood::text, at::text, wall::text, day, doc, plain, bytes::text, ints, words,
     array_to_json(docs) as docs, grid::text, uid, addr::text, span::text, part, "Odd name" as odd from app.many order by id`,
)

describe('a topic as the end of a stream', () => {
  let world: StreamWorld
  beforeAll(async () => {
    world = await StreamWorld.open()
  })
  afterAll(() => world.close())

  it('has each record once, in the order of its key, whatever crashes, and from several shards at once', async () => {
    const plan = fc.array(fc.constantFrom('before', 'after', 'none' as const), { maxLength: 8 })
    const topics: { readonly stream: string; readonly topic: string }[] = []
    await fc.assert(
      fc.asyncProperty(plan, fc.integer({ min: 1, max: 60 }), async (crashes, count) => {
        made += 1
        const target = topic(`out-${made}`, {
          schema: lineSchema.omit({ word: true }),
          key: (line) => line.key,
          partitions: 4,
        })
        const { name, definition } = streamTo(target, { partitions: 3, key: true })
        const plain: Stream = {
          ...definition,
          steps: [{ name: 'plain', work: (line) => ({ n: (line as Line).n, key: (line as Line).key }) }],
        }
        await world.make(plain)
        const given = Array.from({ length: count }, (_, n) => ({ n, key: `k${n % 7}`, word: null }))
        await world.publishValues(name, given)
        await runOn(world, plain, crashing(world.db, crashes as never))
        const records = await world.db.query(recordsStatement, [target.name])
        expect(records.map(({ id }) => id).sort()).toEqual(given.map(({ n }) => `id-${n}`).sort())
        for (const [key, some] of Map.groupBy(records, (record) => record.key)) {
          expect([key, some.map(({ n }) => n)]).toEqual([
            key,
            given.filter((line) => line.key === key).map(({ n }) => n),
          ])
          expect(new Set(some.map(({ partition }) => partition)).size).toBe(1)
        }
        topics.push({ stream: name, topic: target.name })
        expect(await world.breaches({ topics })).toEqual([])
      }),
      { numRuns: 6 },
    )
  }, 300_000)

  it('rejects what its schema does not take, with the reason', async () => {
    const target = topic('strict', { schema: z.object({ n: z.number().max(1) }) })
    const { name, definition } = streamTo(target)
    await world.make(definition)
    await world.publishValues(name, [
      { n: 1, key: 'a', word: null },
      { n: 2, key: 'a', word: null },
    ])
    await world.runToRest(definition)
    expect((await world.ends(name)).map(({ outcome, reason }) => [outcome, reason])).toEqual([
      ['filtered', null],
      ['rejected', 'invalid row'],
    ])
    expect(await totals(world.db, name)).toMatchObject({ written: 1, rejected: 1, filtered: 0 })
  })
})

const recordsStatement = statement<{ id: string; key: string; partition: number; n: number }>(
  'test.out-records',
  `select id, key, partition, (value::json ->> 'n')::int as n from sluice.topic_records where topic = $1 order by partition, "offset"`,
)
