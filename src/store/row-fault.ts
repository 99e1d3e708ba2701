import { messageOf } from '../errors.ts'
import type { Refusal } from '../ports/sink.ts'

/** By SQLSTATE, or by its class: 22 data exception, 23 constraint, 44 check option, 54 program limit, P0001 raised by a trigger. */
const reasons: Readonly<Record<string, string>> = {
  22: 'not storable',
  54: 'not storable',
  44: 'check violation',
  23: 'constraint violation',
  23502: 'missing value',
  23503: 'missing reference',
  23505: 'unique violation',
  23514: 'check violation',
  P0001: 'refused by a trigger',
}

/** What the database said of the data of a row; undefined when it is about something else, or about the platform's own tables. */
export function rowFault(thrown: unknown): Refusal | undefined {
  if (!(thrown instanceof Error) || !('code' in thrown)) return undefined
  const { code, schema, where } = thrown as {
    readonly code?: unknown
    readonly schema?: unknown
    readonly where?: unknown
  }
  const state = String(code)
  if (!/^[0-9A-Z]{5}$/.test(state) || isOurs(state, schema, where)) return undefined
  const reason = reasons[state] ?? reasons[state.slice(0, 2)]
  return reason === undefined ? undefined : { reason, detail: messageOf(thrown) }
}

/** A constraint of the platform, or an exception of its functions, that is not met is a fault of the platform. */
function isOurs(state: string, schema: unknown, where: unknown): boolean {
  if (state.startsWith('23')) return schema === 'sluice' || schema === undefined
  return state === 'P0001' && /^PL\/pgSQL function sluice\./.test(String(where))
}
