/** What the processes that run authors' functions beside the database have in common: shards and servers. */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { parseConnections } from '../connectors/connections.ts'
import { messageOf } from '../errors.ts'
import { openFiles } from '../objects/files.ts'
import { LogWriter, processLog } from '../observe/log-writer.ts'
import { redactor } from '../observe/redact.ts'
import { type DatabaseOptions, openDatabase } from '../postgres/pool.ts'
import type { Capabilities } from '../sdk/context.ts'
import { logLine } from './attempt-logs.ts'
import { capabilitiesOver, OpenConnections } from './capabilities/capabilities.ts'
import { directCalls } from './capabilities/direct-calls.ts'
import type { Orders } from './child-process.ts'
import type { Config } from './config.ts'
import { loadVersion } from './definitions.ts'
import { fromLevel } from './log-level.ts'
import { warehouseSettings } from './warehouse.ts'

export async function openProcessParts(
  role: string,
  orders: Orders,
  config: Config,
  options: Pick<DatabaseOptions, 'max' | 'statementTimeoutMs' | 'answerTimeoutMs' | 'connectTimeoutMs'>,
  note: (line: string) => void,
) {
  const nodeId = randomUUID()
  const place = { url: orders.databaseUrl, applicationName: `sluice ${role}`, idleInTransactionMs: config.leaseMs }
  const db = openDatabase({ ...place, ...options })
  const store = openFiles(join(config.home, 'objects'))
  const claimant = `${role} ${nodeId}`
  const configured = {
    connections: parseConnections(config.connectionVariables, {
      ...orders.project.connections,
      ...config.connectionsFile,
    }),
    secrets: config.secrets,
  }
  const calls = directCalls({
    db,
    store,
    ...configured,
    claimant,
    warehouse: () => warehouseSettings(db, orders.databaseUrl),
  })
  const connections = new OpenConnections(calls.connectionSettings)
  const redact = redactor(config.secrets.reveal())
  const writer = new LogWriter(db, redact, note)
  const log = fromLevel(config.logLevel, processLog(writer, nodeId, logLine))
  const capabilities = (signal: AbortSignal): Capabilities =>
    capabilitiesOver({ calls, store, connections, projectDir: config.projectDir, log }, signal)
  // A promise that an author let float must not take down the shards or the server.
  process.on('unhandledRejection', (reason) => log.error(`unhandled rejection: ${messageOf(reason)}`))
  const definitions = await loadVersion(orders.version)
  return {
    nodeId,
    place,
    db,
    store,
    claimant,
    configured,
    redact,
    log,
    capabilities,
    hosts: () => connections.hosts(),
    definitions,
    async close() {
      await connections.close()
      await log.flush()
      await db.close()
    },
  }
}
