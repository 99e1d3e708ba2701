/** Looks at a page of pictures: everything that is stored of them is hashed again, streamed. Nothing is changed. */
import { createHash } from 'node:crypto'
import { type Capabilities, type Documents, type Objects, SluiceError, type StoredField } from 'sluice'
import type { PictureFacts } from '../pictures/picture.ts'
import { type Damage, damagesOf } from './damage.ts'
import { inLanes } from './lanes.ts'

export interface Looked {
  readonly pictures: number
  readonly damages: readonly Damage[]
  readonly nextCursor: string | null
}

/** Pictures of one page: 20 MB of common ones, half a second. */
const pagePictures = 100

export async function lookAtPage(
  { documents, objects, signal }: Pick<Capabilities, 'documents' | 'objects' | 'signal'>,
  cursor: string | null,
): Promise<Looked> {
  const pictures = documents<PictureFacts>('images')
  const { items, nextCursor } = await pictures.list({ limit: pagePictures, cursor })
  const stored = await storedImages(
    pictures,
    items.map(({ id }) => id),
  )
  const damages = await inLanes(items, (picture) => {
    signal.throwIfAborted()
    return damagesOf(picture, stored.get(picture.id), (sha256) => objectFault(objects, sha256))
  })
  return { pictures: items.length, damages: damages.flat(), nextCursor }
}

/** The field `image` of each; of one that the database cannot read, why. */
async function storedImages(
  pictures: Documents<PictureFacts>,
  ids: readonly string[],
): Promise<Map<string, StoredField | string>> {
  const imagesOf = async (some: readonly string[]) =>
    Object.entries(await pictures.stored(some)).flatMap(([id, { image }]) => (image ? [[id, image] as const] : []))
  try {
    return new Map(await imagesOf(ids))
  } catch (thrown) {
    if (ids.length === 0 || isPassing(thrown)) throw thrown
  }
  const alone = await inLanes(ids, (id) =>
    imagesOf([id]).catch((thrown: unknown) => {
      if (isPassing(thrown)) throw thrown
      return [[id, `it cannot be read: ${textOf(thrown)}`] as const]
    }),
  )
  return new Map<string, StoredField | string>(alone.flat())
}

const isPassing = (thrown: unknown) =>
  thrown instanceof SluiceError && (thrown.retryable || ['FENCED', 'CANCELLED'].includes(thrown.code))

const textOf = (thrown: unknown) => (thrown instanceof Error ? thrown.message : String(thrown)).slice(0, 200)

/**
 * Whether reading an object failed for what this object is, one bad sector included. Where the store as a whole cannot be read
 * (rights, a share that is gone), nothing can be said of its objects: the run is tried again.
 */
export function isDamage(thrown: unknown): thrown is SluiceError {
  if (!(thrown instanceof SluiceError)) return false
  const badSector = (thrown.cause as NodeJS.ErrnoException | undefined)?.code === 'EIO'
  return thrown.code === 'OBJECT_NOT_FOUND' || thrown.code === 'OBJECT_CORRUPT' || badSector
}

/** Why an object does not have the bytes of its name; undefined when it has. */
async function objectFault(objects: Objects, sha256: string): Promise<string | undefined> {
  const hash = createHash('sha256')
  let bytes = 0
  try {
    for await (const chunk of (await objects.open(sha256)) as AsyncIterable<Uint8Array>) {
      hash.update(chunk)
      bytes += chunk.byteLength
    }
  } catch (thrown) {
    if (!isDamage(thrown)) throw thrown
    if (thrown.code === 'OBJECT_NOT_FOUND') return 'it is missing'
    if (thrown.code !== 'OBJECT_CORRUPT') return `it cannot be read: ${textOf(thrown)}`
  }
  const found = hash.digest('hex')
  return found === sha256 ? undefined : `it has ${bytes} bytes whose sha256 is ${found}`
}
