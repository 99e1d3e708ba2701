/**
 * What a decoder and its pool say to each other over pipes: frames of a JSON header and the bytes that belong to it, with
 * the length of either in front (4 bytes each, big-endian).
 */

const prefix = 8
/** No frame is longer; what says so is no frame of ours. */
const maxFrameBytes = 1_073_741_824

export function frame(header: object, parts: readonly Uint8Array[] = []): Uint8Array[] {
  const text = Buffer.from(JSON.stringify(header))
  const head = Buffer.alloc(prefix)
  head.writeUInt32BE(text.length, 0)
  head.writeUInt32BE(
    parts.reduce((sum, part) => sum + part.byteLength, 0),
    4,
  )
  return [head, text, ...parts]
}

/** Puts frames together from the pieces that a pipe gives; the bytes of a frame are its own. */
export class FrameReader<Header> {
  private readonly hear: (header: Header, bytes: Buffer) => void
  private pieces: Buffer[] = []
  private length = 0
  private wanted = prefix

  constructor(hear: (header: Header, bytes: Buffer) => void) {
    this.hear = hear
  }

  /** @throws Error when the pipe holds something else. */
  push(piece: Buffer): void {
    this.pieces.push(piece)
    this.length += piece.length
    while (this.length >= this.wanted) {
      const all = this.pieces.length === 1 ? this.pieces[0]! : Buffer.concat(this.pieces, this.length)
      this.pieces = [all]
      const [text, bytes] = [all.readUInt32BE(0), all.readUInt32BE(4)]
      const whole = prefix + text + bytes
      if (whole > maxFrameBytes) throw new Error(`a frame of ${whole} bytes is none of ours`)
      this.wanted = whole
      if (all.length < whole) return
      const rest = all.subarray(whole)
      this.pieces = rest.length === 0 ? [] : [rest]
      this.length = rest.length
      this.wanted = prefix
      const header = JSON.parse(all.toString('utf8', prefix, prefix + text)) as Header
      this.hear(header, all.subarray(prefix + text, whole))
    }
  }
}
