import { makePicture, type Picture, type PictureRequest } from './picture.ts'

/** Keeps made pictures up to a number of bytes, the least recently used go first; makes a few at a time, each once. */
export class PictureCache {
  readonly #maxBytes: number
  readonly #pictures = new Map<string, Picture>()
  readonly #making = new Map<string, Promise<Picture>>()
  readonly #waiting: (() => void)[] = []
  #busy = 0
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Pictures and bytes that are held. */
  get held(): { pictures: number; bytes: number } {
    return { pictures: this.#pictures.size, bytes: this.#bytes }
  }

  get(request: PictureRequest): Promise<Picture> {
    const key = `${request.width}/${request.height} ${request.grayscale} ${request.seed}`
    const kept = this.#pictures.get(key)
    if (kept) {
      this.#pictures.delete(key)
      this.#pictures.set(key, kept)
      return Promise.resolve(kept)
    }
    let making = this.#making.get(key)
    if (!making) {
      making = this.#make(key, request).finally(() => this.#making.delete(key))
      this.#making.set(key, making)
    }
    return making
  }

  async #make(key: string, request: PictureRequest): Promise<Picture> {
    if (this.#busy >= 2) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    this.#busy += 1
    try {
      const picture = await makePicture(request)
      this.#keep(key, picture)
      return picture
    } finally {
      this.#busy -= 1
      this.#waiting.shift()?.()
    }
  }

  #keep(key: string, picture: Picture): void {
    this.#pictures.set(key, picture)
    this.#bytes += picture.bytes.length
    for (const [oldest, { bytes }] of this.#pictures) {
      if (this.#bytes <= this.#maxBytes) return
      this.#pictures.delete(oldest)
      this.#bytes -= bytes.length
    }
  }
}
