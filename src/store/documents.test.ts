import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { noObjects } from '../../test/stream-world.ts'
import type { Session } from '../ports/database.ts'
import type { PreparedRow, SinkItem } from '../ports/sink.ts'
import type { DocumentObjects } from './document-bytes.ts'
import { documentSink } from './document-sink.ts'
import { openDocuments } from './documents.ts'

interface Row extends Record<string, unknown> {
  id: string
}

let test: TestDatabase
let made = 0
beforeAll(async () => {
  test = await testDatabase()
})
afterAll(() => test.drop())

function sinkOf(objects: DocumentObjects = noObjects) {
  made += 1
  const collection = `collection-${made}`
  const merge = (document: Record<string, unknown>, record: unknown) => {
    if (record === 'fail') throw new Error('merge of the author')
    if (record === 'steal') return { ...document, id: 'other' }
    return { ...document, seen: [...((document.seen as unknown[]) ?? []), record] }
  }
  return { collection, sink: documentSink({ collection, key: 'id', merge, objects }) }
}

async function item(sink: ReturnType<typeof documentSink>, offset: number, row: Row, record: unknown = offset) {
  const target = (await sink.prepare(row)) as PreparedRow
  return { offset, recordId: `r${offset}`, record, objects: [], target } satisfies SinkItem
}

const origin = { stream: 's', partition: 0 }

describe('the sink of a collection', () => {
  it('writes rows with their bytes; what conflicts is a duplicate and merges in order', async () => {
    const { collection, sink } = sinkOf()
    const image = randomBytes(50_000)
    const rows = [
      await item(sink, 0, { id: 'b', image, thumb: Buffer.alloc(0) }),
      await item(sink, 1, { id: 'a' }),
      await item(sink, 2, { id: 'b', image: Buffer.from('other') }),
      { ...(await item(sink, 3, { id: 'x' })), target: { repeats: 'b' } },
    ]
    const ends = await test.db.transaction((session) => sink.write(session, origin, rows))
    expect(ends.map(({ outcome }) => outcome)).toEqual(['written', 'written', 'duplicate', 'duplicate'])
    const again = await test.db.transaction((session) => sink.write(session, origin, rows.slice(0, 2)))
    expect(again.map(({ outcome }) => outcome)).toEqual(['written', 'written'])
    const documents = openDocuments(test.db, noObjects, collection)
    expect(await documents.get('b')).toEqual({ id: 'b', seen: [2, 3] })
    expect(await documents.get('b', { bytes: true })).toEqual({ id: 'b', seen: [2, 3], image, thumb: Buffer.alloc(0) })
    expect(await documents.get('none')).toBeUndefined()
  })

  it('rejects a merge that fails, and keeps the others', async () => {
    const { collection, sink } = sinkOf()
    const rows = await Promise.all(
      [0, 'fail', 1, 'steal', 2].map((record, offset) => item(sink, offset, { id: 'k' }, record)),
    )
    const ends = await test.db.transaction((session) => sink.write(session, origin, rows))
    expect(ends).toMatchObject([
      { outcome: 'written' },
      { outcome: 'rejected', reason: 'merge failed', detail: 'merge of the author' },
      { outcome: 'duplicate' },
      { outcome: 'rejected', reason: 'merge failed', detail: 'a merge cannot change the key "id"' },
      { outcome: 'duplicate' },
    ])
    expect(await openDocuments(test.db, noObjects, collection).get('k')).toEqual({ id: 'k', seen: [1, 2] })
  })

  it('is right when transactions write and merge the same keys at once', async () => {
    const { collection, sink } = sinkOf()
    const keys = Array.from({ length: 40 }, (_, n) => `k${(n * 13) % 40}`)
    const writer = async (partition: number) => {
      for (let round = 0; round < 5; round += 1) {
        const items = await Promise.all(
          keys.map((id, n) => item(sink, round * 100 + n, { id }, `${partition}-${round}`)),
        )
        await test.db.transaction((session) => sink.write(session, { stream: 's', partition }, items))
      }
    }
    await Promise.all([0, 1, 2, 3].map(writer))
    const { items } = await openDocuments(test.db, noObjects, collection).list({ limit: 100 })
    expect(items).toHaveLength(40)
    for (const { seen } of items) expect(new Set(seen as string[]).size).toBe(19)
  })

  it('spills long bytes to the object store, with a reference', async () => {
    const stored = new Map<string, Uint8Array>()
    const referred: unknown[] = []
    const objects: DocumentObjects = {
      put: async (bytes) => {
        const sha256 = createHash('sha256').update(bytes).digest('hex')
        stored.set(sha256, bytes)
        return { sha256 }
      },
      read: async (sha256) => stored.get(sha256)!,
      refer: async (_: Session, references) => {
        referred.push(...references)
      },
    }
    const { collection, sink } = sinkOf(objects)
    const [short, long] = [Buffer.alloc(12_000_000, 1), Buffer.alloc(12_000_001, 2)]
    const row = await item(sink, 0, { id: 'k', short, long })
    await test.db.transaction((session) => sink.write(session, origin, [{ ...row, objects: ['raw'] }]))
    const [sha256] = [...stored.keys()]
    expect(referred).toEqual([
      { sha256: 'raw', document: `${collection}/k` },
      { sha256, document: `${collection}/k` },
    ])
    const found = await openDocuments(test.db, objects, collection).get('k', { bytes: true })
    expect(short.equals(found!.short as Buffer)).toBe(true)
    expect(long.equals(found!.long as Buffer)).toBe(true)
  })
})

