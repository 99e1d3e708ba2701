/** The transforms of this deployment. To add one, write its file and add a line to `further`. */
import { grayscale } from './grayscale.ts'
import type { ImageTransform } from './transform.ts'

/** Makes the `image` of a document. */
export const main: ImageTransform = grayscale()

/** Each makes an entry of `derived` and an object. */
export const further: readonly ImageTransform[] = []

/** All of them, `main` first. */
export const registered: readonly ImageTransform[] = [main, ...further]
