/**
 * The file of a backup: a tar archive, compressed with zstd (`tar --zstd -tf FILE` lists it).
 *
 * 1. It is written beside its place, readable by its owner alone, and gets its name when it is whole and on disk.
 * 2. It ends with a mark (a frame that zstd skips), so that one that was cut short is known before it is read.
 * 3. What it holds in memory does not grow with what it writes or reads.
 */
import { randomBytes } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { link, open, rename, stat, unlink, writeFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib'
import tar from 'tar-stream'
import { messageOf, SluiceError } from '../../errors.ts'

export interface TapeWriter {
  /** Adds a part of `bytes` bytes. @throws SluiceError STORAGE_FULL; what reading `content` throws */
  add(name: string, content: Uint8Array | AsyncIterable<Uint8Array>, bytes: number): Promise<void>
}

/** Level 3 takes 250 MB/s of a core here; pictures do not get smaller at any. */
const compression = {
  params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 },
}

/** A frame of four bytes that decompressors skip. */
const endMark = Buffer.from('502a4d1804000000534c4345', 'hex')

/** Passes everything on, and the mark behind it. */
async function* marked(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* source
  yield endMark
}

/**
 * Writes a file with what `fill` adds. Nothing is left of it when that fails. Gives its size.
 * @throws SluiceError CONFLICT when there is such a file; STORAGE_FULL; USAGE when it cannot be made there
 */
export async function writeTape(
  file: string,
  signal: AbortSignal,
  fill: (tape: TapeWriter) => Promise<void>,
): Promise<number> {
  const path = resolve(file)
  await refuseExisting(path)
  const temporary = `${path}.${randomBytes(6).toString('hex')}.partial`
  await writeFile(temporary, '', { flag: 'wx', mode: 0o600 }).catch((thrown: unknown) => {
    throw new SluiceError('USAGE', `${file} cannot be written: ${messageOf(thrown)}`, { cause: thrown })
  })
  try {
    // It is on disk before it is closed, and closed before it gets its name.
    await fillTape(createWriteStream(temporary, { flags: 'r+', flush: true }), signal, fill)
    const { size } = await stat(temporary)
    await giveName(temporary, path)
    return size
  } catch (thrown) {
    throw signal.aborted
      ? new SluiceError('CANCELLED', 'It was interrupted; nothing of it is left')
      : named(thrown, file)
  } finally {
    await unlink(temporary).catch(() => {})
    await syncFolder(dirname(path))
  }
}

/** Whoever fails first ends the other; the one that did not fail only because of that is told. */
async function fillTape(
  target: Writable,
  signal: AbortSignal,
  fill: (tape: TapeWriter) => Promise<void>,
): Promise<void> {
  const pack = tar.pack()
  const writing = pipeline(pack, createZstdCompress(compression), marked, target, { signal }).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  const filling = fill({ add: (name, content, bytes) => add(pack, name, content, bytes) }).then(
    () => pack.finalize(),
    (thrown: unknown) => {
      pack.destroy()
      throw thrown
    },
  )
  const [failed, filled] = await Promise.allSettled([writing, filling])
  const writeFailure = failed.status === 'fulfilled' ? failed.value : undefined
  if (writeFailure !== undefined && !isCode(writeFailure, 'ERR_STREAM_PREMATURE_CLOSE')) throw writeFailure
  if (filled.status === 'rejected') throw filled.reason
  if (writeFailure !== undefined) throw writeFailure
}

/** A link, unlike a renaming, never replaces what has come there meanwhile; not every file system has links. */
async function giveName(temporary: string, path: string): Promise<void> {
  try {
    await link(temporary, path)
  } catch (thrown) {
    if (isCode(thrown, 'EEXIST')) throw existing(path)
    await refuseExisting(path)
    await rename(temporary, path)
  }
}

async function refuseExisting(path: string): Promise<void> {
  if ((await stat(path).catch(() => undefined)) !== undefined) throw existing(path)
}

const existing = (path: string) =>
  new SluiceError('CONFLICT', `${path} is there already; a backup never replaces a file. Give another name`)

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder).catch(() => undefined)
  await handle?.sync().catch(() => {})
  await handle?.close()
}

const isCode = (thrown: unknown, code: string) => (thrown as NodeJS.ErrnoException | undefined)?.code === code

