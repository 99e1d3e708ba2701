/**
 * Turns what was sent into rows: schema, id and row, by the author's functions. Synchronous but for sinks whose rows have
 * to be waited for. Whatever is thrown ends that event alone.
 */
import { hash } from 'node:crypto'
import { faultsOf, isUnfit, pointer, unfitPart } from '../../core/input-faults.ts'
import { plainParser } from '../../core/plain-schema.ts'
import { type Fault, messageOf, SluiceError } from '../../errors.ts'
import type { EventEnd } from '../../ports/ingest.ts'
import type { PreparedRow, Refusal, Sink } from '../../ports/sink.ts'
import type { HttpStream } from '../../sdk/stream.ts'
import type { Accepted } from './arrival.ts'

export interface AdmitParts {
  readonly stream: HttpStream
  /** Is told of each event that is rejected, under a short class. */
  readonly rejected: (reason: string) => void
}

/** UTF-16 units of an id that a client gives. */
const maxIdLength = 1_000

export interface Sent {
  readonly event: unknown
  /** The id that the request gives it, if it has none of its own. */
  readonly key: string | undefined
  /** Its id if it is given none. */
  readonly made: string
  /** When its request came. */
  readonly at: number
  readonly suspect: boolean
}

export type Admit = (sink: Sink, sent: Sent) => Accepted | EventEnd | Promise<Accepted | EventEnd>

export function admitTo(parts: AdmitParts): Admit {
  const { stream, rejected } = parts
  const { from, id: identify, row: rowOf } = stream.options
  const { schema } = from
  const plain = plainParser(schema)

  const reject = (reason: string, detail: string, faults: readonly Fault[] = []): EventEnd => {
    rejected(reason)
    return { outcome: 'rejected', code: 'INVALID_INPUT', detail, faults }
  }
  const malformed = (faults: readonly Fault[]): EventEnd => {
    const more = faults.length > 1 ? ` (and ${faults.length - 1} more)` : ''
    return reject('malformed', `${faults[0]?.where} ${faults[0]?.message}${more}`, faults.slice(0, 100))
  }
  const failed = (what: string, thrown: unknown): EventEnd =>
    thrown instanceof SluiceError
      ? reject('refused', thrown.message, thrown.faults)
      : reject('function failed', `${what}: ${messageOf(thrown)}`)

  const accepted = (row: PreparedRow | Refusal, id: string, given: string | undefined, event: unknown) =>
    'reason' in row
      ? reject(row.reason, `${row.reason}: ${row.detail}`)
      : { id, mark: given === undefined ? undefined : markOf(stream.name, given), event, row, end: undefined }

  return (sink, { event: sent, key, made, at, suspect }) => {
    if (suspect) {
      const fault = unfitPart(sent, '') ?? inexactPart(sent, '')
      if (fault !== undefined) return malformed([fault])
    }
    let event: unknown = plain?.(sent)
    if (event === undefined) {
      try {
        const parsed = schema.safeParse(sent)
        if (!parsed.success) return malformed(faultsOf(parsed.error, ''))
        event = parsed.data
      } catch (thrown) {
        return failed('schema', thrown)
      }
    }
    let given: string | undefined
    try {
      given = givenId(identify?.(event as never)) ?? key
    } catch (thrown) {
      return failed('id', thrown)
    }
    const id = given ?? made
    let row: unknown
    try {
      row = rowOf(event as never, { receivedAt: new Date(at), id })
    } catch (thrown) {
      return failed('row', thrown)
    }
    try {
      const prepared = sink.prepare(row)
      if (prepared instanceof Promise) return prepared.then((ready) => accepted(ready, id, given, event))
      return accepted(prepared, id, given, event)
    } catch (thrown) {
      return failed('row', thrown)
    }
  }
}

/** @throws SluiceError INVALID_INPUT for what is no id */
function givenId(id: unknown): string | undefined {
  if (id === undefined || id === null) return undefined
  if (typeof id === 'string' && id !== '' && id.length <= maxIdLength && !isUnfit(id)) return id
  if (typeof id === 'number' && Number.isSafeInteger(id)) return String(id)
  throw new SluiceError(
    'INVALID_INPUT',
    `the id of the event is ${JSON.stringify(id)?.slice(0, 100)}; allowed is text of 1 to ${maxIdLength} characters without NUL, or a whole number`,
  )
}

/** The first half of a sha256, as a UUID: 16 bytes in the index, however long the id is. */
export function markOf(stream: string, id: string): string {
  const hex = hash('sha256', `${stream}\n${id}`, 'hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`
}

/** The first whole number that JavaScript does not hold exactly: beyond 2^53 - 1 another one would be stored. */
export function inexactPart(value: unknown, where: string): Fault | undefined {
  if (typeof value === 'number') {
    if (!Number.isInteger(value) || Number.isSafeInteger(value)) return undefined
    return { where, message: 'is a whole number beyond 9007199254740991 (2^53 - 1), which cannot be kept exactly' }
  }
  if (typeof value !== 'object' || value === null) return undefined
  for (const [name, inner] of Object.entries(value)) {
    const found = inexactPart(inner, pointer(where, [name]))
    if (found !== undefined) return found
  }
  return undefined
}
