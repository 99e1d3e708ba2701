/** Turns what was read into records: schema, identity, key and group, by the author's functions. */
import { createHash } from 'node:crypto'
import { messageOf } from '../errors.ts'
import type { Stream } from '../sdk/stream.ts'
import type { Timer, TimerRecord } from '../sdk/timer.ts'
import { type End, maxNameBytes, type Parsed } from './entry.ts'

/** What is read of the topic or of the durable table. */
export interface Received {
  readonly offset: number
  /** The id it was published under, or the identity if that is known. */
  readonly id: string
  readonly value: string
  readonly fault?: { readonly reason: string; readonly detail: string }
}

export type Intake = (received: Received) => Parsed

/**
 * A record that does not fit the topic's schema is `malformed`; one for which a function of the author throws, or gives
 * what is no name, is `function failed`. Both are rejected, and nothing throws.
 */
export function intakeOf({ options }: Stream): Intake {
  const { schema } = options.from
  const { distinct, concurrency } = options
  const keyOf = options.from.kind === 'timer' ? itemKey(options.from, options.key) : plainKey(options.key)
  return ({ offset, id, value, fault: unread }) => {
    const refused = (reason: string, detail: string): Parsed => {
      const fault: End = { kind: 'rejected', reason, detail }
      return { offset, recordId: nameOf(id), value, record: undefined, key: null, again: false, group: '', fault }
    }
    if (unread !== undefined) return refused(unread.reason, unread.detail)
    let record: unknown
    try {
      const parsed = schema.safeParse(JSON.parse(value))
      if (!parsed.success) return refused('malformed', faultsOf(parsed.error.issues))
      record = parsed.data
    } catch (thrown) {
      return refused('malformed', messageOf(thrown))
    }
    let asked = 'id'
    try {
      const recordId = identityOf(options.id(record))
      asked = 'key'
      const key = keyOf(record)
      asked = 'distinct'
      const again = typeof distinct === 'function' && !distinct(record)
      asked = 'concurrency.per'
      const group = concurrency?.per === undefined ? '' : String(concurrency.per(record))
      return { offset, recordId, value, record, key, again, group, fault: undefined }
    } catch (thrown) {
      return refused('function failed', `${asked}: ${messageOf(thrown)}`)
    }
  }
}

type KeyOf = (record: unknown) => string | null

const plainKey = (key: Stream['options']['key']): KeyOf =>
  key === undefined ? () => null : (record) => nameOf(key(record))

/** The key of a timer's record is its item's id, so that no two records of an item are in their steps at once. */
function itemKey(timer: Timer, key: Stream['options']['key']): KeyOf {
  return (record) => {
    const id = itemId(timer, (record as TimerRecord<unknown>).item)
    const given = key?.(record) ?? id
    if (given !== id)
      throw new TypeError(`of a timer's record it is the id of the item, "${id}", not ${JSON.stringify(given)}`)
    return id
  }
}

/** The id of a timer's item as text. @throws TypeError when it is none; whatever the author's function throws. */
export function itemId(timer: Timer, item: unknown): string {
  const id: unknown = timer.id(item)
  const text = typeof id === 'number' && Number.isFinite(id) ? String(id) : id
  if (typeof text === 'string' && text !== '' && !text.includes('\0') && Buffer.byteLength(text) <= maxNameBytes)
    return text
  throw new TypeError(
    `${JSON.stringify(id)} is not an id; give a number, or text of 1 to 1,000 bytes without a zero byte`,
  )
}

export const faultsOf = (
  issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[],
): string =>
  issues
    .slice(0, 5)
    .map(({ path, message }) => `/${path.map(String).join('/')}: ${message}`)
    .join('; ')

/** What a stream makes of a value that an author or operator gives: its identity and key, or why it does not take it. */
export function identify(
  stream: Stream,
  value: string,
): { readonly recordId: string; readonly key: string | null } | { readonly fault: string } {
  const { recordId, key, fault } = intakeOf(stream)({ offset: 0, id: '', value })
  return fault?.kind === 'rejected' ? { fault: `${fault.reason}: ${fault.detail}` } : { recordId, key }
}

/** One text for the identity of a record: text and numbers as they are, lists as JSON. */
function identityOf(id: unknown): string {
  if (typeof id === 'string' || typeof id === 'number') return nameOf(String(id))
  if (Array.isArray(id) && id.length > 0) return nameOf(JSON.stringify(id))
  throw new TypeError(`${JSON.stringify(id)} is not an identity; give text, a number, or a list of them`)
}

/** A text that fits an index: what is longer than 1,000 bytes is named by its hash. */
function nameOf(text: unknown): string {
  if (typeof text !== 'string') throw new TypeError(`${JSON.stringify(text)} is not text`)
  const clean = text.includes('\0') ? JSON.stringify(text) : text
  if (clean.length * 3 <= maxNameBytes || Buffer.byteLength(clean) <= maxNameBytes) return clean
  return `sha256:${createHash('sha256').update(clean).digest('hex')}`
}
