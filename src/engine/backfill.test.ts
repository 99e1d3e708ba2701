import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { until } from '../../test/engine-world.ts'
import { testManifest, testWorkflow } from '../../test/test-api.ts'
import { nodeFlags } from '../app/own-process.ts'
import { type ChosenVerdict, chosenVerdicts } from '../core/backfill.ts'
import { newRunId } from '../core/ids.ts'
import type { Manifest, WorkflowManifest } from '../core/manifest.ts'
import { runStates } from '../core/run-state.ts'
import { type Database, type Session, statement } from '../ports/database.ts'
import { insertBackfill } from '../store/backfills.ts'
import { findBackfill, readFigures } from '../store/reading/backfills.ts'
import { deployVersion } from '../store/versions.ts'
import { Backfills } from './backfill.ts'

const hour = 3_600_000
const begin = Date.UTC(2026, 2, 1)
const iso = (ms: number) => new Date(ms).toISOString()

const hourly: WorkflowManifest = {
  ...testWorkflow,
  ...{ name: 'hourly', params: { type: 'object', properties: {}, additionalProperties: false }, fingerprint: 'new' },
  plans: [
    { kind: 'cron', name: 'clock', pattern: '0 * * * *', timezone: 'UTC', catchUp: 'last' },
    { kind: 'interval', name: 'quick', every: '1m', everyMs: 60_000, catchUp: 'last' },
  ],
}
const version = (hash: string, fingerprint: string | undefined): Manifest => {
  const { fingerprint: _, ...rest } = hourly
  return { ...testManifest, hash, workflows: [fingerprint === undefined ? rest : { ...rest, fingerprint }] }
}
const versions = [version('v-old', 'old'), version('v-dark', undefined), version('v-new', 'new')]

let own: TestDatabase
beforeAll(async () => {
  own = await testDatabase({ max: 6 })
  for (const manifest of versions) await deployVersion(own.db, manifest)
})
afterAll(() => own.drop())
beforeEach(() =>
  own.db.script(
    `truncate sluice.runs, sluice.backfills, sluice.ticks, sluice.plan_cursors, sluice.lineage, sluice.tasks, sluice.dataset_versions`,
  ),
)

const notes: string[] = []
const backfillsOn = (db: Database) =>
  new Backfills({ db, clock: { now: () => Date.now() }, random: Math.random, note: (line) => notes.push(line) })

interface Wish {
  readonly from?: number
  readonly hours?: number
  readonly reasons?: readonly ChosenVerdict[]
  readonly newestFirst?: boolean
  readonly plan?: string
  readonly version?: string
  readonly ticks?: number
}

let made = 0
async function newBackfill(wish: Wish = {}): Promise<string> {
  made += 1
  const id = newRunId(begin + made, () => 0.5)
  const { from = begin, hours = 24, reasons = ['missing'], newestFirst = false, plan = 'clock' } = wish
  await insertBackfill(own.db, {
    ...{ id, workflow: 'hourly', plan, version: wish.version ?? 'v-new', from: new Date(from) },
    ...{ to: new Date(from + hours * hour), reasons, newestFirst, maxActive: 1, params: '{}' },
    ...{ requestedBy: 'ada', note: null, ticks: wish.ticks ?? hours },
  })
  return id
}

const runsOf = statement<{ logical: Date; reason: string; version: string }>(
  'test.runs-of-backfill',
  'select logical_time as logical, backfill_reason as reason, version from sluice.runs where backfill_id = $1 order by id',
)
const timesOf = async (id: string) => (await own.db.query(runsOf, [id])).map((run) => iso(run.logical.getTime()))
const insertRun = statement(
  'test.insert-run',
  `insert into sluice.runs (id, workflow, version, plan, logical_time, params, state, backfill_id)
   values ($1, 'hourly', $2, $3, $4, '{}', $5, nullif(split_part($3, '#', 2), '')::uuid)`,
)
const insertLineage = statement(
  'test.insert-read',
  `with task as (insert into sluice.tasks (run_id, node, map_index, state, attempt) values ($1, 0, -1, 'success', 2))
   insert into sluice.lineage (run_id, node, map_index, attempt, kind, what, dataset, version, hash)
   values ($1, 0, -1, $2, 'read', 'dataset', 'sales', $3, $4)`,
)
const insertVersion = statement(
  'test.insert-version',
  `insert into sluice.dataset_versions (dataset, version, hash, run_id, node, map_index, attempt, position, objects)
   values ('sales', $1, $2, $3, 0, -1, 1, 0, '[]')`,
)

