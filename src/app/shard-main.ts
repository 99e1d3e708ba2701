/** A shard process: runs the steps of streams for the shards it holds, and commits what they return. */
import { documentObjects } from '../store/document-bytes.ts'
import { openStreams } from '../streams/streams.ts'
import { type Orders, runChild, type Started } from './child-process.ts'
import type { Config } from './config.ts'
import { removeDeadNeighbours, thisHost } from './dead-neighbours.ts'
import { openProcessParts } from './process-parts.ts'
import { random } from './random.ts'

runChild(startShards)

async function startShards(orders: Orders, config: Config, note: (line: string) => void): Promise<Started> {
  const parts = await openProcessParts('shard', orders, config, { connections: 12 }, note)
  await removeDeadNeighbours(parts.db, 'shard')
  const streams = await openStreams({
    database: parts.db,
    streams: [...parts.definitions.streams.values()],
    node: parts.nodeId,
    host: thisHost,
    capabilities: parts.capabilities,
    objects: documentObjects(parts.db, parts.store, parts.claimant),
    random,
    redact: parts.redact,
    leaseMs: config.leaseMs,
    report: (message, fields) => {
      parts.log.warn(message, fields)
      note(`${message} ${JSON.stringify(fields)}`)
    },
  })
  return {
    async stop() {
      await streams.stop()
      await parts.close()
    },
  }
}
