export type ImageReason = 'not an image' | 'corrupt' | 'too large'

/** Why bytes cannot become a picture: a property of the bytes, so trying again cannot help. */
export class ImageError extends Error {
  override readonly name = 'ImageError'
  readonly reason: ImageReason
  /** The message without the reason. */
  readonly detail: string

  constructor(reason: ImageReason, detail: string, cause?: unknown) {
    super(`${reason}: ${detail}`, cause === undefined ? undefined : { cause })
    this.reason = reason
    this.detail = detail
  }
}