const tickCount = 6
const earlier = ['clock#0199c7a8-5f2e-7c31-9d0a-5b8000000001', 'clock#0199c7a8-5f2e-7c31-9d0a-5b8000000002'] as const
const world = fc.record({
  runs: fc.array(
    fc.record({
      tick: fc.nat(tickCount - 1),
      plan: fc.constantFrom('clock', ...earlier, 'quick', 'manual', 'clocks'),
      state: fc.constantFrom(...runStates),
      version: fc.constantFrom('v-old', 'v-dark', 'v-new'),
      read: fc.option(fc.integer({ min: 1, max: 3 })),
      attempt: fc.constantFrom(1, 2, 2, 2),
    }),
    { maxLength: 14 },
  ),
  /** Written by which workflow, and whether with the same content as the version before. */
  written: fc.array(fc.record({ by: fc.constantFrom('hourly', 'other'), same: fc.boolean() }), { maxLength: 3 }),
  stands: fc.option(fc.nat(tickCount)),
  wanted: fc.uniqueArray(fc.constantFrom(...chosenVerdicts), { minLength: 1 }),
})
type World = typeof world extends fc.Arbitrary<infer Value> ? Value : never

/** A version's content: that of the one before where it is the same. */
function hashesOf(written: World['written']): string[] {
  const hashes: string[] = []
  for (const [index, { same }] of written.entries()) {
    hashes.push(same && index > 0 ? hashes[index - 1]! : `h${index + 1}`)
  }
  return hashes
}

/** Reads the rows as they were made, one tick after the other, newest run first. */
function naive({ runs, written, stands, wanted }: World, tick: number): string | undefined {
  const taken = new Set<string>()
  const kept = runs.filter((run) => {
    const key = `${run.plan} ${run.tick}`
    return taken.has(key) ? false : taken.add(key)
  })
  const run = kept.findLast((one) => one.tick === tick && ['clock', ...earlier].includes(one.plan))
  const asks = (verdict: ChosenVerdict) => (wanted.includes(verdict) ? verdict : undefined)
  if (!run) return stands !== null && tick > stands ? undefined : asks('missing')
  if (run.state === 'queued' || run.state === 'running') return undefined
  if (run.state !== 'success') return asks('failed')
  const hashes = hashesOf(written)
  const newest = written.findLastIndex(({ by }) => by === 'other') + 1
  const read = run.attempt === 2 ? run.read : null
  const stale = read !== null && newest > read && hashes[newest - 1] !== `h${read}`
  const changed = run.version === 'v-old'
  if (changed && wanted.includes('code-changed')) return 'code-changed'
  if (stale && wanted.includes('stale')) return 'stale'
  return changed || stale ? undefined : asks('ok')
}

test('what is submitted is what a naive reading of the rows chooses', async () => {
  await fc.assert(
    fc.asyncProperty(world, async (given) => {
      await own.db.script(
        'truncate sluice.runs, sluice.backfills, sluice.ticks, sluice.plan_cursors, sluice.lineage, sluice.tasks, sluice.dataset_versions',
      )
      const taken = new Set<string>()
      for (const [index, { tick, plan, state, version, read, attempt }] of given.runs.entries()) {
        const id = newRunId(begin + index, () => 0.5)
        if (taken.has(`${plan} ${tick}`)) continue
        taken.add(`${plan} ${tick}`)
        await own.db.execute(insertRun, [id, version, plan, new Date(begin + tick * hour), state])
        if (read !== null) await own.db.execute(insertLineage, [id, attempt, read, `h${read}`])
      }
      const hashes = hashesOf(given.written)
      for (const [index, { by }] of given.written.entries()) {
        const writer = newRunId(begin - 100 + index, () => 0.5)
        await own.db.execute(
          statement(
            'test.insert-writer',
            `insert into sluice.runs (id, workflow, version, params, state) values ($1, $2, 'v-new', '{}', 'success')`,
          ),
          [writer, by],
        )
        await own.db.execute(insertVersion, [index + 1, hashes[index], writer])
      }
      if (given.stands !== null) {
        await own.db.execute(
          statement(
            'test.stands',
            `insert into sluice.plan_cursors (workflow, plan, since) values ('hourly', 'clock', $1)`,
          ),
          [new Date(begin + given.stands * hour)],
        )
      }
      const id = await newBackfill({ hours: tickCount, reasons: given.wanted })
      await backfillsOn(own.db).wake()
      const expected = Array.from({ length: tickCount }, (_, tick) => [iso(begin + tick * hour), naive(given, tick)])
      const rows = await own.db.query(runsOf, [id])
      expect(rows.map((row) => [iso(row.logical.getTime()), row.reason])).toEqual(
        expected.filter(([, verdict]) => verdict !== undefined),
      )
    }),
    { numRuns: 40 },
  )
}, 60_000)

test('the newest first, the others oldest first; ids grow as the runs are to start', async () => {
  const [up, down] = [
    await newBackfill({ hours: 3 }),
    await newBackfill({ hours: 3, newestFirst: true, from: begin + 3 * hour }),
  ]
  await backfillsOn(own.db).wake()
  expect(await timesOf(up)).toEqual([0, 1, 2].map((n) => iso(begin + n * hour)))
  expect(await timesOf(down)).toEqual([5, 4, 3].map((n) => iso(begin + n * hour)))
})

