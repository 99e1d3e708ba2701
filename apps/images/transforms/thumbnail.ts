import { ImageError } from './image-error.ts'
import { firstLine } from './inspect.ts'
import type { ImageTransform } from './transform.ts'
import { openPicture } from './vips.ts'

/**
 * A small WebP in colour that fits into a square, upright, of the first frame; never larger than the picture. It is not
 * registered: it is here to be added to `further` in registry.ts, and as a model of how a transform is written.
 *
 * @param side in pixels, of the square. The name says it, since another side is another transform.
 */
export function thumbnail({ side = 256 }: { side?: number } = {}): ImageTransform {
  return {
    name: `thumbnail-${side}`,
    version: 1,
    mimeType: 'image/webp',
    async apply(raw, facts) {
      const limitInputPixels = facts.width * facts.height
      const picture = await openPicture(raw, { failOn: 'error', limitInputPixels, pages: 1 })
      const { data, info } = await picture
        .autoOrient()
        .resize({ width: side, height: side, fit: 'inside', withoutEnlargement: true })
        .toColourspace('srgb')
        .webp({ quality: 80 })
        .toBuffer({ resolveWithObject: true })
        .catch((cause: unknown) => {
          throw new ImageError('corrupt', firstLine(cause), cause)
        })
      return { bytes: data, width: info.width, height: info.height }
    },
  }
}
