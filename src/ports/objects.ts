import type { Readable } from 'node:stream'

/** What is known of stored bytes: `sha256` in lower-case hex (64 characters), `bytes` their number. */
export interface ObjectInfo {
  readonly sha256: string
  readonly bytes: number
}

export type ObjectSource = Uint8Array | AsyncIterable<Uint8Array>

/** Immutable bytes under their hash. Every adapter passes the same conformance suite. */
export interface ObjectStore {
  /**
   * Stores bytes. `claim` is awaited after the hash is known and before the object becomes visible (also when it is
   * there already), so that the sweep can never remove what somebody is about to refer to.
   * @throws SluiceError STORAGE_FULL, STORAGE_FAILED; whatever `claim` and the source throw. Nothing is left behind then.
   */
  put(source: ObjectSource, claim: (object: ObjectInfo) => Promise<void>): Promise<ObjectInfo>
  /**
   * The bytes as a stream, hashed while they pass: it ends in an error OBJECT_CORRUPT when they are not those of the name,
   * STORAGE_FAILED when they cannot be read. @throws SluiceError OBJECT_NOT_FOUND, STORAGE_FAILED
   */
  open(sha256: string): Promise<Readable>
  /** The whole bytes; re-hashed. @throws SluiceError OBJECT_NOT_FOUND, OBJECT_CORRUPT, STORAGE_FAILED */
  read(sha256: string): Promise<Buffer>
  stat(sha256: string): Promise<ObjectInfo | undefined>
  remove(sha256: string): Promise<void>
  /** Every stored hash, in order, streamed. */
  list(): AsyncIterable<string>
  /** Removes what interrupted puts left behind longer than `olderThanMs` ago; gives the number. */
  removeStale(olderThanMs: number): Promise<number>
}