function named(thrown: unknown, file: string): unknown {
  if (!isCode(thrown, 'ENOSPC') && !isCode(thrown, 'EDQUOT')) return thrown
  return new SluiceError('STORAGE_FULL', `There is no room for ${file}; nothing of it is left`, { cause: thrown })
}

async function add(
  pack: tar.Pack,
  name: string,
  content: Uint8Array | AsyncIterable<Uint8Array>,
  bytes: number,
): Promise<void> {
  const { promise, resolve: done, reject } = Promise.withResolvers<void>()
  const sink = pack.entry({ name, size: bytes, mode: 0o600 }, (error) => (error ? reject(error) : done()))
  const source = content instanceof Uint8Array ? Readable.from([content]) : Readable.from(content)
  await Promise.all([pipeline(source, sink), promise])
}

export interface Part {
  readonly name: string
  readonly bytes: number
  readonly content: AsyncIterable<Uint8Array>
}

/** Larger ones than this are not read into memory at once. */
const wholeBytes = 268_435_456

/** The parts of a file, in order; each is to be read to its end, or is passed over. @throws SluiceError BACKUP_INVALID, USAGE */
export async function* readTape(file: string, onRead: (bytes: number) => void = () => {}): AsyncGenerator<Part> {
  const source = createReadStream(file, { end: await endOf(file) })
  source.on('data', (chunk) => onRead(chunk.length))
  const extract = tar.extract()
  const reading = pipeline(source, createZstdDecompress(), extract)
  reading.catch(() => {})
  try {
    for await (const entry of judged(entriesOf(extract, reading), file)) {
      const { name, size = 0 } = entry.header
      yield { name, bytes: size, content: judged(entry as AsyncIterable<Uint8Array>, file) }
      entry.resume()
    }
  } finally {
    source.destroy()
    extract.destroy()
  }
}

/** Where the last byte before the mark is. */
async function endOf(file: string): Promise<number> {
  const mark = Buffer.alloc(endMark.length)
  try {
    const handle = await open(file)
    try {
      const { size } = await handle.stat()
      await handle.read(mark, 0, mark.length, Math.max(0, size - mark.length))
      if (mark.equals(endMark) && size > mark.length) return size - mark.length - 1
      const start = Buffer.alloc(4)
      await handle.read(start, 0, 4, 0)
      const zstd = start.readUInt32LE() === 0xfd2fb528
      throw invalid(file, zstd ? 'it was cut short' : 'it is another sort of file')
    } finally {
      await handle.close()
    }
  } catch (thrown) {
    throw readFailure(file, thrown)
  }
}

/** The end of the archive is not yet the end of the file. */
async function* entriesOf(extract: tar.Extract, reading: Promise<void>) {
  yield* extract
  await reading
}

/** What goes wrong while it is read is told as what is wrong with the file. */
async function* judged<T>(read: AsyncIterable<T>, file: string): AsyncGenerator<T> {
  try {
    yield* read
  } catch (thrown) {
    throw readFailure(file, thrown)
  }
}

function readFailure(file: string, thrown: unknown): SluiceError {
  if (thrown instanceof SluiceError) return thrown
  if (isCode(thrown, 'ENOENT') || isCode(thrown, 'EACCES') || isCode(thrown, 'EISDIR')) {
    return new SluiceError('USAGE', `${file} cannot be read: ${messageOf(thrown)}`, { cause: thrown })
  }
  const cut = isCode(thrown, 'Z_BUF_ERROR') || /unexpected end/i.test(messageOf(thrown))
  return invalid(
    file,
    cut ? 'it was cut short' : `it is damaged, or another sort of file (${messageOf(thrown)})`,
    thrown,
  )
}

export function invalid(file: string, why: string, cause?: unknown): SluiceError {
  return new SluiceError('BACKUP_INVALID', `${file} is no backup that can be restored: ${why}`, { cause })
}

/** The bytes of a part. @throws SluiceError BACKUP_INVALID when it is over 256 MiB */
export async function wholeOf(file: string, part: Part): Promise<Buffer> {
  if (part.bytes > wholeBytes) throw invalid(file, `its part ${part.name} has ${part.bytes} bytes`)
  const pieces: Uint8Array[] = []
  for await (const piece of part.content) pieces.push(piece)
  return Buffer.concat(pieces)
}
