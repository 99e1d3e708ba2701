/** What an engine does for topics in Kafka: attempts publish into the outbox, which is sent from here; topics of plans are copied. */
import { setTimeout as delay } from 'node:timers/promises'
import { largerThanAllowed } from '../../connectors/kafka/sink.ts'
import { SluiceError } from '../../errors.ts'
import type { Database } from '../../ports/database.ts'
import { putOut } from '../../store/kafka-outbox.ts'
import type { append } from '../../store/topics.ts'
import { systemClock } from '../../time.ts'
import type { Config } from '../config.ts'
import { TopicCopies } from './copy-topics.ts'
import { openKafka } from './open-kafka.ts'
import { Relay } from './relay.ts'

/** Undefined when topics lie in the database. @throws SluiceError CONFIGURATION, SECRET_UNKNOWN; not when the brokers are down */
export async function openKafkaEngine(
  config: Pick<Config, 'kafkaBrokers' | 'leaseMs'>,
  configured: Parameters<typeof openKafka>[1],
  { db, node }: { readonly db: Database; readonly node: string },
  note: (line: string) => void,
) {
  const client = await openKafka(config, configured, 'engine')
  if (client === undefined) return undefined
  const report = (message: string, fields: Record<string, unknown>) => note(`${message} ${JSON.stringify(fields)}`)
  const relay = new Relay({ db, client, node, leaseMs: config.leaseMs, report })
  const copies = new TopicCopies({ db, client, report, now: systemClock.now })
  return {
    direct: { publish },
    async start() {
      await relay.start()
      copies.start()
    },
    async stop() {
      const stopped = Promise.all([relay.stop(), copies.stop()])
      // Brokers that hang hold up nobody's end: what is under way fails when the client is closed, and is sent by who comes next.
      const late = new AbortController()
      await Promise.race([stopped, delay(5_000, undefined, { signal: late.signal }).catch(() => {})])
      late.abort()
      await client.close()
      await stopped
    },
  }
}

const publish: typeof append = (session, topic, records) => {
  for (const [index, record] of records.entries()) {
    const detail = largerThanAllowed(record)
    if (detail !== undefined) throw new SluiceError('RECORD_TOO_LARGE', `Record ${index} ("${record.id}"): ${detail}`)
  }
  return putOut(session, topic, records)
}
