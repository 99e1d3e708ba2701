/** Pictures as the image app keeps them, without a stream that fetched them. */
import { createHash } from 'node:crypto'
import sharp from 'sharp'
import type { Picture } from '../apps/images/pictures/picture.ts'
import type { Capabilities } from '../src/sdk/context.ts'

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** Stores `count` pictures of a catalog, each with a thumbnail; gives their ids. The hash of each next one differs in a bit more from that of the first. */
export async function storePictures(
  { objects, documents }: Pick<Capabilities, 'objects' | 'documents'>,
  { count, catalog }: { readonly count: number; readonly catalog: string },
): Promise<string[]> {
  const ids: string[] = []
  for (let n = 0; n < count; n += 1) {
    const create = { width: 10 + n, height: 10, channels: 3 as const, background: { r: n, g: 90, b: 200 } }
    const bytes = await sharp({ create }).jpeg().toBuffer()
    const image = await sharp(bytes).toColourspace('b-w').png().toBuffer()
    const [raw, small] = [await objects.put(bytes), await objects.put(await sharp(bytes).resize(4).webp().toBuffer())]
    const url = `https://picsum.photos/${10 + n}/10`
    const at = '2026-03-28T00:00:00.000Z'
    const picture: Picture = {
      ...{ id: raw.sha256, rawSha256: raw.sha256, image, imageSha256: sha256(image), bytes: raw.bytes },
      ...{ mimeType: 'image/png', rawMimeType: 'image/jpeg', frames: 1, width: 10 + n, height: 10 },
      ...{ sources: [{ url, catalog, line: n + 1 }], sourcesOmitted: 0, insertedAt: at, fetchedAt: at },
      ...{ transform: { name: 'grayscale-bt601', version: 1 }, state: 'ok', warning: null },
      derived: [{ name: 'thumbnail-256', version: 1, mimeType: 'image/webp', sha256: small.sha256 }],
      perceptualHash: (2n ** BigInt(n) - 1n).toString(16).padStart(16, '0'),
      http: {
        ...{ status: 200, url, redirects: 0, contentType: 'image/jpeg', etag: null, lastModified: null },
        ...{ totalMs: 1, firstByteMs: 1 },
      },
    }
    await documents<Picture>('images').put(picture.id, picture, { objects: [raw.sha256, small.sha256] })
    ids.push(picture.id)
  }
  return ids
}
