/**
 * Dead letters as messages: the record as it was, bytes, key and headers, read again from where it lies, with headers that say
 * where that is and why it ended.
 */
import type { KafkaClient } from '../../connectors/kafka/client.ts'
import type { OutMessage } from '../../connectors/kafka/ordered-producer.ts'
import { recordsAt } from '../../connectors/kafka/read-back.ts'
import type { PlacedRecord } from '../../connectors/kafka/record.ts'
import type { Letter, OutboxRow } from '../../store/kafka-outbox.ts'

/** The dead letters of a topic lie in the topic of its name and this. */
export const deadLetterSuffix = '.dead-letters'
/** What a batch of the dead-letter topic may have. */
export const maxLetterBytes = 11_534_336
/** A value beyond this is left out. */
const maxValueBytes = 10_485_760

/** By the id of their rows. @throws SluiceError UNAVAILABLE, CONFIGURATION */
export async function letterMessages(
  client: KafkaClient,
  topic: string,
  rows: readonly OutboxRow[],
  partitions: number,
): Promise<Map<number, OutMessage>> {
  const places = new Map<string, Letter[]>()
  for (const { letter } of rows) {
    if (letter === null) continue
    const place = `${letter.topic}:${letter.partition}`
    places.set(place, [...(places.get(place) ?? []), letter])
  }
  const originals = new Map<string, PlacedRecord>()
  for (const [place, [first, ...others]] of places) {
    const offsets = [first!, ...others].map(({ offset }) => offset)
    for (const [offset, record] of await recordsAt(client, first!.topic, first!.partition, offsets))
      originals.set(`${place}:${offset}`, record)
  }
  const messages = new Map<number, OutMessage>()
  for (const row of rows) {
    if (row.letter === null) continue
    const { topic: source, partition, offset } = row.letter
    messages.set(
      row.id,
      messageOfLetter(topic, row, row.letter, partitions, originals.get(`${source}:${partition}:${offset}`)),
    )
  }
  return messages
}

/** `sluice-original`: `kept` for the text that the database has, `lost` when there is neither, `too large`. */
export function messageOfLetter(
  topic: string,
  { recordId, kept }: Pick<OutboxRow, 'recordId' | 'kept'>,
  letter: Letter,
  partitions: number,
  original: PlacedRecord | undefined,
): OutMessage {
  const bytes = original === undefined ? (kept === null ? null : Buffer.from(kept)) : original.record.value
  const large = bytes !== null && bytes.length > maxValueBytes
  const mark = large ? 'too large' : original !== undefined ? undefined : kept === null ? 'lost' : 'kept'
  const headers: [string, string | Buffer][] = [
    ['sluice-stream', letter.stream],
    ['sluice-source-topic', letter.topic],
    ['sluice-source-partition', String(letter.partition)],
    ['sluice-source-offset', String(letter.offset)],
    ['sluice-source-id', recordId],
    ['sluice-reason', letter.reason ?? ''],
    ['sluice-detail', letter.detail ?? ''],
    ['sluice-attempts', String(letter.attempts)],
    ...(mark === undefined ? [] : [['sluice-original', mark] as [string, string]]),
  ]
  const before = (original?.record.headers ?? []).map(([name, value]): [string, Buffer] => [
    name?.toString() ?? '',
    value ?? Buffer.alloc(0),
  ])
  return {
    topic,
    partition: letter.partition % partitions,
    key: original?.record.key ?? null,
    value: large ? null : bytes,
    headers: [...before, ...headers],
  }
}
