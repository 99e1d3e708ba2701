import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import type { ObjectInfo, ObjectStore } from '../src/ports/objects.ts'

const sha256Of = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex')
const noClaim = async () => {}

async function* inPieces(...pieces: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* pieces
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

/** What every adapter of the port `ObjectStore` must do. `openEmpty` gives a store without objects for each test. */
export function describeObjectStore(adapter: string, openEmpty: () => Promise<ObjectStore>): void {
  describe(`object store: ${adapter}`, () => {
    let store: ObjectStore
    beforeEach(async () => {
      store = await openEmpty()
    })

    it('gives back what was put, by the hash of the bytes, for bytes and for streams in any pieces', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 5_000 }), { maxLength: 5 }), async (pieces) => {
          const whole = Buffer.concat(pieces)
          const expected = { sha256: sha256Of(whole), bytes: whole.length }
          expect(await store.put(inPieces(...pieces), noClaim)).toEqual(expected)
          expect(await store.put(whole, noClaim)).toEqual(expected)
          expect(await store.stat(expected.sha256)).toEqual(expected)
          expect(whole.equals(await store.read(expected.sha256))).toBe(true)
          expect(whole.equals(await buffer(await store.open(expected.sha256)))).toBe(true)
        }),
        { numRuns: 25 },
      )
    })

    it('claims after the hash is known and before the object is visible', async () => {
      const seen: unknown[] = []
      const claim = async (object: ObjectInfo) => {
        seen.push(object, await store.stat(object.sha256))
      }
      await store.put(Buffer.from('bytes'), claim)
      await store.put(inPieces(Buffer.from('stream')), claim)
      expect(seen).toEqual([
        { sha256: sha256Of('bytes'), bytes: 5 },
        undefined,
        { sha256: sha256Of('stream'), bytes: 6 },
        undefined,
      ])
    })

    it('claims what is there already, too', async () => {
      await store.put(Buffer.from('twice'), noClaim)
      const claims: ObjectInfo[] = []
      await store.put(Buffer.from('twice'), async (object) => void claims.push(object))
      await store.put(inPieces(Buffer.from('twice')), async (object) => void claims.push(object))
      expect(claims).toHaveLength(2)
      expect(await all(store.list())).toEqual([sha256Of('twice')])
    })

    it('writes again when the object is removed while its claim is made', async () => {
      for (const source of [Buffer.from('swept'), inPieces(Buffer.from('swept'))]) {
        await store.put(Buffer.from('swept'), noClaim)
        await store.put(source, async ({ sha256 }) => store.remove(sha256))
        expect((await store.read(sha256Of('swept'))).toString()).toBe('swept')
      }
    })

    it('leaves nothing behind when the claim or the source fails, and passes the error on', async () => {
      const refusal = new Error('refused')
      const refuse = async () => Promise.reject(refusal)
      await expect(store.put(Buffer.from('a'), refuse)).rejects.toBe(refusal)
      await expect(store.put(inPieces(Buffer.from('a')), refuse)).rejects.toBe(refusal)
      const breaks = async function* () {
        yield Buffer.from('half')
        throw refusal
      }
      await expect(store.put(breaks(), noClaim)).rejects.toBe(refusal)
      expect(await all(store.list())).toEqual([])
      expect(await store.removeStale(-60_000)).toBe(0)
    })

    it('takes the same and different bytes from many puts at once', async () => {
      const texts = Array.from({ length: 60 }, (_, index) => `object ${index % 20}`)
      await Promise.all(texts.map((text) => store.put(Buffer.from(text), noClaim)))
      expect(await all(store.list())).toEqual([...new Set(texts.map(sha256Of))].sort())
    })

    it('says OBJECT_NOT_FOUND for a hash that is not there', async () => {
      const absent = sha256Of('absent')
      await expect(store.open(absent)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' })
      await expect(store.read(absent)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' })
      expect(await store.stat(absent)).toBeUndefined()
      await store.remove(absent)
    })

    it.each(['', '../../etc/passwd', 'a'.repeat(63), 'A'.repeat(64), `${'a'.repeat(64)}\n`, `${'a'.repeat(62)}/.`])(
      'refuses %j as a name',
      async (name) => {
        const refused = { code: 'INVALID_INPUT' }
        await expect(store.open(name)).rejects.toMatchObject(refused)
        await expect(store.read(name)).rejects.toMatchObject(refused)
        await expect(store.stat(name)).rejects.toMatchObject(refused)
        await expect(store.remove(name)).rejects.toMatchObject(refused)
      },
    )

    it('removes, and takes the same bytes again', async () => {
      const { sha256 } = await store.put(Buffer.from('again'), noClaim)
      await store.remove(sha256)
      expect(await store.stat(sha256)).toBeUndefined()
      await store.put(Buffer.from('again'), noClaim)
      expect(await store.stat(sha256)).toEqual({ sha256, bytes: 5 })
    })
  })
}
