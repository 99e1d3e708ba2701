/** Collections of documents in memory, with the meaning of those in the database. */
import { createHash } from 'node:crypto'
import type { CapabilityCalls } from '../app/capabilities/calls.ts'
import type { ListOptions } from '../sdk/context.ts'

type Body = Record<string, unknown>
type Calls = Pick<
  CapabilityCalls,
  | 'getDocument'
  | 'putDocument'
  | 'revisedDocument'
  | 'replaceDocument'
  | 'listDocuments'
  | 'countDocuments'
  | 'storedFields'
>

export class MemoryDocuments implements Calls {
  readonly #collections = new Map<string, Map<string, Body>>()

  /** All documents of a collection, in the order of their insertion. */
  all(collection: string): Body[] {
    return [...this.#of(collection).values()].map((body) => structuredClone(body))
  }

  async getDocument(collection: string, key: string, bytes: boolean): Promise<object | undefined> {
    const body = this.#of(collection).get(key)
    return body && structuredClone(bytes ? body : withoutBytes(body))
  }

  put(collection: string, key: string, document: object): void {
    this.#of(collection).set(key, structuredClone(document) as Body)
  }

  async putDocument(collection: string, key: string, document: object): Promise<void> {
    this.put(collection, key, document)
  }

  async revisedDocument(collection: string, key: string) {
    const body = this.#of(collection).get(key)
    return body && { document: structuredClone(withoutBytes(body)) as object, revision: revisionOf(body) }
  }

  async replaceDocument(collection: string, key: string, revision: string, document: object): Promise<boolean> {
    const body = this.#of(collection).get(key)
    if (!body || revisionOf(body) !== revision) return false
    this.#of(collection).set(key, { ...onlyBytes(body), ...(structuredClone(document) as Body) })
    return true
  }

  async listDocuments(collection: string, { limit = 50, cursor, where, near }: ListOptions) {
    const all = [...this.#of(collection).values()].filter(
      (body) =>
        (where === undefined || contains(body, where)) &&
        (near === undefined || distance(body[near.field], near.hash) <= near.distance),
    )
    const from = Number(cursor ?? 0)
    const items = all.slice(from, from + limit).map((body) => structuredClone(withoutBytes(body)))
    return { items, nextCursor: from + limit < all.length ? String(from + limit) : null }
  }

  async countDocuments(collection: string, { where }: Pick<ListOptions, 'where'>): Promise<number> {
    return [...this.#of(collection).values()].filter((body) => where === undefined || contains(body, where)).length
  }

  async storedFields(collection: string, keys: readonly string[]) {
    const found = keys.flatMap((key) => {
      const fields = Object.entries(onlyBytes(this.#of(collection).get(key) ?? {})) as [string, Uint8Array][]
      const told = fields.map(([field, bytes]) => [
        field,
        { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex'), inObjects: false },
      ])
      return fields.length === 0 ? [] : [[key, Object.fromEntries(told)]]
    })
    return Object.fromEntries(found)
  }

  #of(collection: string): Map<string, Body> {
    let found = this.#collections.get(collection)
    if (!found) {
      found = new Map()
      this.#collections.set(collection, found)
    }
    return found
  }
}

const isBytes = (value: unknown) => value instanceof Uint8Array
const withoutBytes = (body: Body) => Object.fromEntries(Object.entries(body).filter(([, value]) => !isBytes(value)))
const onlyBytes = (body: Body) => Object.fromEntries(Object.entries(body).filter(([, value]) => isBytes(value)))
const revisionOf = (body: Body) =>
  createHash('md5')
    .update(JSON.stringify(withoutBytes(body)))
    .digest('hex')

/** JSON containment, as PostgreSQL's `@>` has it: objects field by field, lists item by item, scalars equal. */
function contains(value: unknown, part: unknown): boolean {
  if (Array.isArray(part)) {
    return Array.isArray(value) && part.every((item) => value.some((one) => contains(one, item)))
  }
  if (typeof part !== 'object' || part === null) return value === part
  if (typeof value !== 'object' || value === null) return false
  return Object.entries(part).every(([key, field]) => contains((value as Body)[key], field))
}

function distance(value: unknown, hash: string): number {
  if (typeof value !== 'string' || !/^[0-9a-f]{16}$/.test(value)) return Number.POSITIVE_INFINITY
  const bits = (BigInt(`0x${value}`) ^ BigInt(`0x${hash}`)).toString(2)
  return bits.replaceAll('0', '').length
}
