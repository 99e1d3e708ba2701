/**
 * Limits are named by what they limit: `pool:etl`, `key:customer:42`, `rate:api`, `workers:images` (tasks of a workflow),
 * `runs:images` (runs of a workflow; of another lane `runs:images/backfill`).
 */
import { createHash } from 'node:crypto'

export const limitKinds = ['workers', 'key', 'pool', 'rate', 'runs'] as const
export type LimitKind = (typeof limitKinds)[number]

export interface LimitName {
  readonly kind: LimitKind
  readonly name: string
  /** Of a key, what it stands for; else empty. */
  readonly value: string
}

/** Longer values of keys are told apart by their hash. */
export const longestKeyValue = 200

export function limitId({ kind, name, value = '' }: Omit<LimitName, 'value'> & { readonly value?: string }): string {
  if (kind !== 'key') return `${kind}:${name}`
  return `key:${name}:${value.length > longestKeyValue ? createHash('sha256').update(value).digest('hex') : value}`
}

export function kindOfLimit(id: string): LimitKind {
  return id.slice(0, id.indexOf(':')) as LimitKind
}

export function limitNameOf(id: string): LimitName {
  const kind = kindOfLimit(id)
  const rest = id.slice(kind.length + 1)
  const end = kind === 'key' ? rest.indexOf(':') : rest.length
  return { kind, name: rest.slice(0, end), value: rest.slice(end + 1) }
}

/** What the definitions say of a limit. */
export interface DeclaredLimit {
  readonly kind: LimitKind
  readonly name: string
  /** Of a rate: tokens per `perMs`. */
  readonly slots: number
  readonly rate?: { readonly perMs: number; readonly burst: number }
}
