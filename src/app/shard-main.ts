/** A shard process: runs the steps of streams for the shards it holds, and commits what they return. */
import { leaseTimes } from '../core/lease.ts'
import { openHeartbeat } from '../postgres/pool.ts'
import { isHttpStream } from '../sdk/stream.ts'
import { documentObjects } from '../store/document-bytes.ts'
import { openStreams } from '../streams/streams.ts'
import { Timers } from '../streams/timer/timers.ts'
import { type Orders, runChild, type Started } from './child-process.ts'
import type { Config } from './config.ts'
import { removeDeadNeighbours, thisHost } from './dead-neighbours.ts'
import { KafkaTopics } from './kafka/kafka-topics.ts'
import { openKafka } from './kafka/open-kafka.ts'
import { openProcessParts } from './process-parts.ts'
import { random } from './random.ts'
import { streamAdapters } from './stream-adapters.ts'
import { keepTelling } from './tell-hosts.ts'

runChild(startShards)

async function startShards(orders: Orders, config: Config, note: (line: string) => void): Promise<Started> {
  const parts = await openProcessParts('shard', orders, config, { max: 12, answerTimeoutMs: 30_000 }, note)
  const heartbeat = openHeartbeat(parts.place, leaseTimes(config.leaseMs).answerMs)
  await removeDeadNeighbours(parts.db, 'shard')
  const report = (message: string, fields: Record<string, unknown>) => {
    parts.log.warn(message, fields)
    note(`${message} ${JSON.stringify(fields)}`)
  }
  const kafka = await openKafka(config, parts.configured, 'shard')
  const topics = kafka && new KafkaTopics({ client: kafka, db: parts.db, node: parts.nodeId, report })
  const streams = await openStreams({
    database: parts.db,
    heartbeat,
    abandonConnections: () => parts.db.abandon(),
    streams: [...parts.definitions.streams.values()].flatMap((stream) => (isHttpStream(stream) ? [] : [stream])),
    node: parts.nodeId,
    host: thisHost,
    capabilities: parts.capabilities,
    adapters: streamAdapters({
      db: parts.db,
      objects: documentObjects(parts.db, parts.store, parts.claimant),
      kafka: topics,
      timers: new Timers({ capabilities: parts.capabilities, report }),
    }),
    random,
    redact: parts.redact,
    leaseMs: config.leaseMs,
    report,
  })
  const hush = keepTelling({
    ...{ db: parts.db, node: parts.nodeId, hosts: parts.hosts, redact: parts.redact },
    everyMs: config.leaseMs / 3,
  })
  return {
    async stop(hurry) {
      hush()
      await streams.stop(hurry ? 0 : undefined)
      await Promise.all([topics?.close(), kafka?.close()])
      await Promise.all([parts.close(), heartbeat.close()])
    },
  }
}
