/** Reading what lies in a partition, outside of any stream: the original bytes of some records, the end of a topic. */
import type { Consumer } from '@platformatic/kafka'
import type { KafkaClient } from './client.ts'
import { isKafkaError, kafkaFault } from './faults.ts'
import { type PlacedRecord, recordsFrom } from './record.ts'

const fetchBytes = 4_194_304
/** Brokers give one batch at least, however little is asked for. */
const oneBatch = 1

interface ReadFrom {
  readonly topic: string
  readonly partition: number
  readonly from: number
  /** Of one fetch. */
  readonly bytes?: number
}

/**
 * Reads a partition from an offset on until `visit` says to stop or there is nothing more; a transaction that was aborted is not
 * seen. `visit` gets records in order and gives the offset to read on from, or undefined at the end.
 * @throws SluiceError UNAVAILABLE, CONFIGURATION
 */
async function readPartition(
  client: KafkaClient,
  { topic, partition, from, bytes = fetchBytes }: ReadFrom,
  visit: (records: readonly PlacedRecord[], next: number) => number | undefined,
): Promise<void> {
  const shape = await client.shapeOf(topic)
  const node = shape?.leaders[partition]
  if (shape === undefined || node === undefined) return
  const consumer: Consumer = client.consumer(topic)
  try {
    for (let at: number | undefined = from; at !== undefined; ) {
      const wanted = { partition, currentLeaderEpoch: -1, fetchOffset: BigInt(at), lastFetchedEpoch: -1 }
      const { responses } = await consumer.fetch({
        node,
        topics: [{ topicId: shape.id, partitions: [{ ...wanted, partitionMaxBytes: bytes }] }],
        ...{ maxWaitTime: 100, minBytes: 1, maxBytes: bytes, isolationLevel: 1 },
      })
      const found = responses.flatMap(({ partitions }) => partitions)[0]
      const { records, next } = recordsFrom(at, found?.records ?? [], found?.abortedTransactions ?? [])
      at = next === at ? undefined : visit(records, next)
    }
  } catch (thrown) {
    if (isKafkaError(thrown, 'OFFSET_OUT_OF_RANGE')) return
    throw kafkaFault(`${topic}/${partition} cannot be read`, thrown)
  } finally {
    await client.closeConsumer(consumer)
  }
}

/** Those of the offsets that are still there. @throws SluiceError UNAVAILABLE, CONFIGURATION */
export async function recordsAt(
  client: KafkaClient,
  topic: string,
  partition: number,
  offsets: readonly number[],
): Promise<Map<number, PlacedRecord>> {
  const found = new Map<number, PlacedRecord>()
  const kept = (await client.shapeOf(topic)) === undefined ? undefined : (await client.beginningsOf(topic))[partition]
  if (kept === undefined) return found
  const open = offsets.filter((offset) => offset >= kept).sort((a, b) => a - b)
  if (open.length === 0) return found
  await readPartition(client, { topic, partition, from: open[0]! }, (records, next) => {
    for (const record of records) if (open.includes(record.offset)) found.set(record.offset, record)
    // What lies between two of them is passed by a fetch of its own.
    return open.find((offset) => offset >= next)
  })
  return found
}

/**
 * When the first record from an offset on was published, in milliseconds since the epoch; undefined when there is none.
 * @throws SluiceError UNAVAILABLE, CONFIGURATION
 */
export async function publishedAt(
  client: KafkaClient,
  topic: string,
  partition: number,
  from: number,
): Promise<number | undefined> {
  let found: number | undefined
  await readPartition(client, { topic, partition, from, bytes: oneBatch }, ([first], next) => {
    if (first === undefined) return next
    found = Number(first.timestamp)
    return undefined
  })
  return found
}

/** The values of a header in all records from the given ends of the partitions on. @throws SluiceError */
export async function headersSince(
  client: KafkaClient,
  topic: string,
  ends: readonly number[],
  header: string,
): Promise<Set<string>> {
  const found = new Set<string>()
  for (const [partition, from] of (await client.endsOf(topic)).map((_, index) => [index, ends[index] ?? 0] as const)) {
    await readPartition(client, { topic, partition, from }, (records, next) => {
      for (const { record } of records)
        for (const [name, value] of record.headers)
          if (value !== null && name?.toString() === header) found.add(value.toString())
      return next
    })
  }
  return found
}
