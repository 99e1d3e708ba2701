/** What the database makes of results by itself, against the same computed anew from all of them. */
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { statement } from '../../../src/ports/database.ts'
import { type TestDatabase, testDatabase } from '../../../test/database.ts'
import { schema } from '../settings.ts'

let test: TestDatabase
beforeAll(async () => {
  test = await testDatabase({
    apps: [{ scope: 'availability', folder: join(import.meta.dirname, '../migrations') }],
  })
})
afterAll(() => test?.drop())

const rows = <Row>(text: string, values: readonly unknown[] = []) =>
  test.db.query(statement<Row>(`test.${text.length}.${text.replace(/\W+/g, '').slice(-40)}`, text), values)

interface Result {
  readonly site: number
  /** Minutes after the start. */
  readonly at: number
  readonly failure: string | null
  readonly ms: number
}

const start = Date.UTC(2026, 0, 1, 22)
const timeOf = (at: number) => new Date(start + at * 60_000)

const write = (results: readonly Result[]) =>
  rows(
    `insert into monitoring.results (site, scheduled_at, checked_at, url, response_ms, failure, total_ms)
     select site, at, at, 'http://x/', case when failure is null then ms end, failure, ms
     from unnest($1::int[], $2::timestamptz[], $3::text[], $4::float8[]) as r (site, at, failure, ms)
     on conflict do nothing`,
    [
      results.map(({ site }) => site),
      results.map(({ at }) => timeOf(at)),
      results.map(({ failure }) => failure),
      results.map(({ ms }) => ms),
    ],
  )

it('the name of the schema is the same in the settings and in the migration', async () => {
  expect(await rows('select 1 from pg_namespace where nspname = $1', [schema])).toHaveLength(1)
})

const result = (site: number, at: number): fc.Arbitrary<Result> =>
  fc.record({
    site: fc.constant(site),
    at: fc.constant(at),
    failure: fc.constantFrom(null, null, 'dns', 'timeout'),
    ms: fc.integer({ min: 1, max: 1_000 }),
  })

/** Batches in the order of time per site, as the stream writes them; some come twice, some too late. */
const batches = fc
  .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 30 }))
  .chain(([sites, ticks]) =>
    fc.tuple(
      ...Array.from({ length: sites * ticks }, (_, index) =>
        fc.tuple(
          result(1 + (index % sites), 7 * Math.floor(index / sites)),
          fc.boolean(),
          fc.integer({ max: 9, min: 0 }),
        ),
      ),
    ),
  )
  .chain((drawn) => fc.tuple(fc.constant(drawn), fc.boolean()))
  .map(([drawn, lateOnes]) => {
    const all: Result[][] = [[]]
    const late: Result[] = []
    for (const [one, cut, fate] of drawn) {
      if (fate === 9 && lateOnes) late.push(one)
      else all.at(-1)!.push(one)
      if (fate === 8) all.push([one])
      if (cut) all.push([])
    }
    return { batches: [...all, late], late }
  })

it('sums, states and incidents are those of the results', { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(batches, async ({ batches, late }) => {
      await test.db.script(`
        truncate monitoring.results, monitoring.hours, monitoring.days, monitoring.states, monitoring.incidents;
        delete from monitoring.sites; insert into monitoring.sites (id, url) values (1, 'http://a/'), (2, 'http://b/')`)
      for (const batch of batches) if (batch.length > 0) await write(batch)
      const all = new Map(batches.flat().map((one) => [`${one.site} ${one.at}`, one]))
      expect(await rows('select count(*)::int as count from monitoring.results')).toEqual([{ count: all.size }])
      expect(await sums('hours', 'hour')).toEqual(sumsOf([...all.values()], 3_600_000))
      expect(await sums('days', 'day')).toEqual(sumsOf([...all.values()], 86_400_000))
      if (late.length > 0) return
      for (const site of [1, 2, 3]) {
        const own = [...all.values()].filter((one) => one.site === site).sort((a, b) => a.at - b.at)
        const expected = site === 3 ? { incidents: [], state: [] } : followed(own)
        expect(await incidentsOf(site)).toEqual(expected.incidents)
        expect(await stateOf(site)).toEqual(expected.state)
      }
    }),
    { numRuns: 60 },
  )
})

const sums = async (table: string, column: string) =>
  (
    await rows<{ site: number; at: Date; checks: number; successes: number; sum: number; least: number; most: number }>(
      `select site, ${column} as at, checks, successes, sum_ms as sum, least_ms as least, most_ms as most
       from monitoring.${table} order by site, ${column}`,
    )
  ).map((row) => ({ ...row, at: row.at.getTime() }))

function sumsOf(results: readonly Result[], stepMs: number) {
  const groups = Map.groupBy(results, ({ site, at }) => `${site} ${Math.floor(timeOf(at).getTime() / stepMs) * stepMs}`)
  return [...groups]
    .map(([key, group]) => {
      const [site, at] = key.split(' ').map(Number) as [number, number]
      const taken = group.filter(({ failure }) => failure === null).map(({ ms }) => ms)
      const extremes =
        taken.length === 0 ? { least: null, most: null } : { least: Math.min(...taken), most: Math.max(...taken) }
      const sum = taken.reduce((total, ms) => total + ms, 0)
      return { site, at, checks: group.length, successes: taken.length, sum, ...extremes }
    })
    .sort((a, b) => a.site - b.site || a.at - b.at)
}

