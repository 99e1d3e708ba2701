/** Records as Kafka has them, and as the source of a stream gives them. Pure. */
import { isUtf8 } from 'node:buffer'
import type { KafkaRecord, RecordsBatch } from '@platformatic/kafka'
import type { SourceRecord } from '../../ports/source.ts'

/** The header that carries the id a record was published under. */
export const idHeader = 'sluice-record-id'

const idHeaderBytes = Buffer.from(idHeader)
const control = 1 << 5
const transactional = 1 << 4

export interface AbortedTransaction {
  readonly producerId: bigint
  readonly firstOffset: bigint
}

/** A record at its place. */
export interface PlacedRecord {
  readonly offset: number
  readonly timestamp: bigint
  readonly record: KafkaRecord
}

/**
 * The records of a fetch from an offset on: without markers, without those of transactions that were aborted, and
 * without those below the offset (batches are given whole). `next`: one above the last offset that was passed.
 */
export function recordsFrom(
  from: number,
  batches: readonly RecordsBatch[],
  aborted: readonly AbortedTransaction[],
): { readonly records: PlacedRecord[]; readonly next: number } {
  const records: PlacedRecord[] = []
  const pending = aborted.toSorted((a, b) => Number(a.firstOffset - b.firstOffset))
  const aborting = new Set<bigint>()
  let next = from
  for (const batch of batches) {
    const first = Number(batch.firstOffset)
    const last = first + batch.lastOffsetDelta
    while (pending[0] !== undefined && pending[0].firstOffset <= BigInt(last)) aborting.add(pending.shift()!.producerId)
    next = Math.max(next, last + 1)
    if ((batch.attributes & control) !== 0) {
      // Its key says version, then type: 0 ends a transaction as aborted.
      if (batch.records[0]?.key?.readInt16BE(2) === 0) aborting.delete(batch.producerId)
      continue
    }
    if ((batch.attributes & transactional) !== 0 && aborting.has(batch.producerId)) continue
    for (const record of batch.records) {
      const offset = first + record.offsetDelta
      if (offset >= from) records.push({ offset, timestamp: batch.firstTimestamp + record.timestampDelta, record })
    }
  }
  return { records, next }
}

/** Ids beyond this are none of ours. */
const maxIdBytes = 1_000

/**
 * `malformed`: it is not UTF-8; whether it is JSON that fits the topic's schema is seen later. `tombstone`: it has no value,
 * as what a compacted topic forgets a key by; a stream has nothing to do with it.
 */
export function sourceRecordOf(topic: string, partition: number, { offset, record }: PlacedRecord): SourceRecord {
  const { value } = record
  const id = idOf(record) ?? `${topic}-${partition}-${offset}`
  const key = record.key === null ? null : record.key.toString('utf8')
  if (value === null) return { offset, id, key, value: '', fault: { reason: 'tombstone', detail: 'It has no value' } }
  if (isUtf8(value)) return { offset, id, key, value: value.toString('utf8') }
  const detail = `It is not UTF-8; it begins with the bytes ${value.subarray(0, 16).toString('hex')}`
  return { offset, id, key, value: value.toString('utf8'), fault: { reason: 'malformed', detail } }
}

function idOf({ headers }: KafkaRecord): string | undefined {
  for (const [name, value] of headers) {
    if (name === null || value === null || !idHeaderBytes.equals(name)) continue
    if (value.length > 0 && value.length <= maxIdBytes && isUtf8(value) && !value.includes(0))
      return value.toString('utf8')
  }
  return undefined
}
