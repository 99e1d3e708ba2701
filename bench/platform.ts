/** Sluice as a user starts it, on a home of its own, for the time of a benchmark. */
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Config, readConfig } from '../src/app/config.ts'
import { startSupervisor } from '../src/app/supervisor.ts'
import { type Database, statement } from '../src/ports/database.ts'
import { startEmbedded } from '../src/postgres/embedded.ts'
import { openDatabase } from '../src/postgres/pool.ts'

export interface Platform {
  readonly url: string
  readonly db: Database
  readonly databaseUrl: string
  readonly home: string
  /** The process that owns runs; its runners are its children. */
  readonly enginePid: number
  /** Starts a run and gives its id. */
  start(workflow: string, params?: unknown): Promise<string>
  /** Starts a run and waits for its end. */
  run(workflow: string, params?: unknown): Promise<FinishedRun>
  stop(): Promise<void>
}

export interface FinishedRun {
  readonly id: string
  readonly state: string
  /** From its creation, and from its start, to its end. */
  readonly createdMs: number
  readonly ranMs: number
}

const finished = statement<{ state: string; created_at: Date; started_at: Date; ran: number; created: number }>(
  'bench.finished',
  `select state, extract(epoch from finished_at - started_at)::float8 * 1000 as ran,
     extract(epoch from finished_at - created_at)::float8 * 1000 as created
   from sluice.runs where id = $1 and finished_at is not null`,
)

const engine = statement<{ pid: number }>('bench.engine', `select pid from sluice.nodes where kind = 'engine'`)

/** @param settings of the PostgreSQL server, over ours. */
export async function startPlatform(
  projectDir: string,
  environment: Record<string, string> = {},
  settings?: Record<string, string>,
): Promise<Platform> {
  const home = await mkdtemp(join(tmpdir(), 'sluice-bench-'))
  // Whoever opens the home next joins this server.
  const server = settings && (await startEmbedded({ home, settings }))
  await symlink('../../node_modules', join(projectDir, 'node_modules')).catch(() => {})
  const config: Config = readConfig({ ...process.env, ...environment }, { projectDir, home, port: 0 })
  const supervisor = await startSupervisor({
    projectDir,
    config,
    roles: new Set(['api', 'engine', 'worker', 'stream']),
    watch: false,
    log: (line) => {
      if (process.env.BENCH_VERBOSE) process.stderr.write(`${line}\n`)
    },
  })
  // Interrupted, a benchmark leaves neither processes nor a server behind.
  const interrupted = () => void supervisor.stop().finally(() => process.exit(130))
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, interrupted)
  const databaseUrl = config.databaseUrl ?? (await embeddedUrl(home))
  const db = openDatabase({ url: databaseUrl, applicationName: 'bench', max: 2 })
  const pid = (await db.query(engine))[0]!.pid
  const start = async (workflow: string, params: unknown = {}) => {
    const answer = await fetch(`${supervisor.url}/api/v1/workflows/${workflow}/runs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ params }),
    })
    const body = (await answer.json()) as { id: string; detail?: string }
    if (answer.status !== 201) throw new Error(body.detail ?? `HTTP ${answer.status}`)
    return body.id
  }
  return {
    url: supervisor.url,
    db,
    databaseUrl,
    home,
    enginePid: pid,
    start,
    async run(workflow, params) {
      const id = await start(workflow, params)
      for (;;) {
        const [row] = await db.query(finished, [id])
        if (row) return { id, state: row.state, createdMs: row.created, ranMs: row.ran }
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    },
    async stop() {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, interrupted)
      await db.close()
      await supervisor.stop()
      await server?.stop()
      await rm(home, { recursive: true, force: true })
    },
  }
}

/** Joins the server that runs on a home, to learn its address. */
async function embeddedUrl(home: string): Promise<string> {
  const joined = await startEmbedded({ home })
  await joined.stop()
  return joined.url
}
