import type { Readable } from 'node:stream'
import type { Duration } from '../time.ts'
import type { ConnectionClient, ConnectionHandle, ConnectionKind } from './connection.ts'
import type { Dataset, DatasetAccess } from './dataset.ts'
import type { SecretHandle } from './secret.ts'
import type { Topic } from './topic.ts'

/** Lines go to the log of the attempt or shard; `fields` are kept beside the message. Secrets are redacted. */
export interface Log {
  debug(message: string, fields?: Record<string, unknown>): void
  info(message: string, fields?: Record<string, unknown>): void
  warn(message: string, fields?: Record<string, unknown>): void
  error(message: string, fields?: Record<string, unknown>): void
}

/** Bytes under their sha256 (lower-case hex). */
export interface StoredObject {
  readonly sha256: string
  readonly bytes: number
}

/** The object store: immutable bytes under their hash. What is put is kept as long as what it belongs to. */
export interface Objects {
  put(source: Uint8Array | AsyncIterable<Uint8Array>): Promise<StoredObject>
  /** Stores a file of the project by path (relative to the project's folder, or absolute); streamed, never loaded. */
  putFile(path: string): Promise<StoredObject>
  /** Streams the bytes. @throws SluiceError OBJECT_NOT_FOUND */
  open(sha256: string): Promise<Readable>
  /** The whole bytes, re-hashed. @throws SluiceError OBJECT_NOT_FOUND, OBJECT_CORRUPT */
  read(sha256: string): Promise<Uint8Array>
}

export interface Page<Item> {
  readonly items: readonly Item[]
  /** Pass it as `cursor` to read on; null at the end. */
  readonly nextCursor: string | null
}

export interface ListOptions {
  /** 1 to 1,000; default 50. */
  readonly limit?: number
  readonly cursor?: string | null
  /** Only documents that contain this JSON: scalars equal, objects field by field, lists item by item. */
  readonly where?: Readonly<Record<string, unknown>>
  /**
   * Only documents whose top-level `field` is a 64-bit hash (16 hex digits) that differs from `hash` in at most `distance`
   * bits, 0 to 64. No index serves it: it looks at every document of the collection, 100,000 in about a second, and is given
   * up with TIMEOUT after 10 s.
   */
  readonly near?: { readonly field: string; readonly hash: string; readonly distance: number }
}

/** A byte field as it is stored: hashed where it lies, or the object that it was put into for its length. */
export interface StoredField {
  readonly bytes: number
  /** Of the bytes as they are now; of those in the object store the hash under which they were put, see `Objects.open`. */
  readonly sha256: string
  readonly inObjects: boolean
}

/** A collection of JSON documents under unique keys. Fields that are bytes are kept beside the JSON. */
export interface Documents<Document extends object = Record<string, unknown>> {
  /** Byte fields come as Uint8Array when `bytes` is true, otherwise they are left out. */
  get(key: string, options?: { readonly bytes?: boolean }): Promise<Document | undefined>
  /** Inserts or replaces. `objects` (sha256) are then kept as long as the document is, those of earlier puts too. */
  put(key: string, document: Document, options?: { readonly objects?: readonly string[] }): Promise<void>
  /**
   * Replaces a document by what `change` makes of it, exactly: when it was written meanwhile, by whomever, `change` is asked
   * again with what it has become. Byte fields are not passed to it; those that it gives are replaced, the others stay.
   * `objects` are then kept as long as the document is, `drop` (of earlier writes) no more because of it.
   * What an action changes is changed once, also where the database went away before it had answered.
   * Gives the new document; undefined when there is none, or when `change` gave undefined, which leaves it as it is.
   */
  change(
    key: string,
    change: (document: Document) => Document | undefined,
    options?: { readonly objects?: readonly string[]; readonly drop?: readonly string[] },
  ): Promise<Document | undefined>
  /** Ordered by time of insertion; without byte fields. */
  list(options?: ListOptions): Promise<Page<Document>>
  /** How many there are. */
  count(options?: Pick<ListOptions, 'where'>): Promise<number>
  /** The byte fields of up to 1,000 documents, by key and field, without the bytes. Keys without any are left out. */
  stored(keys: readonly string[]): Promise<Readonly<Record<string, Readonly<Record<string, StoredField>>>>>
}

export interface PublishResult {
  /** How many records are new in the topic. */
  readonly published: number
  /** How many were published before under the same id. */
  readonly known: number
}

/** What every function of an author gets, wherever it runs. */
export interface Capabilities {
  readonly log: Log
  readonly objects: Objects
  documents<Document extends object = Record<string, unknown>>(collection: string): Documents<Document>
  connection<Kind extends ConnectionKind>(handle: ConnectionHandle<Kind>): ConnectionClient<Kind>
  /** The text of a secret. @throws SluiceError SECRET_UNKNOWN */
  secret(secret: SecretHandle | string): Promise<string>
  /** Aborted when the work is cancelled, timed out, or the process drains. */
  readonly signal: AbortSignal
}

export interface ActionContext<Input = unknown> extends Capabilities {
  readonly input: Input
  readonly run: {
    readonly id: string
    readonly workflow: string
    readonly version: string
    /** Of the tick that started the run, or that a backfill made it for; null where none did. */
    readonly logicalTime: Date | null
  }
  /** `number` counts from 1; `mapIndex` is -1 unless the task is mapped. */
  readonly attempt: { readonly task: string; readonly number: number; readonly mapIndex: number }
  /**
   * Waits without holding a runner: the attempt ends here, and the next one goes on behind it when the time has passed.
   * What stands before it runs again then, but for durable steps. It throws, which must not be caught.
   */
  sleep(name: string, duration: Duration): Promise<void>
  /** Durable: once `work` has returned, a later attempt of this task gets its result without running it again. */
  step<Result>(name: string, work: () => Promise<Result> | Result): Promise<Result>
  /**
   * Appends records to a topic. Ids derive from run, task and position (or from `id`), so a later attempt that
   * publishes the same again adds nothing. Sent in batches of 1,000; awaits back-pressure.
   */
  publish<Record>(
    topic: Topic<Record>,
    records: Iterable<Record> | AsyncIterable<Record>,
    options?: { readonly id?: (record: Record) => string },
  ): Promise<PublishResult>
  /** A dataset: its versions, and a new one that is published with the success of this attempt. */
  dataset(dataset: Dataset): DatasetAccess
  /** The time at which this attempt began, the same at every call and when the run is reproduced. */
  now(): Date
  /** A number in [0, 1) of a sequence that comes again when the run is reproduced; not for secrets. */
  random(): number
  /** How far this task is: its latest word is shown with the task (`sluice show`, the API), at most half a second late. */
  progress(done: number, total?: number): void
}
