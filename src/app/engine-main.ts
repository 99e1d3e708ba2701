/** The engine process: owns runs, fires plans, and answers what attempts in its runners ask for. */
import { fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { parseConnections } from '../connectors/connections.ts'
import { leaseTimes } from '../core/lease.ts'
import { type EngineParts, startEngine } from '../engine/engine.ts'
import { LocalExecutor, localDefaults } from '../executors/local.ts'
import { openFiles } from '../objects/files.ts'
import { LogWriter } from '../observe/log-writer.ts'
import { redactor } from '../observe/redact.ts'
import { openDatabase, openHeartbeat } from '../postgres/pool.ts'
import { systemClock } from '../time.ts'
import { attemptEvents } from './attempt-events.ts'
import { type Orders, runChild, type Started } from './child-process.ts'
import { type Config, plainEnvironment } from './config.ts'
import { removeDeadNeighbours, thisHost } from './dead-neighbours.ts'
import { moduleFile, nodeFlags } from './own-process.ts'
import { ProgressWriter } from './progress-writer.ts'
import { random } from './random.ts'

runChild(startEngineProcess)

async function startEngineProcess(orders: Orders, config: Config, note: (line: string) => void): Promise<Started> {
  const nodeId = randomUUID()
  const place = { url: orders.databaseUrl, applicationName: 'sluice engine', idleInTransactionMs: config.leaseMs }
  const limits = { max: 6, answerTimeoutMs: 30_000 }
  const db = openDatabase({ ...place, ...limits, lookupsOnly: true })
  const callsDb = openDatabase({ ...place, ...limits, applicationName: 'sluice engine calls' })
  const heartbeat = openHeartbeat(place, leaseTimes(config.leaseMs).answerMs)
  const store = openFiles(join(config.home, 'objects'))
  const direct = {
    db: callsDb,
    store,
    connections: parseConnections(config.connectionVariables, {
      ...orders.project.connections,
      ...config.connectionsFile,
    }),
    secrets: config.secrets,
    claimant: `engine ${nodeId}`,
  }
  const redact = redactor(config.secrets.reveal())
  const logs = new LogWriter(callsDb, redact, note)
  const progress = new ProgressWriter(callsDb, note)
  await removeDeadNeighbours(db, 'engine')
  const openExecutor: EngineParts['openExecutor'] = (ends) =>
    new LocalExecutor(
      { ...localDefaults, runners: config.runners },
      () => forkRunner(config),
      attemptEvents({ direct, logs, progress, redact, note }, ends),
    )
  const engine = await startEngine({
    db,
    nodeId,
    clock: systemClock,
    random,
    openExecutor,
    readObject: (sha256) => store.read(sha256),
    note,
    host: thisHost,
    pid: process.pid,
    leaseMs: config.leaseMs,
    heartbeat,
    abandonConnections: () => {
      db.abandon()
      callsDb.abandon()
    },
    projectDir: config.projectDir,
    retain: {
      historyMs: config.retentionMs,
      store,
      removeVersion: (hash) => rm(join(config.home, 'versions', hash), { recursive: true, force: true }),
    },
  })
  return {
    async stop() {
      await engine.stop()
      await logs.flush()
      await progress.flush()
      await Promise.all([db.close(), callsDb.close(), heartbeat.close()])
    },
  }
}

function forkRunner(config: Config) {
  return fork(moduleFile(import.meta.url, './runner-main'), [config.home, config.projectDir, config.logLevel], {
    cwd: config.projectDir,
    execArgv: [...nodeFlags, '--enable-source-maps'],
    env: plainEnvironment(),
    // In the process group of the engine: whoever finds it dead ends the group, busy runners included.
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
}
