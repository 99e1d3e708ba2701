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
import { leaseTimes } from '../src/core/lease.ts'
import type { RunState } from '../src/core/run-state.ts'
import type { TaskState } from '../src/core/task-state.ts'
import { type Engine, startEngine } from '../src/engine/engine.ts'
import { LocalExecutor, type LocalSettings, localDefaults } from '../src/executors/local.ts'
import { openFiles } from '../src/objects/files.ts'
import { LineageWriter } from '../src/observe/lineage.ts'
import { LogWriter } from '../src/observe/log-writer.ts'
import { redactor } from '../src/observe/redact.ts'
import { type Database, statement } from '../src/ports/database.ts'
import { openDatabase, openHeartbeat } from '../src/postgres/pool.ts'
import { putInbox } from '../src/store/inbox.ts'
import { ensureTopic } from '../src/store/topics.ts'
import { deployVersion } from '../src/store/versions.ts'
import { type Clock, systemClock } from '../src/time.ts'
import { type TestDatabase, testDatabase } from './database.ts'
import { type Breach, breaches, type CheckOptions, Memory } from './invariants/check.ts'

export interface EngineOptions {
  readonly settings?: Partial<LocalSettings>
  readonly leaseMs?: number
  readonly maxRuns?: number
  readonly clock?: Clock
  readonly random?: () => number
  /** Around the engine's database. */
  readonly wrap?: (db: Database) => Database
  readonly fork?: () => ChildProcess
  /** Where the engine finds the database; default directly. */
  readonly url?: string
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

/** What the engines here say that attempts were executed in. */
export const testEnvironment = '{"node":"test"}'

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
export class EngineWorld {
  readonly #test: TestDatabase
  readonly #engines = new Set<RunningEngine>()
  readonly #memory = new Memory()
  readonly dir: string
  readonly version: Version
  readonly db: Database

  private constructor(test: TestDatabase, dir: string, version: Version) {
    this.#test = test
    this.dir = dir
    this.version = version
    this.db = test.db
  }

  /** `project` is a folder of `test/programs`. */
  static async open(project = 'engine-project'): Promise<EngineWorld> {
    const dir = await mkdtemp(join(tmpdir(), 'sluice-engine-'))
    await symlink(join(import.meta.dirname, '../node_modules'), join(dir, 'node_modules'))
    const [test, version] = await Promise.all([
      testDatabase({ max: 8 }),
      build({ projectDir: join(import.meta.dirname, 'programs', project), home: join(dir, 'home') }),
    ])
    if (version.manifest.faults.length > 0) throw new Error(JSON.stringify(version.manifest.faults))
    await deployVersion(test.db, version.manifest)
    for (const { name, partitions } of version.manifest.topics) await ensureTopic(test.db, name, partitions)
    return new EngineWorld(test, dir, version)
  }

  async close(): Promise<void> {
    const ends = await Promise.allSettled([...this.#engines].map((engine) => engine.crash()))
    await this.#test.drop()
    await rm(this.dir, { recursive: true, force: true })
    for (const end of ends) if (end.status === 'rejected') throw end.reason
  }

  async engine(options: EngineOptions = {}): Promise<RunningEngine> {
    const nodeId = randomUUID()
    const { url = this.#test.url, leaseMs = 10_000 } = options
    const place = { url, applicationName: `engine ${nodeId}`, idleInTransactionMs: leaseMs }
    const pool = openDatabase({ ...place, max: 4 })
    const heartbeat = openHeartbeat(place, leaseTimes(leaseMs).answerMs)
    const guardedHeartbeat = breakable(heartbeat)
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
    const lineage = new LineageWriter(db, testEnvironment, note)
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
          attemptEvents({ direct, logs, progress, lineage, redact, note }, ends),
        )
        return executor
      },
      readObject: (sha256) => store.read(sha256),
      note,
      host: 'test',
      pid: process.pid,
      leaseMs,
      heartbeat: guardedHeartbeat.db,
      abandonConnections: () => pool.abandon(),
      projectDir: this.dir,
      retain: { historyMs: 86_400_000, store, versionFolders: async () => [], removeVersion: async () => {} },
      ...(options.maxRuns === undefined ? {} : { maxRuns: options.maxRuns }),
    })
    lineage.start()
    const end = async (work: () => Promise<void>) => {
      if (!this.#engines.delete(running)) return
      try {
        await inTime(`the end of engine ${nodeId}`, work())
      } finally {
        // One that does not end leaves no processes behind either.
        for (const child of forked) child.kill('SIGKILL')
      }
      await Promise.all([pool.close(), heartbeat.close()])
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
          guardedHeartbeat.breakNow()
          await executor.stop()
          await engine.stop().catch(() => {})
          await lineage.stop()
        }),
      stop: () =>
        end(async () => {
          await engine.stop()
          await Promise.all([logs.flush(), progress.flush(), lineage.stop()])
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
    const { hash: version, workflows } = this.version.manifest
    const priority = workflows.find(({ name }) => name === workflow)?.priority
    return (await startRun(parts, { name: workflow, version, priority }, params, key)).runId
  }

  async cancel(id: string): Promise<void> {
    await putInbox(this.db, { runId: id, kind: 'cancel', key: `cancel ${id}` })
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

  /** What must hold at every instant (test/invariants), and since the last time it was asked. */
  breaches(options: CheckOptions = {}): Promise<readonly Breach[]> {
    const objects = openFiles(join(this.dir, 'home/objects'))
    return breaches(this.db, { objects, memory: this.#memory, ...options })
  }

  get options() {
    return this.#test.options
  }

  get url() {
    return this.#test.url
  }
}

/** How long `until` waits. */
export const patience = { ms: 20_000 }

/** Asks again and again for what no event tells; 20 s at most. */
export async function until(
  what: string | (() => Promise<string> | string),
  holds: () => Promise<boolean> | boolean,
): Promise<void> {
  const deadline = performance.now() + patience.ms
  while (!(await holds())) {
    if (performance.now() > deadline)
      throw new Error(`waited in vain for ${typeof what === 'string' ? what : await what()}`)
    await delay(10)
  }
}

/** Waits for work as long as `until` does. */
export async function inTime<T>(what: string, work: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(`waited in vain for ${what}`)), patience.ms)
  try {
    return await Promise.race([work, late.promise])
  } finally {
    clearTimeout(timer)
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
      copyOut: (sql, take) => (broken ? gone() : db.copyOut(sql, take)),
      script: (sql) => (broken ? gone() : db.script(sql)),
      transaction: (work) => (broken ? gone() : db.transaction(work)),
      listen: (channel, onNotify, onReconnect) => db.listen(channel, onNotify, onReconnect),
      close: () => db.close(),
    },
  }
}
