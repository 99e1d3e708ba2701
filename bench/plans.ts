/** Many plans that are due in the same minute: when their runs are there, and when the last one's task has started. */
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { statement } from '../src/ports/database.ts'
import { format, type Report, spread, table } from './measure.ts'
import { type Platform, startPlatform } from './platform.ts'

const minuteMs = 60_000

const ofMinute = statement<{ runs: number; ended: number; inserted: number; first: number; last: number; end: number }>(
  'bench.runs_of_minute',
  `select count(distinct r.id)::int as runs, (count(*) filter (where r.finished_at is not null))::int as ended,
     extract(epoch from max(r.created_at) - $1)::float8 * 1000 as inserted,
     extract(epoch from min(t.started_at) - $1)::float8 * 1000 as first,
     extract(epoch from max(t.started_at) - $1)::float8 * 1000 as last,
     extract(epoch from max(r.finished_at) - $1)::float8 * 1000 as end
   from sluice.runs r left join sluice.tasks t on t.run_id = r.id where r.logical_time = $1`,
)
const forget = statement('bench.forget_statements', 'select pg_stat_statements_reset()')
const counted = statement<{ query: string; calls: number; ms: number }>(
  'bench.count_statements',
  `select query, calls::int as calls, total_exec_time as ms from pg_stat_statements order by calls desc`,
)

/** What is looked for in the texts of statements. */
const verbs = [
  ['plans locked', 'from sluice.plan_cursors c'],
  ['runs inserted', 'insert into sluice.runs (id, workflow, version, plan'],
  ['ticks recorded', 'insert into sluice.ticks'],
  ['runs claimed', 'update sluice.runs as r set node_id'],
  ['groups committed', 'sluice.require_group'],
] as const

export async function benchPlans(rounds: number, plans: number): Promise<Report> {
  const projectDir = await project(plans)
  const platform = await startPlatform(projectDir, {}, { shared_preload_libraries: 'pg_stat_statements' })
  const ms: Record<'inserted' | 'first' | 'last' | 'end', number[]> = { inserted: [], first: [], last: [], end: [] }
  const calls: Record<string, number[]> = {}
  try {
    await platform.db.script('create extension pg_stat_statements')
    // The first minute warms up.
    for (let round = -1; round < rounds; round += 1) {
      const found = await nextMinute(platform, plans)
      if (round < 0) continue
      for (const key of ['inserted', 'first', 'last', 'end'] as const) ms[key].push(found.times[key])
      for (const [name, count] of Object.entries(found.calls)) calls[name] = [...(calls[name] ?? []), count]
    }
  } finally {
    await platform.stop()
    await rm(projectDir, { recursive: true, force: true })
  }
  const text = [
    table(
      [
        `${format(plans)} plans due in one minute`,
        `ms after the minute, median of ${rounds} minutes (lowest to highest)`,
      ],
      [
        ['all runs inserted', spread(ms.inserted)],
        ['the first task started', spread(ms.first)],
        ["the last run's task started", spread(ms.last)],
        ['the last run ended', spread(ms.end)],
      ],
    ),
    table(
      ['statements of the whole house from the minute to the last end', 'how many'],
      Object.entries(calls).map(([name, counts]) => [name, spread(counts)]),
    ),
  ].join('\n\n')
  return { text, figures: { plans, ms, calls } }
}

async function nextMinute({ db }: Platform, plans: number) {
  const minute = Math.ceil(Date.now() / minuteMs) * minuteMs
  await delay(Math.max(0, minute - 2_000 - Date.now()))
  await db.query(forget)
  await delay(minute - Date.now())
  for (;;) {
    await delay(500)
    const [times] = await db.query(ofMinute, [new Date(minute)])
    if (!times || times.runs < plans || times.ended < plans) continue
    const rows = await db.query(counted)
    const calls = Object.fromEntries(
      verbs.map(([name, part]) => [
        name,
        sum(rows.filter(({ query }) => query.includes(part)).map((row) => row.calls)),
      ]),
    )
    if (process.env.BENCH_VERBOSE)
      for (const row of rows.slice(0, 40))
        process.stderr.write(
          `${row.calls} ${row.ms.toFixed(1)} ms ${row.query.slice(0, 120).replaceAll(/\s+/g, ' ')}\n`,
        )
    return { times, calls: { ...calls, all: sum(rows.map((row) => row.calls)) } }
  }
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)

/** A project of so many workflows, each with a plan for every minute. */
async function project(plans: number): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sluice-bench-project-'))
  await mkdir(join(dir, 'workflows'))
  await symlink(join(import.meta.dirname, '../node_modules'), join(dir, 'node_modules'))
  await writeFile(join(dir, 'package.json'), '{ "name": "bench-plans", "private": true, "type": "module" }\n')
  const exported = Array.from({ length: plans }, (_, n) => `export const minutely${n} = minutely(${n})`)
  await writeFile(
    join(dir, 'workflows/minutely.ts'),
    `import { action, cron, workflow } from 'sluice'

const noop = action('noop', { run: () => null })
const minutely = (n: number) =>
  workflow(\`minutely-\${n}\`, {
    plans: [cron('* * * * *')],
    define() {
      noop()
    },
  })
${exported.join('\n')}
`,
  )
  return dir
}
