import type { ImageFacts } from './inspect.ts'

/**
 * Makes one thing of a raw picture. A name and version always give the same bytes for the same raw bytes; whoever changes
 * what comes out raises the version, and the versions coexist.
 */
export interface ImageTransform {
  /** Lower-case words with hyphens, `grayscale-bt601`. */
  readonly name: string
  readonly version: number
  /** Of the bytes that come out. */
  readonly mimeType: string
  /** `facts` are those of `inspect(raw)`. @throws ImageError corrupt */
  apply(raw: Buffer, facts: ImageFacts): Promise<Transformed>
}

export interface Transformed {
  readonly bytes: Buffer
  /** In pixels, after the orientation was applied. */
  readonly width: number
  readonly height: number
  /** What the decoder complained of though it gave all pixels: the state `warning`. Absent: the raw bytes are `ok`. */
  readonly warning?: string
  /** 16 hex digits; advisory. From transforms that have grey pixels at hand. */
  readonly perceptualHash?: string
}

/** How a transform is named in one word, `grayscale-bt601@1`. */
export const nameOf = ({ name, version }: Pick<ImageTransform, 'name' | 'version'>): string => `${name}@${version}`
