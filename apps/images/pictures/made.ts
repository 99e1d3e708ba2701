/** What a document says of the things that were made of its raw bytes. */
import { createHash } from 'node:crypto'
import type { StoredObject } from 'sluice'
import type { ImageFacts } from '../transforms/inspect.ts'
import type { ImageTransform, Transformed } from '../transforms/transform.ts'
import type { Derived, Picture } from './picture.ts'

/** What follows from `image` and from how it was made. */
export function imageFacts(
  { name, version, mimeType }: ImageTransform,
  { bytes, width, height, warning, perceptualHash }: Transformed,
): Pick<
  Picture,
  'image' | 'mimeType' | 'width' | 'height' | 'transform' | 'imageSha256' | 'perceptualHash' | 'state' | 'warning'
> {
  return {
    image: bytes,
    mimeType,
    width,
    height,
    transform: { name, version },
    imageSha256: createHash('sha256').update(bytes).digest('hex'),
    perceptualHash: perceptualHash ?? null,
    state: warning === undefined ? 'ok' : 'warning',
    warning: warning ?? null,
  }
}

export function rawFacts({ mimeType, frames, bytes }: ImageFacts): Pick<Picture, 'rawMimeType' | 'frames' | 'bytes'> {
  return { rawMimeType: mimeType, frames, bytes }
}

export function derivedOf({ name, version, mimeType }: ImageTransform, { sha256 }: StoredObject): Derived {
  return { name, version, mimeType, sha256 }
}