interface Incident {
  readonly from: number
  to: number | null
  readonly failure: string
}

/** One after another. */
function followed(results: readonly Result[]) {
  const incidents: Incident[] = []
  let since: number | undefined
  let was: boolean | undefined
  for (const { at, failure } of results) {
    const ok = failure === null
    if (ok !== was) since = timeOf(at).getTime()
    if (!ok && was !== false) incidents.push({ from: timeOf(at).getTime(), to: null, failure: failure as string })
    if (ok && was === false) incidents.at(-1)!.to = timeOf(at).getTime()
    was = ok
  }
  const last = results.at(-1)
  const state = last ? [{ ok: last.failure === null, since, at: timeOf(last.at).getTime(), failure: last.failure }] : []
  return { incidents, state }
}

const incidentsOf = async (site: number) =>
  (
    await rows<{ from: Date; to: Date | null; failure: string }>(
      `select started_at as "from", ended_at as "to", failure from monitoring.incidents where site = $1 order by 1`,
      [site],
    )
  ).map(({ from, to, failure }) => ({ from: from.getTime(), to: to?.getTime() ?? null, failure }))

const stateOf = async (site: number) =>
  (
    await rows<{ ok: boolean; since: Date; at: Date; failure: string | null }>(
      'select ok, since, scheduled_at as at, failure from monitoring.states where site = $1',
      [site],
    )
  ).map((row) => ({ ...row, since: row.since.getTime(), at: row.at.getTime() }))

it('a result that comes late changes neither state nor incidents', async () => {
  await test.db.script(`delete from monitoring.sites; insert into monitoring.sites (id, url) values (10, 'http://a/')`)
  await write([{ site: 10, at: 100, failure: null, ms: 1 }])
  await write([{ site: 10, at: 50, failure: 'dns', ms: 1 }])
  expect(await incidentsOf(10)).toEqual([])
  expect(await stateOf(10)).toMatchObject([{ ok: true, at: timeOf(100).getTime() }])
})

it('a removed site has no state, its incident has ended, and what comes of it later is kept as a result alone', async () => {
  await test.db.script(`insert into monitoring.sites (id, url) values (11, 'http://a/')`)
  await write([{ site: 11, at: 1, failure: 'dns', ms: 1 }])
  await test.db.script('delete from monitoring.sites where id = 11')
  expect(await stateOf(11)).toEqual([])
  expect((await incidentsOf(11))[0]!.to).not.toBeNull()
  await write([{ site: 11, at: 2, failure: 'dns', ms: 1 }])
  expect(await stateOf(11)).toEqual([])
  expect(await rows('select 1 from monitoring.results where site = 11')).toHaveLength(2)
})

it('days come and go: partitions ahead, none of what is kept dropped, nothing to do the second time', async () => {
  const partitions = () =>
    rows<{ name: string }>(
      `select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
       where i.inhparent = 'monitoring.results'::regclass and c.relname <> 'results_other' order by 1`,
    )
  expect(await partitions()).toHaveLength(9)
  await test.db.script(`
    create table monitoring.results_20200101 partition of monitoring.results for values from ('2020-01-01Z') to ('2020-01-02Z');
    insert into monitoring.results (site, scheduled_at, checked_at, url, total_ms) values
      (20, '2020-01-01 05:00Z', now(), 'x', 1), (20, '2019-01-01Z', now(), 'x', 1), (20, now() - interval '1 day', now(), 'x', 1);
    insert into monitoring.incidents (site, started_at, ended_at, failure) values (20, '2020-01-01Z', '2020-01-02Z', 'dns'),
      (20, '2020-02-01Z', null, 'dns')`)
  const keep = () => rows('select made, dropped, removed::int from monitoring.keep_days(8, 35, 800)')
  const [first] = await keep()
  expect(first).toMatchObject({ made: 0, dropped: 1 })
  expect(await keep()).toEqual([{ made: 0, dropped: 0, removed: 0 }])
  expect(await rows('select 1 from monitoring.results where site = 20')).toHaveLength(1)
  expect(await rows('select 1 from monitoring.hours where site = 20')).toHaveLength(1)
  expect(await rows('select 1 from monitoring.incidents where site = 20')).toHaveLength(1)
  await expect(rows('select * from monitoring.keep_days(0, 1, 1)')).rejects.toThrow(/at least 1 day/)
})

it('a day whose results came before its partition stays where it is', async () => {
  await test.db.script(`
    insert into monitoring.results (site, scheduled_at, checked_at, url, total_ms) values (21, now() + interval '7 days', now(), 'x', 1);
    do $$ begin execute 'drop table monitoring.results_' || to_char((now() at time zone 'UTC')::date + 7, 'YYYYMMDD'); end $$;
    insert into monitoring.results (site, scheduled_at, checked_at, url, total_ms) values (22, now() + interval '7 days', now(), 'x', 1)`)
  expect(await rows('select made, dropped from monitoring.keep_days(8, 35, 800)')).toEqual([{ made: 0, dropped: 0 }])
  expect(await rows('select 1 from monitoring.results_other where site = 22')).toHaveLength(1)
})
