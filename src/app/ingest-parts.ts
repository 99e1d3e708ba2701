/** HTTP ingest of a serving process, on connections of its own. */
import { randomUUID } from 'node:crypto'
import type { Check } from '../api/parts.ts'
import { leaseTimes } from '../core/lease.ts'
import { openDatabase, openHeartbeat } from '../postgres/pool.ts'
import { isHttpStream } from '../sdk/stream.ts'
import { documentObjects } from '../store/document-bytes.ts'
import { openIngest } from '../streams/ingest/ingest.ts'
import { systemClock } from '../time.ts'
import type { Config } from './config.ts'
import { removeDeadNeighbours, thisHost } from './dead-neighbours.ts'
import { kafkaSettingsOf } from './kafka/open-kafka.ts'
import type { openProcessParts } from './process-parts.ts'
import { streamAdapters } from './stream-adapters.ts'

/**
 * Nobody who posts waits longer for a server that does not answer than for a commit under way and the next try. The server ends what takes
 * longer before we give its connection up, so that nothing is committed behind our back but by a network that broke off.
 */
const statementTimeoutMs = 4_000
const answerTimeoutMs = 5_000
const connectTimeoutMs = 2_000

export async function openIngestParts(
  parts: Awaited<ReturnType<typeof openProcessParts>>,
  config: Config,
  note: (line: string) => void,
) {
  const { definitions, place, nodeId, log } = parts
  const streams = [...definitions.streams.values()].filter((stream) => isHttpStream(stream))
  if (streams.length === 0) return { points: [], checks: (): Check[] => [], stop: async () => {} }
  const limits = { statementTimeoutMs, answerTimeoutMs, connectTimeoutMs, idleTimeoutMs: 0 }
  const database = openDatabase({ ...place, ...limits, applicationName: 'sluice ingest', max: streams.length })
  const heartbeat = openHeartbeat(place, leaseTimes(config.leaseMs).answerMs)
  await removeDeadNeighbours(parts.db, 'serving')
  const adapters = streamAdapters({
    db: database,
    objects: documentObjects(parts.db, parts.store, parts.claimant),
    kafka: kafkaSettingsOf(config, parts.configured) === undefined ? undefined : 'outbox',
  })
  const ingest = await openIngest({
    database,
    heartbeat,
    streams,
    sink: (stream) => adapters.sink(stream),
    node: nodeId,
    host: thisHost,
    pid: process.pid,
    leaseMs: config.leaseMs,
    newId: randomUUID,
    now: systemClock.now,
    report: (message, fields) => {
      log.warn(message, fields)
      note(`${message} ${JSON.stringify(fields)}`)
    },
  })
  const unlisten = await parts.db.listen(
    'sluice_shards',
    () => void ingest.look(),
    () => void ingest.look(),
  )
  return {
    points: ingest.points,
    checks: (): Check[] => {
      const closed = ingest.closed()
      const detail =
        closed.length === 0 ? `${streams.length} streams take events` : `${closed.join(', ')} take no events`
      return [{ name: 'ingest', ok: closed.length === 0, detail }]
    },
    async stop() {
      await unlisten()
      await ingest.stop()
      await Promise.all([database.close(), heartbeat.close()])
    },
  }
}
