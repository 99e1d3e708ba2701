/** Chunks shorter than this are copied together. */
const shortBytes = 4_096
const blockBytes = 65_536

/**
 * A body while it comes. Short chunks are copied into blocks: a server that sends each byte as a chunk of its own would
 * otherwise make an object of about 100 bytes for each, and 20 MiB of body 2 GB of memory.
 */
export class Body {
  #pieces: Buffer[] = []
  #block: Buffer | undefined
  #filled = 0
  #bytes = 0

  get bytes(): number {
    return this.#bytes
  }

  /** Buffers that are held. */
  get pieces(): number {
    return this.#pieces.length + (this.#block ? 1 : 0)
  }

  add(chunk: Buffer): void {
    this.#bytes += chunk.length
    if (chunk.length >= shortBytes) {
      this.#closeBlock()
      this.#pieces.push(chunk)
      return
    }
    if (this.#filled + chunk.length > blockBytes) this.#closeBlock()
    this.#block ??= Buffer.allocUnsafeSlow(blockBytes)
    chunk.copy(this.#block, this.#filled)
    this.#filled += chunk.length
  }

  whole(): Buffer {
    this.#closeBlock()
    return Buffer.concat(this.#pieces, this.#bytes)
  }

  #closeBlock(): void {
    if (!this.#block) return
    // a block that is hardly filled is not kept whole
    const filled = this.#block.subarray(0, this.#filled)
    this.#pieces.push(this.#filled < blockBytes / 2 ? Buffer.from(filled) : filled)
    this.#block = undefined
    this.#filled = 0
  }
}