test('of two backfills of the same ticks the second one leaves what the first one runs', async () => {
  const [first, second] = [await newBackfill({ hours: 30 }), await newBackfill({ hours: 40, reasons: chosenVerdicts })]
  await Promise.all([backfillsOn(own.db).wake(), backfillsOn(own.db).wake()])
  const [ones, others] = [await timesOf(first), await timesOf(second)]
  expect(ones.length + others.length).toBe(40)
  expect(new Set([...ones, ...others]).size).toBe(40)
})

test('an interval has ticks as well, and chunks go on where the one before ended', async () => {
  const id = await newBackfill({ plan: 'quick', hours: 50, ticks: 3_000 })
  await backfillsOn(own.db).wake()
  expect(await findBackfill(own.db, id)).toMatchObject({ state: 'running', examined: 3_000, ticks: 3_000 })
  expect(await timesOf(id)).toEqual(Array.from({ length: 3_000 }, (_, n) => iso(begin + n * 60_000)))
})

const ticksOfPlan = statement<{ count: number }>(
  'test.ticks-of-plan',
  `select count(distinct run_id)::int as count from sluice.ticks where plan = 'quick' and outcome = 'caught_up'`,
)
const waiting = statement<{ waits: boolean }>(
  'test.waiting',
  `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock') as waits`,
)

test.each([false, true])(
  'killed in the middle of a statement, it is gone on with by others, exactly once (newest first: %s)',
  async (newestFirst) => {
    const ticks = 8_000
    const id = await newBackfill({ plan: 'quick', hours: ticks / 60, ticks, newestFirst })
    const submitter = fork(join(import.meta.dirname, '../../test/programs/submit-backfills.ts'), [own.url], {
      execArgv: [...nodeFlags],
    })
    // A tick that somebody else is about to record: the sixth chunk waits for what becomes of it.
    const undone = own.db.transaction(async (session) => {
      const at = new Date(begin + (newestFirst ? ticks - 1 - 5_500 : 5_500) * 60_000)
      await session.execute(
        statement(
          'test.hold-tick',
          `insert into sluice.ticks (workflow, plan, logical_time, outcome) values ('hourly', 'quick', $1, 'skipped')`,
        ),
        [at],
      )
      await until('the sixth chunk', async () => (await own.db.query(waiting))[0]!.waits)
      submitter.kill('SIGKILL')
      await once(submitter, 'exit')
      throw new Error('undone')
    })
    await expect(undone).rejects.toThrow('undone')
    expect((await findBackfill(own.db, id))!.examined).toBe(5_000)
    expect((await readFigures(own.db, [id])).get(id)?.total).toBe(5_000)
    const engines = [backfillsOn(own.db), backfillsOn(own.db)]
    // What the server still holds for the dead one it lets go when it finds nobody there.
    await until('the end of the submission', async () => {
      await Promise.all(engines.map((engine) => engine.wake()))
      return (await findBackfill(own.db, id))!.state === 'running'
    })
    const expected = Array.from({ length: ticks }, (_, n) => iso(begin + n * 60_000))
    expect(await timesOf(id)).toEqual(newestFirst ? expected.reverse() : expected)
    expect(await own.db.query(ticksOfPlan)).toEqual([{ count: ticks }])
    expect(await findBackfill(own.db, id)).toMatchObject({ examined: ticks })
  },
  60_000,
)

test('one that can never go on ends as failed, one that cannot now rests, and neither holds up the next', async () => {
  const gone = await newBackfill({ version: 'v-gone' })
  const resting = await newBackfill({ hours: 2 })
  const next = await newBackfill({ hours: 2, from: begin + 100 * hour })
  notes.length = 0
  const faulty: Pick<Database, 'transaction' | 'execute'> = {
    execute: (sql, values) => own.db.execute(sql, values),
    transaction: (work) =>
      own.db.transaction((session) =>
        work({
          query: (sql, values) =>
            sql.name === 'backfills.submit' && values?.[3] === resting
              ? Promise.reject(new Error('not now'))
              : session.query(sql, values),
          execute: (sql, values) => session.execute(sql, values),
        } as Session),
      ),
  }
  await backfillsOn(faulty as Database).wake()
  expect(await findBackfill(own.db, gone)).toMatchObject({
    ...{ state: 'failed', error: 'version v-gone of hourly is gone' },
  })
  expect(await findBackfill(own.db, resting)).toMatchObject({ state: 'submitting', examined: 0 })
  expect(await timesOf(next)).toHaveLength(2)
  expect(notes).toEqual([
    `backfill ${gone} of hourly cannot go on: version v-gone of hourly is gone`,
    `backfill ${resting} of hourly cannot go on: not now`,
  ])
  await backfillsOn(own.db).wake()
  expect(await timesOf(resting)).toHaveLength(2)
})
