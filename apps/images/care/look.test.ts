import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { type Documents, type Objects, SluiceError, type StoredField } from 'sluice'
import { expect, it } from 'vitest'
import type { PictureFacts } from '../pictures/picture.ts'
import { isDamage, lookAtPage } from './look.ts'

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const raws = Array.from({ length: 30 }, (_, n) => Buffer.from(`raw ${n}`))
const ids = raws.map(sha256)
const image = { bytes: 3, sha256: 'f'.repeat(64), inObjects: false }

/** A store of these pictures whose objects and byte fields are read as the test says. */
function storeOf(
  open: (sha256: string) => Readable | Error,
  stored: (keys: readonly string[]) => Record<string, Record<string, StoredField>>,
) {
  const items = ids.map((id) => ({ id, rawSha256: id, imageSha256: image.sha256, derived: [], state: 'ok' }))
  const documents = () =>
    ({
      list: async () => ({ items, nextCursor: 'next' }),
      stored: async (keys: readonly string[]) => stored(keys),
    }) as unknown as Documents<PictureFacts>
  const objects = {
    open: async (hash: string) => {
      const found = open(hash)
      if (found instanceof Error) throw found
      return found
    },
  } as Objects
  return { documents, objects, signal: new AbortController().signal } as unknown as Parameters<typeof lookAtPage>[0]
}

const whole = (hash: string) => Readable.from([raws[ids.indexOf(hash)]!])
const allStored = (keys: readonly string[]) => Object.fromEntries(keys.map((key) => [key, { image }]))
const badSector = new SluiceError('STORAGE_FAILED', 'EIO: i/o error', {
  cause: Object.assign(new Error('EIO'), { code: 'EIO' }),
})

it('reads each object once, and names those that are not what they were', async () => {
  const faults: Record<string, Readable | Error> = {
    [ids[3]!]: new SluiceError('OBJECT_NOT_FOUND', 'no object'),
    [ids[4]!]: Readable.from([Buffer.from('other')]),
    [ids[5]!]: badSector,
  }
  const looked = await lookAtPage(
    storeOf((hash) => faults[hash] ?? whole(hash), allStored),
    null,
  )
  expect(looked).toEqual({
    pictures: 30,
    nextCursor: 'next',
    damages: [
      { id: ids[3], part: 'raw', found: 'it is missing' },
      { id: ids[4], part: 'raw', found: `it has 5 bytes whose sha256 is ${sha256(Buffer.from('other'))}` },
      { id: ids[5], part: 'raw', found: 'it cannot be read: EIO: i/o error' },
    ],
  })
})

it('one image that the database cannot read does not hide the others', async () => {
  const stored = (keys: readonly string[]) => {
    if (keys.includes(ids[7]!)) throw new SluiceError('INTERNAL', 'invalid page in block 7')
    return allStored(keys)
  }
  const { damages } = await lookAtPage(storeOf(whole, stored), null)
  expect(damages).toEqual([{ id: ids[7], part: 'image', found: 'it cannot be read: invalid page in block 7' }])
})

it('says nothing of pictures while the store or the database is not there', async () => {
  const denied = new SluiceError('STORAGE_FAILED', 'EACCES', { cause: Object.assign(new Error(), { code: 'EACCES' }) })
  expect(isDamage(denied)).toBe(false)
  await expect(
    lookAtPage(
      storeOf(() => denied, allStored),
      null,
    ),
  ).rejects.toBe(denied)
  const gone = new SluiceError('DATABASE_UNREACHABLE', 'gone')
  const unreachable = () => {
    throw gone
  }
  await expect(lookAtPage(storeOf(whole, unreachable), null)).rejects.toBe(gone)
})
