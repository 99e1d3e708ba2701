/**
 * A topic as the sink of a stream. Transactional: the rows are appended in the transaction that commits the offset, under the ids
 * of the records that they came from.
 *
 * 1. One append per transaction, for the locks that it takes (see `topics.ts`): first those of the ids, in their order, then those
 *    of the partitions, in theirs.
 * 2. An id that the topic has adds nothing: the record is there, and ends as `written`.
 */
import type { PreparedRow, Refusal, Sink, SinkItem } from '../ports/sink.ts'
import type { Schema } from '../sdk/schema.ts'
import { append, maxIdBytes, maxRecordBytes } from './topics.ts'

export interface TopicSinkOptions {
  readonly name: string
  readonly schema: Schema
  readonly key: ((record: never) => string) | undefined
}

export function topicSink(options: TopicSinkOptions): Sink {
  return {
    class: 'transactional',
    prepare: (row) => prepareRecord(options, row),
    async write(session, _origin, items) {
      const rows = items.filter((item) => 'key' in item.target)
      if (rows.length > 0) await append(session, options.name, rows.map(recordOf))
      return items.map((item) => ({ outcome: 'key' in item.target ? 'written' : 'duplicate' }))
    },
  }
}

const recordOf = ({ recordId, target }: SinkItem) => {
  const { key, body } = target as PreparedRow
  return { id: recordId, key: key === '' ? null : key, value: body }
}

/** A row as a record of the topic: `body` is its value, `key` the topic's key of it, empty where the topic has none. */
export function prepareRecord({ name, schema, key: keyOf }: TopicSinkOptions, row: unknown): PreparedRow | Refusal {
  const parsed = schema.safeParse(row)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    return { reason: 'invalid row', detail: `for topic ${name}: /${issue?.path.join('/')}: ${issue?.message}` }
  }
  const body = textOf(parsed.data)
  if (body === undefined) return { reason: 'invalid row', detail: `for topic ${name}: it is not JSON` }
  const bytes = Buffer.byteLength(body)
  if (bytes > maxRecordBytes) {
    return { reason: 'record too large', detail: `it has ${bytes} bytes as JSON; ${maxRecordBytes} are allowed` }
  }
  const key = keyOf === undefined ? '' : keyOf(parsed.data as never)
  if (keyOf !== undefined && !isKey(key)) {
    const said = `${JSON.stringify(key)?.slice(0, 100)} is not a key of topic ${name}`
    return { reason: 'invalid key', detail: `${said}; text of 1 to ${maxIdBytes} bytes without a zero character is` }
  }
  return { key, body, bytes: [], size: body.length }
}

const isKey = (key: unknown): boolean =>
  typeof key === 'string' && key !== '' && !key.includes('\0') && Buffer.byteLength(key) <= maxIdBytes

function textOf(value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch {
    return undefined
  }
}
