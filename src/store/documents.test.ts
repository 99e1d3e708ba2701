import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { noObjects } from '../../test/stream-world.ts'
import { openFiles } from '../objects/files.ts'
import { type Session, statement } from '../ports/database.ts'
import type { ObjectStore } from '../ports/objects.ts'
import type { PreparedRow, SinkItem } from '../ports/sink.ts'
import { type DocumentObjects, documentObjects } from './document-bytes.ts'
import { documentSink } from './document-sink.ts'
import { openDocuments } from './documents.ts'
import { sweepObjects } from './objects.ts'

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
      release: () => Promise.resolve(),
    }
    const { collection, sink } = sinkOf(objects)
    const [short, long] = [Buffer.alloc(12_000_000, 1), Buffer.alloc(12_000_001, 2)]
    const row = await item(sink, 0, { id: 'k', short, long })
    await test.db.transaction((session) => sink.write(session, origin, [{ ...row, objects: ['raw'] }]))
    const [sha256] = [...stored.keys()]
    expect(referred).toEqual([
      { sha256: 'raw', kind: 'document', id: `${collection}/k` },
      { sha256, kind: 'document-bytes', id: `${collection}/long/k` },
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

describe('a document that is changed', () => {
  interface Counted extends Record<string, unknown> {
    n: number
  }

  it('is replaced only as it was read, with the byte fields that are given', async () => {
    made += 1
    const documents = openDocuments<Counted>(test.db, noObjects, `collection-${made}`)
    expect(await documents.revised('k')).toBeUndefined()
    await documents.put('k', { n: 1, one: Buffer.from('one'), two: Buffer.from('two') })
    const { document, revision } = (await documents.revised('k'))!
    expect(document).toEqual({ n: 1 })
    expect(await documents.replace('k', revision, { n: 2, two: Buffer.from('zwei') })).toBe(true)
    expect(await documents.replace('k', revision, { n: 3 })).toBe(false)
    const now = { n: 2, one: Buffer.from('one'), two: Buffer.from('zwei') }
    expect(await documents.get('k', { bytes: true })).toEqual(now)
  })

  it('loses nothing to a stream that merges into it meanwhile', async () => {
    const { collection, sink } = sinkOf()
    const documents = openDocuments<Counted>(test.db, noObjects, collection)
    const row = await item(sink, 0, { id: 'k', n: 0 }, 'first')
    await test.db.transaction((session) => sink.write(session, origin, [row]))
    const merges = async () => {
      for (let offset = 1; offset <= 40; offset += 1) {
        const repeat = { ...(await item(sink, offset, { id: 'x' })), target: { repeats: 'k' } }
        await test.db.transaction((session) => sink.write(session, origin, [repeat]))
      }
    }
    const changes = async () => {
      for (let done = 0; done < 40; ) {
        const { document, revision } = (await documents.revised('k'))!
        if (await documents.replace('k', revision, { ...document, n: document.n + 1 })) done += 1
      }
    }
    await Promise.all([merges(), changes(), changes()])
    const found = (await documents.get('k'))!
    expect(found.n).toBe(80)
    expect(found.seen).toEqual(Array.from({ length: 40 }, (_, at) => at + 1))
  })

  it('tells what its byte fields are, hashed where they lie', async () => {
    made += 1
    const documents = openDocuments(test.db, noObjects, `collection-${made}`)
    const one = randomBytes(100_000)
    await documents.put('k', { one, none: Buffer.alloc(0) })
    await documents.put('__proto__', { one: Buffer.from('x') })
    const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
    const stored = await documents.stored(['k', 'absent', '__proto__'])
    expect(Object.keys(stored).sort()).toEqual(['__proto__', 'k'])
    expect({ ...stored.k }).toEqual({
      one: { bytes: 100_000, sha256: hash(one), inObjects: false },
      none: { bytes: 0, sha256: hash(Buffer.alloc(0)), inObjects: false },
    })
    const many = Array.from({ length: 1_001 }, (_, at) => `k${at}`)
    await expect(documents.stored(many)).rejects.toMatchObject({ code: 'USAGE' })
  })

  it('is counted, and found by a hash that is near', async () => {
    made += 1
    const documents = openDocuments(test.db, noObjects, `collection-${made}`)
    const hashes = ['0000000000000000', '0000000000000007', 'ffffffffffffffff', 'no hash', null, 'FFFFFFFFFFFFFFFF']
    for (const [at, hash] of hashes.entries()) await documents.put(`k${at}`, { at, hash, even: at % 2 === 0 })
    expect(await documents.count()).toBe(6)
    expect(await documents.count({ where: { even: true } })).toBe(3)
    const near = async (hash: string, distance: number) =>
      (await documents.list({ near: { field: 'hash', hash, distance } })).items.map(({ at }) => at)
    expect(await near('0000000000000000', 0)).toEqual([0])
    expect(await near('0000000000000000', 2)).toEqual([0])
    expect(await near('0000000000000000', 3)).toEqual([0, 1])
    expect(await near('0000000000000000', 64)).toEqual([0, 1, 2])
    expect(
      (await documents.list({ where: { even: true }, near: { field: 'hash', hash: hashes[1]!, distance: 3 } })).items,
    ).toEqual([{ at: 0, hash: hashes[0], even: true }])
    await expect(near('0', 1)).rejects.toMatchObject({ code: 'USAGE' })
    await expect(near('0000000000000000', 65)).rejects.toMatchObject({ code: 'USAGE' })
  })

  it('that takes too long to find is given up, and the connection is as it was', async () => {
    made += 1
    const documents = openDocuments(test.db, noObjects, `collection-${made}`, { nearMs: 100 })
    await documents.put('k', { hash: '0000000000000000' })
    const near = () => documents.list({ near: { field: 'hash', hash: '0000000000000000', distance: 0 } })
    await test.db.transaction(async (session) => {
      await session.script('lock table sluice.documents in access exclusive mode')
      await expect(near()).rejects.toMatchObject({
        code: 'TIMEOUT',
        message: 'Looking for what is near took longer than 100 ms; ask for less',
      })
    })
    const limit = statement<{ statement_timeout: string }>('test.statement-timeout', 'show statement_timeout')
    expect(await test.db.query(limit)).toEqual([{ statement_timeout: '0' }])
    expect(await documents.list()).toMatchObject({ items: [{ hash: '0000000000000000' }] })
  })

  describe('and its objects', () => {
    let folder: string
    let store: ObjectStore
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'documents-'))
      store = openFiles(folder)
    })
    afterAll(() => rm(folder, { recursive: true }))

    /** What would still be there after a sweep. */
    const kept = async () => {
      await test.db.script("update sluice.object_claims set expires_at = now() - interval '1 day'")
      await test.db.script(
        "update sluice.objects set idle_since = now() - interval '1 day' where idle_since is not null",
      )
      await sweepObjects(test.db, store, { graceMs: 1_000 })
      const names: string[] = []
      for await (const name of store.list()) names.push(name)
      return names.sort()
    }

    it('lets go of what a spilled field was, and keeps what it is and what is named', async () => {
      made += 1
      const objects = documentObjects(test.db, store, 'test')
      const documents = openDocuments(test.db, objects, `collection-${made}`)
      const spilled = (fill: number) => Buffer.alloc(12_000_001, fill)
      const hash = (fill: number) => createHash('sha256').update(spilled(fill)).digest('hex')
      const { sha256: raw } = await objects.put(Buffer.from('raw'))
      await documents.put('k', { image: spilled(1) }, { objects: [raw] })
      expect(await kept()).toEqual([raw, hash(1)].sort())
      await documents.put('k', { image: spilled(2) })
      expect(await kept()).toEqual([raw, hash(2)].sort())
      const { revision } = (await documents.revised('k'))!
      await documents.replace('k', revision, { image: spilled(3) })
      expect(await kept()).toEqual([raw, hash(3)].sort())
      // The bytes of a field are named as well: replacing the field keeps them.
      const same = (await documents.revised('k'))!
      await documents.replace('k', same.revision, { again: 1 }, { objects: [hash(3)] })
      await documents.put('k', { image: Buffer.from('short') })
      expect(await kept()).toEqual([raw, hash(3)].sort())
      const last = (await documents.revised('k'))!
      await documents.replace('k', last.revision, { n: 1 }, { drop: [hash(3), raw], objects: [raw] })
      expect(await kept()).toEqual([raw])
    })
  })
})
