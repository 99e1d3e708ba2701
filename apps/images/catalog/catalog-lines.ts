/**
 * Splits the bytes of a catalog into lines, in memory that does not grow with the file or with a line.
 *
 * 1. A line ends in LF or CRLF; a CR alone ends none, and no URL has it. Spaces and tabs around a line are no part of it;
 *    a byte order mark at the start of the file neither. A file that begins as UTF-16 is refused as a whole.
 * 2. Bytes that are not UTF-8 and zero bytes become U+FFFD, which no URL has.
 * 3. A text has `***` for credentials.
 * 4. Of a line over `maxLineBytes` only its start and its length are kept, with white space in between, which no URL has.
 */
import { createHash } from 'node:crypto'
import { SluiceError } from 'sluice'
import { maxLineBytes, withoutCredentials } from './catalog-url.ts'

export interface CatalogLine {
  /** Counts from 1, blank lines included. */
  readonly number: number
  /** Empty for a blank line. */
  readonly text: string
  /** False for what stands after the last LF. */
  readonly ended: boolean
}

/** The part of a catalog that ends with an LF: what it was is known by its hash when the file has grown. */
export interface Prefix {
  readonly bytes: number
  /** Of its bytes, lower-case hex. */
  readonly sha256: string
  readonly lines: number
}

export const emptyPrefix: Prefix = { bytes: 0, sha256: createHash('sha256').digest('hex'), lines: 0 }

const lineFeed = 10
const shownOfLong = 200

export class CatalogLines {
  #hash = createHash('sha256')
  #prefixHash = createHash('sha256')
  readonly #skip: Prefix
  #prefixBytes = 0
  #bytes = 0
  /** The first two bytes. */
  #start = Buffer.alloc(0)
  #lines: number
  /** What has come of the line under way: at most `maxLineBytes`, and how long it is in all. */
  #held: Buffer[] = []
  #heldBytes = 0
  #lineBytes = 0

  /** @param skip bytes that are read and hashed, but give no lines: those of an earlier version's prefix. */
  constructor(skip: Prefix = emptyPrefix) {
    this.#skip = skip
    this.#lines = skip.lines
  }

  /** Read so far. */
  get bytes(): number {
    return this.#bytes
  }

  /** Up to the last LF that was read. */
  get prefix(): Prefix {
    const sha256 = this.#prefixHash.copy().digest('hex')
    return { bytes: this.#prefixBytes, sha256, lines: this.#lines }
  }

  /** The lines that end in this piece. @throws SluiceError INVALID_INPUT for a file of UTF-16. */
  push(piece: Uint8Array): CatalogLine[] {
    const chunk = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
    if (this.#bytes < 2) this.#refuseUtf16(chunk)
    const lines: CatalogLine[] = []
    let from = Math.min(chunk.length, Math.max(0, this.#skip.bytes - this.#bytes))
    for (let at = chunk.indexOf(lineFeed, from); at >= 0; at = chunk.indexOf(lineFeed, from)) {
      lines.push(this.#line(chunk.subarray(from, at), true))
      from = at + 1
    }
    this.#hold(chunk.subarray(from))
    this.#digest(chunk)
    return lines
  }

  /** What stands after the last LF; undefined when nothing does. */
  end(): CatalogLine | undefined {
    if (this.#lineBytes === 0) return undefined
    const line = this.#line(Buffer.alloc(0), false)
    this.#lines -= 1
    return line
  }

  #refuseUtf16(chunk: Buffer): void {
    this.#start = Buffer.concat([this.#start, chunk.subarray(0, 2)]).subarray(0, 2)
    const mark = this.#start.toString('hex')
    if (mark !== 'fffe' && mark !== 'feff') return
    throw new SluiceError(
      'INVALID_INPUT',
      `The catalog is UTF-16 (it begins with the bytes ${mark}); write it as UTF-8`,
    )
  }

  #digest(chunk: Buffer): void {
    const last = chunk.lastIndexOf(lineFeed) + 1
    if (last > 0) {
      this.#hash.update(chunk.subarray(0, last))
      this.#prefixHash = this.#hash.copy()
      this.#prefixBytes = this.#bytes + last
    }
    if (last < chunk.length) this.#hash.update(chunk.subarray(last))
    this.#bytes += chunk.length
  }

  #hold(part: Buffer): void {
    this.#lineBytes += part.length
    const room = Math.max(0, maxLineBytes + 1 - this.#heldBytes)
    if (room === 0 || part.length === 0) return
    // A copy: the piece it lies in may be large.
    const kept = Buffer.from(part.subarray(0, room))
    this.#held.push(kept)
    this.#heldBytes += kept.length
  }

  #line(rest: Buffer, ended: boolean): CatalogLine {
    const length = this.#lineBytes + rest.length
    const line = this.#held.length === 0 ? rest : Buffer.concat([...this.#held, rest.subarray(0, maxLineBytes)])
    this.#held = []
    this.#heldBytes = 0
    this.#lineBytes = 0
    this.#lines += 1
    const first = this.#lines === 1
    return { number: this.#lines, text: textOf(line, length, first), ended }
  }
}

function textOf(line: Buffer, length: number, first: boolean): string {
  // U+FEFF at the start of the file is a byte order mark.
  const decoded = (bytes: Buffer) => {
    const text = bytes.toString('utf8')
    return (first && text.startsWith('\ufeff') ? text.slice(1) : text).replaceAll('\0', '\ufffd')
  }
  if (length <= maxLineBytes) return withoutCredentials(trimmed(decoded(line)))
  const start = withoutCredentials(trimmed(decoded(line)))
    .slice(0, shownOfLong)
    .toWellFormed()
  return `${start} ... (a line of ${length} bytes; ${maxLineBytes} are allowed)`
}

/** Without spaces, tabs and CR around it. */
function trimmed(text: string): string {
  return text.replace(/^[ \t\r]+|[ \t\r]+$/g, '')
}

/** Whether the bytes start with those of the prefix. */
export async function startsWith(source: AsyncIterable<Uint8Array>, prefix: Prefix): Promise<boolean> {
  const hash = createHash('sha256')
  let left = prefix.bytes
  for await (const piece of source) {
    hash.update(piece.subarray(0, left))
    left -= Math.min(left, piece.length)
    if (left === 0) break
  }
  return left === 0 && hash.digest('hex') === prefix.sha256
}
