/** An object store in memory. */
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { SluiceError } from '../errors.ts'
import type { ObjectInfo, ObjectSource, ObjectStore } from '../ports/objects.ts'

export class MemoryObjects implements ObjectStore {
  readonly #bytes = new Map<string, Buffer>()

  async put(source: ObjectSource, claim: (object: ObjectInfo) => Promise<void>): Promise<ObjectInfo> {
    const parts: Uint8Array[] = []
    if (source instanceof Uint8Array) parts.push(source)
    else for await (const part of source) parts.push(part)
    const bytes = Buffer.concat(parts)
    const info = { sha256: createHash('sha256').update(bytes).digest('hex'), bytes: bytes.length }
    await claim(info)
    this.#bytes.set(info.sha256, bytes)
    return info
  }

  async open(sha256: string): Promise<Readable> {
    return Readable.from([await this.read(sha256)])
  }

  async read(sha256: string): Promise<Buffer> {
    const bytes = this.#bytes.get(sha256)
    if (bytes) return bytes
    throw new SluiceError('OBJECT_NOT_FOUND', `there is no object ${sha256}`)
  }

  async stat(sha256: string): Promise<ObjectInfo | undefined> {
    const bytes = this.#bytes.get(sha256)
    return bytes && { sha256, bytes: bytes.length }
  }

  async remove(sha256: string): Promise<void> {
    this.#bytes.delete(sha256)
  }

  async *list(): AsyncIterable<string> {
    yield* [...this.#bytes.keys()].sort()
  }

  async removeStale(): Promise<number> {
    return 0
  }
}
