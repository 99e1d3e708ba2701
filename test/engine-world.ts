/** Engines with real runners on a database of their own, for tests: start, stop, break and inspect them. */
import { type ChildProcess, fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { attemptEvents } from '../src/app/attempt-events.ts'
import { build, type Version } from '../src/app/build/build.ts'
import { moduleFile, nodeFlags } from '../src/app/own-process.ts'
import { ProgressWriter } from '../src/app/progress-writer.ts'
import { startRun } from '../src/app/start-run.ts'
import { parseConnections } from '../src/connectors/connections.ts'
import { parseSecrets } from '../src/connectors/secrets.ts'
import { type RunState, mayBecome as runMayBecome } from '../src/core/run-state.ts'
import { mayBecome, type TaskState } from '../src/core/task-state.ts'
import { type Engine, startEngine } from '../src/engine/engine.ts'
import { LocalExecutor, type LocalSettings, localDefaults } from '../src/executors/local.ts'
import { openFiles } from '../src/objects/files.ts'
import { LogWriter } from '../src/observe/log-writer.ts'
import { redactor } from '../src/observe/redact.ts'
import { type Database, statement } from '../src/ports/database.ts'
import { openDatabase } from '../src/postgres/pool.ts'
import { putInbox } from '../src/store/inbox.ts'
import { ensureTopic } from '../src/store/topics.ts'
import { deployVersion } from '../src/store/versions.ts'
import { type Clock, systemClock } from '../src/time.ts'
import { type TestDatabase, testDatabase } from './database.ts'

export interface EngineOptions {
  readonly settings?: Partial<LocalSettings>
  readonly leaseMs?: number
  readonly maxRuns?: number
  readonly clock?: Clock
  readonly random?: () => number
  /** Around the engine's database. */
  readonly wrap?: (db: Database) => Database
  readonly fork?: () => ChildProcess
}

export interface RunningEngine {
  readonly nodeId: string
  readonly engine: Engine
  readonly executor: LocalExecutor
  readonly notes: string[]
  readonly forked: ChildProcess[]
  /** As if the process were killed: what it does from now on reaches nothing. */
  crash(): Promise<void>
  stop(): Promise<void>
}

export const secret = 'correct"horse\\battery'

const runRow = statement<{ id: string; state: RunState; error: string | null; seq: number; node_id: string | null }>(
  'test.run',
  'select id, state, error, seq, node_id from sluice.runs where id = $1',
)
const unfinished = statement<{ count: number }>(
  'test.unfinished',
  `select count(*)::int as count from sluice.runs where state in ('queued', 'running')`,
)
const taskRows = statement<{
  node: number
  map_index: number
  state: TaskState
  attempt: number
  losses: number
  result: string | null
  error: string | null
}>(
  'test.tasks',
  'select node, map_index, state, attempt, losses, result, error from sluice.tasks where run_id = $1 order by node, map_index',
)
const logRows = statement<{
  run_id: string
  seq: number
  node: number
  map_index: number
  attempt: number
  from_state: string
  to_state: string
}>(
  'test.log',
  'select run_id, seq, node, map_index, attempt, from_state, to_state from sluice.transitions order by run_id, seq',
)
const allRuns = statement<{
  id: string
  state: RunState
  seq: number
  started_at: Date | null
  finished_at: Date | null
}>('test.all-runs', 'select id, state, seq, started_at, finished_at from sluice.runs')
const allTasks = statement<{
  run_id: string
  node: number
  map_index: number
  state: TaskState
  attempt: number
  token: number | null
}>('test.all-tasks', 'select run_id, node, map_index, state, attempt, token from sluice.tasks')

export class EngineWorld {
  readonly #test: TestDatabase
  readonly #engines = new Set<RunningEngine>()
  readonly dir: string
  readonly version: Version
  readonly db: Database

  private constructor(test: TestDatabase, dir: string, version: Version) {
    this.#test = test
    this.dir = dir
    this.version = version
    this.db = test.db
  }

  static async open(): Promise<EngineWorld> {
    const dir = await mkdtemp(join(tmpdir(), 'sluice-engine-'))
    await symlink(join(import.meta.dirname, '../node_modules'), join(dir, 'node_modules'))
    const [test, version] = await Promise.all([
      testDatabase({ max: 8 }),
      build({ projectDir: join(import.meta.dirname, 'programs/engine-project'), home: join(dir, 'home') }),
    ])
    if (version.manifest.faults.length > 0) throw new Error(JSON.stringify(version.manifest.faults))
    await deployVersion(test.db, version.manifest)
    for (const { name, partitions } of version.manifest.topics) await ensureTopic(test.db, name, partitions)
    return new EngineWorld(test, dir, version)
  }

  async close(): Promise<void> {
    for (const engine of this.#engines) await engine.crash()
    await this.#test.drop()
    await rm(this.dir, { recursive: true, force: true })
  }

  async engine(options: EngineOptions = {}): Promise<RunningEngine> {
    const nodeId = randomUUID()
    const pool = openDatabase({ ...this.#test.options, applicationName: `engine ${nodeId}`, max: 4 })
    const guarded = breakable(pool)
    const db = options.wrap ? options.wrap(guarded.db) : guarded.db
    const store = openFiles(join(this.dir, 'home/objects'))
    const secrets = parseSecrets({ SLUICE_SECRET_API: secret })
    const direct = { db, store, connections: parseConnections({}, {}), secrets, claimant: `engine ${nodeId}` }
    const notes: string[] = []
    const note = (line: string) => notes.push(line)
    const redact = redactor([secret])
    const logs = new LogWriter(db, redact, note)
    const progress = new ProgressWriter(db, note)
    const forked: ChildProcess[] = []
    let executor!: LocalExecutor
    const engine = await startEngine({
      db,
      nodeId,
      clock: options.clock ?? systemClock,
      random: options.random ?? Math.random,
      openExecutor: (ends) => {
        executor = new LocalExecutor(
          { ...localDefaults, runners: 1, ...options.settings },
          () => {
            const child = (options.fork ?? (() => this.forkRunner()))()
            forked.push(child)
            return child
          },
          attemptEvents({ direct, logs, progress, redact, note }, ends),
        )
        return executor
      },
      readObject: (sha256) => store.read(sha256),
      note,
      host: 'test',
      pid: process.pid,
      leaseMs: options.leaseMs ?? 10_000,
      projectDir: this.dir,
      retain: { historyMs: 86_400_000, store, removeVersion: async () => {} },
      ...(options.maxRuns === undefined ? {} : { maxRuns: options.maxRuns }),
    })
    const end = async (work: () => Promise<void>) => {
      if (!this.#engines.delete(running)) return
      await work()
      await pool.close()
    }
    const running: RunningEngine = {
      nodeId,
      engine,
      executor,
      notes,
      forked,
      crash: () =>
        end(async () => {
          guarded.breakNow()
          await executor.stop()
          await engine.stop().catch(() => {})
        }),
      stop: () =>
        end(async () => {
          await engine.stop()
          await logs.flush()
        }),
    }
    this.#engines.add(running)
    return running
  }

  forkRunner(): ChildProcess {
    return fork(
      moduleFile(new URL('../src/app/x', import.meta.url).href, './runner-main'),
      [join(this.dir, 'home'), this.dir, 'debug'],
      { execArgv: [...nodeFlags], stdio: ['ignore', 'pipe', 'pipe', 'ipc'] },
    )
  }

  async start(workflow: string, params: object = {}, key?: string): Promise<string> {
    const parts = { db: this.db, random: Math.random, now: () => Date.now() }
    return (await startRun(parts, this.version.manifest.hash, workflow, params, key)).runId
  }

  async cancel(id: string): Promise<void> {
    await putInbox(this.db, id, 'cancel', `cancel ${id}`)
  }

  place(name: string): { dir: string; name: string } {
    return { dir: this.dir, name }
  }

  /** Lets the attempts go on that wait for `name`. */
  go(name: string): Promise<void> {
    return writeFile(join(this.dir, `${name}.go`), '')
  }

  started(name: string, attempt = 1): Promise<void> {
    return until(`${name} ${attempt} to start`, () => existsSync(join(this.dir, `${name}.${attempt}.started`)))
  }

  async run(id: string) {
    return (await this.db.query(runRow, [id]))[0]!
  }

  tasks(id: string) {
    return this.db.query(taskRows, [id])
  }

  log() {
    return this.db.query(logRows)
  }

  async ended(id: string): Promise<RunState> {
    let row = await this.run(id)
    await until(
      async () => `the end of run ${id}: ${JSON.stringify([row, await this.tasks(id)])}`,
      async () => {
        row = await this.run(id)
        return !['queued', 'running'].includes(row.state)
      },
    )
    return row.state
  }

  async allEnded(): Promise<void> {
    await until('the end of all runs', async () => (await this.db.query(unfinished))[0]!.count === 0)
  }

  /** What must always hold, checked on the rows alone: legal edges, no gaps, replay equals current, nothing live at an end. */
  async breaches(): Promise<string[]> {
    const found: string[] = []
    const state = new Map<string, string>()
    const attempts = new Map<string, number>()
    const seqs = new Map<string, number>()
    for (const row of await this.log()) {
      const key = row.node < 0 ? row.run_id : `${row.run_id} ${row.node} ${row.map_index}`
      const before = state.get(key) ?? (row.node < 0 ? 'queued' : 'none')
      const edge = `${key}: ${row.from_state} -> ${row.to_state}`
      if (row.seq !== (seqs.get(row.run_id) ?? 0) + 1) found.push(`${edge} has number ${row.seq}`)
      seqs.set(row.run_id, row.seq)
      if (before !== row.from_state) found.push(`${edge} but it was ${before}`)
      const legal =
        row.node < 0
          ? runMayBecome(row.from_state as RunState, row.to_state as RunState)
          : mayBecome(row.from_state as TaskState, row.to_state as TaskState)
      if (!legal) found.push(`${edge} is not legal`)
      if (row.to_state === 'running' && row.node >= 0) {
        if (row.attempt !== (attempts.get(key) ?? 0) + 1) found.push(`${edge} is attempt ${row.attempt}`)
        attempts.set(key, row.attempt)
      }
      state.set(key, row.to_state)
    }
    const runs = await this.db.query(allRuns)
    const ended = new Set<string>()
    for (const run of runs) {
      const finished = !['queued', 'running'].includes(run.state)
      if (finished) ended.add(run.id)
      if ((state.get(run.id) ?? 'queued') !== run.state)
        found.push(`${run.id} is ${run.state}, not ${state.get(run.id)}`)
      if ((seqs.get(run.id) ?? 0) !== run.seq) found.push(`${run.id} has sequence ${run.seq}, not ${seqs.get(run.id)}`)
      if (finished !== (run.finished_at !== null)) found.push(`${run.id} is ${run.state}, finished ${run.finished_at}`)
    }
    const tasks = await this.db.query(allTasks)
    for (const task of tasks) {
      const key = `${task.run_id} ${task.node} ${task.map_index}`
      if (state.get(key) !== task.state) found.push(`${key} is ${task.state}, not ${state.get(key)}`)
      if ((task.token !== null) !== (task.state === 'running'))
        found.push(`${key} is ${task.state}, token ${task.token}`)
      if (ended.has(task.run_id) && ['running', 'up_for_retry'].includes(task.state))
        found.push(`${key} is ${task.state} in a run that has ended`)
    }
    return found
  }

  get options() {
    return this.#test.options
  }

  get url() {
    return this.#test.url
  }
}

/** Asks again and again for what no event tells; 20 s at most. */
export async function until(
  what: string | (() => Promise<string> | string),
  holds: () => Promise<boolean> | boolean,
): Promise<void> {
  const deadline = performance.now() + 20_000
  while (!(await holds())) {
    if (performance.now() > deadline)
      throw new Error(`waited in vain for ${typeof what === 'string' ? what : await what()}`)
    await delay(10)
  }
}

/** A database that can be cut off: then nothing that is asked of it gets there, and nothing answers. */
function breakable(db: Database): { db: Database; breakNow(): void } {
  let broken = false
  const gone = () => Promise.reject(new Error('this engine crashed'))
  return {
    breakNow: () => {
      broken = true
    },
    db: {
      query: (sql, values) => (broken ? gone() : db.query(sql, values)),
      execute: (sql, values) => (broken ? gone() : db.execute(sql, values)),
      copyIn: (sql, rows) => (broken ? gone() : db.copyIn(sql, rows)),
      script: (sql) => (broken ? gone() : db.script(sql)),
      transaction: (work) => (broken ? gone() : db.transaction(work)),
      listen: (channel, onNotify, onReconnect) => db.listen(channel, onNotify, onReconnect),
      close: () => db.close(),
    },
  }
}
