/** The engine process: owns runs, fires plans, and answers what attempts in its runners ask for. */
import { fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { parseConnections } from '../connectors/connections.ts'
import { leaseTimes } from '../core/lease.ts'
import { type EngineParts, startEngine } from '../engine/engine.ts'
import { LocalExecutor, localDefaults } from '../executors/local.ts'
import { openFiles } from '../objects/files.ts'
import { LineageWriter } from '../observe/lineage.ts'
import { LogWriter } from '../observe/log-writer.ts'
import { OpenLineage, type OpenLineageParts } from '../observe/open-lineage.ts'
import { redactor } from '../observe/redact.ts'
import { openDatabase, openHeartbeat } from '../postgres/pool.ts'
import { systemClock } from '../time.ts'
import { attemptEvents } from './attempt-events.ts'
import { type Orders, runChild, type Started } from './child-process.ts'
import { type Config, plainEnvironment } from './config.ts'
import { removeDeadNeighbours, thisHost } from './dead-neighbours.ts'
import { environmentOf } from './environment.ts'
import { openKafkaEngine } from './kafka/engine-parts.ts'
import { moduleFile, nodeFlags } from './own-process.ts'
import { ProgressWriter } from './progress-writer.ts'
import { random } from './random.ts'
import { version } from './version.ts'
import { versionFolders } from './version-folders.ts'
import { warehouseSettings } from './warehouse.ts'

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
    warehouse: () => warehouseSettings(callsDb, orders.databaseUrl),
  }
  const kafka = await openKafkaEngine(config, direct, { db: callsDb, node: nodeId }, note)
  const redact = redactor(config.secrets.reveal())
  const logs = new LogWriter(callsDb, redact, note)
  const progress = new ProgressWriter(callsDb, note)
  const lineage = new LineageWriter(callsDb, await environmentOf(config.projectDir), note)
  await removeDeadNeighbours(db, 'engine')
  const openExecutor: EngineParts['openExecutor'] = (ends) =>
    new LocalExecutor(
      { ...localDefaults, runners: config.runners },
      () => forkRunner(config),
      attemptEvents({ direct: { ...direct, ...kafka?.direct }, logs, progress, lineage, redact, note }, ends),
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
      ...versionFolders(config.home),
    },
  })
  lineage.start()
  await kafka?.start()
  const openLineage = openLineageOf(config, { db: callsDb, nodeId, note })
  openLineage?.start()
  return {
    async stop() {
      await engine.stop()
      await kafka?.stop()
      await openLineage?.stop()
      await logs.flush()
      await progress.flush()
      await lineage.stop()
      await Promise.all([db.close(), callsDb.close(), heartbeat.close()])
    },
  }
}

/** @throws SluiceError SECRET_UNKNOWN when its token is none of the secrets */
function openLineageOf(
  { openLineage, secrets }: Config,
  parts: Pick<OpenLineageParts, 'db' | 'nodeId' | 'note'>,
): OpenLineage | undefined {
  if (!openLineage) return undefined
  const { url, namespace, secret } = openLineage
  const token = secret === undefined ? undefined : secrets.get(secret).reveal()
  return new OpenLineage({ ...parts, version, settings: { url, namespace, token } })
}

function forkRunner(config: Config) {
  return fork(moduleFile(import.meta.url, './runner-main'), [config.home, config.projectDir, config.logLevel], {
    cwd: config.projectDir,
    // A bounded young generation: while a fan of 100,000 ran, two runners took 180 MB less, at the same speed.
    execArgv: [...nodeFlags, '--enable-source-maps', '--max-semi-space-size=8'],
    env: plainEnvironment(),
    // In the process group of the engine: whoever finds it dead ends the group, busy runners included.
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
}