describe('documents', () => {
  const collectionOf = () => {
    made += 1
    return openDocuments<Row>(test.db, noObjects, `collection-${made}`)
  }

  it('are put, replaced with their bytes, and read', async () => {
    const documents = collectionOf()
    await documents.put('k', { id: 'k', a: 1, image: Buffer.from('one'), old: Buffer.from('gone') })
    await documents.put('k', { id: 'k', a: 2, image: Buffer.from('two') })
    expect(await documents.get('k')).toEqual({ id: 'k', a: 2 })
    expect(await documents.get('k', { bytes: true })).toEqual({ id: 'k', a: 2, image: Buffer.from('two') })
  })

  it('are listed by insertion, in pages, filtered by fields', async () => {
    const documents = collectionOf()
    for (const n of [3, 1, 4, 1, 5]) await documents.put(`k${n}`, { id: `k${n}`, n, odd: n % 2 === 1, none: null })
    const first = await documents.list({ limit: 2 })
    expect(first.items.map(({ id }) => id)).toEqual(['k3', 'k1'])
    const rest = await documents.list({ limit: 2, cursor: first.nextCursor })
    expect(rest.items.map(({ id }) => id)).toEqual(['k4', 'k5'])
    expect(rest.nextCursor).toBeNull()
    const odd = await documents.list({ where: { odd: true, none: null } })
    expect(odd.items.map(({ n }) => n)).toEqual([3, 1, 5])
    expect((await documents.list({ where: { n: 4, odd: true } })).items).toEqual([])
  })

  it('refuse bad cursors, limits, keys and documents', async () => {
    const documents = collectionOf()
    const other = collectionOf()
    for (const n of [1, 2]) await other.put(`k${n}`, { id: `k${n}` })
    const { nextCursor } = await other.list({ limit: 1 })
    for (const cursor of ['', 'x', 'MTI', nextCursor]) {
      await expect(documents.list({ cursor })).rejects.toMatchObject({ code: 'INVALID_CURSOR' })
    }
    for (const limit of [0, 1.5, 1_001]) {
      await expect(documents.list({ limit })).rejects.toMatchObject({ code: 'USAGE' })
    }
    await expect(documents.put('', { id: 'a' })).rejects.toMatchObject({ code: 'INVALID_INPUT' })
    await expect(documents.put('a', { id: 'a', text: '\0' })).rejects.toMatchObject({ code: 'INVALID_INPUT' })
  })
})
