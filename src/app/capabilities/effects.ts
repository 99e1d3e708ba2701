/**
 * What one attempt reads and writes, noted in its runner without the author's doing: each thing once, 1,000 at most; of what
 * comes after only the number is known. It costs no call: all of it goes to the engine with the end of the attempt.
 */
import { createHash, type Hash } from 'node:crypto'
import type { Capabilities, Documents, Objects } from '../../sdk/context.ts'
import type { LineageKind, LineageNote, LineageWhat } from '../../store/lineage.ts'
import type { PublishedRecord } from './calls.ts'

export const mostNotes = 1_000
const longestName = 1_000

interface Sum {
  count: number
  readonly hash: Hash
}

export class Effects {
  private readonly notes = new Map<string, LineageNote>()
  /** Of what is written in a sequence: how much, and its hash so far. */
  private readonly sums = new Map<string, Sum>()
  private left = 0

  note(kind: LineageKind, what: LineageWhat, name: string, version: number | null, hash: string | null): void {
    const key = `${kind} ${what} ${hash ?? ''} ${version ?? ''} ${name}`
    if (this.notes.has(key)) return
    if (this.notes.size + this.sums.size >= mostNotes) this.left += 1
    else this.notes.set(key, { kind, what, name: name.slice(0, longestName), version, hash })
  }

  /** Something more is written to a topic or a collection. */
  wrote(what: 'topic' | 'documents', name: string, count: number, text: string): void {
    const key = `${what} ${name}`
    let sum = this.sums.get(key)
    if (!sum) {
      if (this.notes.size + this.sums.size >= mostNotes) {
        this.left += 1
        return
      }
      sum = { count: 0, hash: createHash('sha256') }
      this.sums.set(key, sum)
    }
    sum.count += count
    sum.hash.update(text)
  }

  published(topic: string, records: readonly PublishedRecord[], known: number): void {
    const lines = records.map(({ id, key, value }) => `${JSON.stringify([id, key])} ${value}\n`)
    this.wrote('topic', topic, records.length, lines.join(''))
    // How many were known already depends on what the topic had.
    if (known > 0) this.note('read', 'topic', topic, known, null)
  }

  get any(): boolean {
    return this.notes.size > 0 || this.sums.size > 0 || this.left > 0
  }

  all(): LineageNote[] {
    const sums = [...this.sums].map(([key, { count, hash }]): LineageNote => {
      const [what, name] = [key.slice(0, key.indexOf(' ')), key.slice(key.indexOf(' ') + 1)]
      const at = { what: what as LineageWhat, name: name.slice(0, longestName) }
      return { kind: 'write', ...at, version: count, hash: hash.copy().digest('hex') }
    })
    const more: LineageNote = { kind: 'read', what: 'more', name: '', version: this.left, hash: null }
    return [...this.notes.values(), ...sums, ...(this.left > 0 ? [more] : [])]
  }
}

/** The same capabilities; what is done with them is noted. */
export function noting(capabilities: Capabilities, effects: Effects): Capabilities {
  return {
    ...capabilities,
    objects: notingObjects(capabilities.objects, effects),
    documents: <Document extends object>(collection: string) =>
      notingDocuments(capabilities.documents<Document>(collection), collection, effects),
    connection: ((handle) => {
      effects.note('read', 'connection', handle.name, null, null)
      return capabilities.connection(handle)
    }) as Capabilities['connection'],
    secret(secret) {
      effects.note('read', 'secret', typeof secret === 'string' ? secret : secret.name, null, null)
      return capabilities.secret(secret)
    },
  }
}

function notingObjects(objects: Objects, effects: Effects): Objects {
  return {
    async put(source) {
      const stored = await objects.put(source)
      effects.note('write', 'object', '', null, stored.sha256)
      return stored
    },
    async putFile(path) {
      const stored = await objects.putFile(path)
      effects.note('read', 'file', path, stored.bytes, stored.sha256)
      effects.note('write', 'object', '', null, stored.sha256)
      return stored
    },
    open(sha256) {
      effects.note('read', 'object', '', null, sha256)
      return objects.open(sha256)
    },
    read(sha256) {
      effects.note('read', 'object', '', null, sha256)
      return objects.read(sha256)
    },
  }
}

function notingDocuments<Document extends object>(
  documents: Documents<Document>,
  collection: string,
  effects: Effects,
): Documents<Document> {
  const read = () => effects.note('read', 'documents', collection, null, null)
  return {
    get(key, options) {
      read()
      return documents.get(key, options)
    },
    async put(key, document, options) {
      await documents.put(key, document, options)
      effects.wrote(
        'documents',
        collection,
        1,
        `${JSON.stringify([key, options?.objects ?? []])} ${textOf(document)}\n`,
      )
    },
    async change(key, change, options) {
      read()
      const changed = await documents.change(key, change, options)
      if (changed !== undefined)
        effects.wrote('documents', collection, 1, `${JSON.stringify(key)} ${textOf(changed)}\n`)
      return changed
    },
    list(options) {
      read()
      return documents.list(options)
    },
    count(options) {
      read()
      return documents.count(options)
    },
    stored(keys) {
      read()
      return documents.stored(keys)
    },
  }
}

/** With the hash of each byte field in its place: those are at the top. */
function textOf(document: object): string {
  const fields = Object.entries(document).map(([field, value]) =>
    value instanceof Uint8Array
      ? [field, { $sha256: createHash('sha256').update(value).digest('hex') }]
      : [field, value as unknown],
  )
  return JSON.stringify(Object.fromEntries(fields))
}
