/**
 * A topic of Kafka as the sink of a stream: each row under the id of the record it came from (header `sluice-record-id`),
 * placed by the topic's key.
 *
 * Idempotent towards whoever knows that id: a record is delivered before its offset is committed, so after a crash between
 * the two it is delivered again, under the same id and behind what was delivered then.
 */
import type { PreparedRow, Refusal, Sink } from '../../ports/sink.ts'
import { maxMessageBytes, type OrderedProducer, type OutMessage } from './ordered-producer.ts'
import { partitionOf } from './partition.ts'
import { idHeader } from './record.ts'

export interface KafkaSinkOptions {
  readonly topic: string
  readonly producer: OrderedProducer
  /** Makes the topic if it is not there, and gives the number of its partitions; asked once, and again after a failure. */
  readonly partitions: () => Promise<number>
  /** Checks a row: `body` is the value then, `key` the topic's key of it, empty where the topic has none. */
  readonly prepare: (row: unknown) => PreparedRow | Refusal
}

export function kafkaSink({ topic, producer, partitions, prepare }: KafkaSinkOptions): Sink {
  let asked: Promise<number> | undefined
  const count = () => {
    asked ??= partitions()
    return asked.catch((thrown: unknown) => {
      asked = undefined
      throw thrown
    })
  }
  return {
    class: 'idempotent',
    prepare(row) {
      const prepared = prepare(row)
      return 'reason' in prepared ? prepared : (tooLarge(prepared) ?? prepared)
    },
    async deliver(_, items) {
      const rows = items.flatMap(({ recordId, target }) => ('repeats' in target ? [] : [{ recordId, target }]))
      const places = await count()
      await producer.send(
        rows.map(({ recordId, target: { key, body } }) =>
          outMessage(topic, { id: recordId, key: key === '' ? null : key, value: body }, places),
        ),
      )
    },
    write: async (_session, _origin, items) =>
      items.map(({ target }) => ({ outcome: 'repeats' in target ? 'duplicate' : 'written' })),
  }
}

function tooLarge({ key, body }: PreparedRow): Refusal | undefined {
  const detail = largerThanAllowed({ key, value: body })
  return detail === undefined ? undefined : { reason: 'record too large', detail }
}

/** Room for the record's id, which is up to 1,000 bytes, and for what tells where it came from. */
const headerBytes = 2_000

/** What is wrong with a record that no broker with its usual settings takes. */
export function largerThanAllowed({
  key,
  value,
}: {
  readonly key: string | null
  readonly value: string
}): string | undefined {
  const size = Buffer.byteLength(value) + Buffer.byteLength(key ?? '')
  const allowed = maxMessageBytes - headerBytes
  return size <= allowed ? undefined : `key and value have ${size} bytes; Kafka takes ${allowed}`
}

/** A record under its id: at the partition of its key, or of its id when it has none. */
export function outMessage(
  topic: string,
  { id, key, value }: { readonly id: string; readonly key: string | null; readonly value: string },
  partitions: number,
  headers: OutMessage['headers'] = [],
): OutMessage {
  const place = Buffer.from(key ?? id)
  return {
    topic,
    partition: partitionOf(place, partitions),
    key: key === null ? null : place,
    value: Buffer.from(value),
    headers: [[idHeader, id], ...headers],
  }
}
