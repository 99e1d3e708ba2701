/** How fast the runs of a backfill are written, against the same rows by a bare `insert ... select from unnest`. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newRunId } from '../src/core/ids.ts'
import type { Manifest } from '../src/core/manifest.ts'
import { Backfills } from '../src/engine/backfill.ts'
import { type Database, statement } from '../src/ports/database.ts'
import { startEmbedded } from '../src/postgres/embedded.ts'
import { openDatabase } from '../src/postgres/pool.ts'
import { cancelBackfill, insertBackfill, lockBackfill } from '../src/store/backfills.ts'
import { migrate } from '../src/store/migrate.ts'
import { readFigures } from '../src/store/reading/backfills.ts'
import { deployVersion } from '../src/store/versions.ts'
import { systemClock } from '../src/time.ts'
import { format, median, spread, table } from './measure.ts'

const runs = 100_000
const begin = Date.UTC(2025, 0, 1)
const manifest = {
  ...{ format: 1, hash: 'bench', entries: [], topics: [], streams: [], endpoints: [], commands: [], faults: [] },
  workflows: [
    {
      ...{ name: 'minutely', file: 'w.ts', params: { type: 'object', properties: {} }, stages: [], nodes: [] },
      plans: [{ kind: 'cron', name: 'clock', pattern: '* * * * *', timezone: 'UTC', catchUp: 'last' }],
    },
  ],
} satisfies Manifest

const bare = statement(
  'bench.bare-insert',
  `insert into sluice.runs (id, workflow, version, plan, logical_time, params)
   select id, 'minutely', 'bench', 'bare', logical_time, '{}'::json from unnest($1::uuid[], $2::timestamptz[]) as r(id, logical_time)`,
)

export async function benchBackfill(rounds: number): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), 'sluice-bench-'))
  const server = await startEmbedded({ home })
  const db = openDatabase({ url: server.url, applicationName: 'bench', max: 4 })
  const rates: Record<'submission' | 'again' | 'bare', number[]> = { submission: [], again: [], bare: [] }
  const took: Record<'figures' | 'cancel', number[]> = { figures: [], cancel: [] }
  try {
    await migrate(db)
    await deployVersion(db, manifest)
    for (let round = 0; round < rounds; round += 1) {
      await empty(db)
      rates.bare.push(runs / (await seconds(() => insertBare(db))))
      await empty(db)
      const id = newRunId(begin, Math.random)
      rates.submission.push(runs / (await seconds(() => submit(db, id, 'missing'))))
      took.figures.push(1_000 * (await seconds(() => readFigures(db, [id]))))
      took.cancel.push(1_000 * (await seconds(() => cancel(db, id))))
      rates.again.push(runs / (await seconds(() => submit(db, newRunId(begin + 1, Math.random), 'failed'))))
    }
  } finally {
    await db.close()
    await server.stop()
    await rm(home, { recursive: true, force: true })
  }
  const row = (name: string, values: readonly number[]) => [
    ...[name, spread(values), format(median(values) / median(rates.bare), 2)],
  ]
  return [
    table(
      [
        `runs per second, ${format(runs)} runs`,
        `median of ${rounds} rounds (lowest to highest)`,
        'ratio to the bare insert',
      ],
      [
        row('bare insert of the rows of runs, 1,000 a statement', rates.bare),
        row('backfill of missing ticks, with their rows in the ledger', rates.submission),
        row('backfill of ticks whose run was cancelled', rates.again),
      ],
    ),
    table(
      [`a backfill of ${format(runs)} runs`, 'ms'],
      [
        ['its figures, counted from the rows', spread(took.figures, 0)],
        ['cancelling it, until its last run has ended', spread(took.cancel, 0)],
      ],
    ),
  ].join('\n\n')
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now()
  await work()
  return (performance.now() - startedAt) / 1_000
}

/** As after a while: without what was there before, and with the statistics that the planner goes by. */
async function empty(db: Database): Promise<void> {
  await db.script('truncate sluice.runs, sluice.ticks, sluice.transitions, sluice.backfills')
  await db.script('analyze sluice.runs, sluice.ticks')
  await db.script('checkpoint')
}

async function insertBare(db: Database): Promise<void> {
  for (let first = 0; first < runs; first += 1_000) {
    const numbers = Array.from({ length: 1_000 }, (_, index) => first + index)
    await db.execute(bare, [
      numbers.map(() => newRunId(Date.now(), Math.random)),
      numbers.map((n) => new Date(begin + n * 60_000)),
    ])
  }
}

async function submit(db: Database, id: string, reason: 'missing' | 'failed'): Promise<void> {
  await insertBackfill(db, {
    ...{
      id,
      workflow: 'minutely',
      plan: 'clock',
      version: 'bench',
      reasons: [reason],
      newestFirst: false,
      maxActive: 8,
    },
    ...{ from: new Date(begin), to: new Date(begin + runs * 60_000), params: '{}', requestedBy: 'bench', note: null },
    ticks: runs,
  })
  await backfillsOn(db).wake()
  const made = (await readFigures(db, [id])).get(id)?.total
  if (made !== runs) throw new Error(`${made} runs were made`)
}

/** The act itself, and until the engine has ended the rest. */
async function cancel(db: Database, id: string): Promise<void> {
  await db.transaction(async (session) => {
    await lockBackfill(session, id)
    await cancelBackfill(session, id, 'bench')
  })
  await backfillsOn(db).wake()
  const { states } = (await readFigures(db, [id])).get(id)!
  if (states.cancelled !== runs) throw new Error(`${states.cancelled} runs were cancelled`)
}

const backfillsOn = (db: Database) =>
  new Backfills({ db, clock: systemClock, random: Math.random, note: console.error })
