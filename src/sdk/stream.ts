import type { RetryOptions } from './action-definition.ts'
import type { Capabilities } from './context.ts'
import type { HttpSource } from './http-source.ts'
import { checkName } from './name.ts'
import type { Table } from './table.ts'
import type { Timer } from './timer.ts'
import type { Topic } from './topic.ts'

export interface StepContext<Record> extends Capabilities {
  /** The record as it was received. */
  readonly record: Record
  /** Counts from 1; more after a failure. */
  readonly attempt: number
  /** Ends the record as rejected, with the reason kept. `reason` is a short class such as `http error`. */
  reject(reason: string, detail?: string): never
  /** Ends the record as filtered: it was meant to end here. */
  filter(): never
}

/** Anything thrown but `reject` and `filter` is tried again by the stream's retry policy, then the record is dead. */
export type Step<Record, In, Out> = (row: In, context: StepContext<Record>) => Promise<Out> | Out

declare const produced: unique symbol

/** The chain of steps a record goes through, each taking what the one before returned. */
export interface Records<Record, Row> {
  /** Never set: carries the type of the row. */
  readonly [produced]?: Row
  step<Next>(work: Step<Record, Row, Next>): Records<Record, Next>
}

/** Where the rows of a stream go: a collection of documents with unique keys, in the same transaction as the offset. */
export interface DocumentSink<Key extends string = string, Merge = unknown> {
  readonly kind: 'documents'
  readonly collection: string
  /** The field whose value is the document's key. */
  readonly key: Key
  readonly merge: Merge | undefined
}

type AnyMerge = (document: never, record: never) => unknown

/**
 * `merge` says what a document becomes when another record leads to the same key, or repeats the key of a distinct
 * stream; without it the document stays as it is. Byte fields are not passed to it and cannot be changed. Annotate its
 * parameters: `(document: Picture, record: Line) => Picture`.
 */
export function documents<const Key extends string, Merge extends AnyMerge | undefined = undefined>(
  collection: string,
  options: { readonly key: Key; readonly merge?: Merge },
): DocumentSink<Key, Merge> {
  checkName('collection', collection)
  return { kind: 'documents', collection, key: options.key, merge: options.merge }
}

/**
 * Where the rows of a stream go: documents and tables in the same transaction as the offset, a topic under the ids of the records that
 * they came from.
 */
export type StreamSink = DocumentSink | Table | Topic

/**
 * The rows a sink takes. Of documents the key is text, and where they merge they are what the merge is written for; of tables and
 * topics they are what their schema takes.
 */
export type RowOf<Sink> =
  Sink extends DocumentSink<infer Key, infer Merge>
    ? { readonly [K in Key]: string } & (Merge extends (document: infer Row, record: never) => unknown ? Row : unknown)
    : Sink extends Table<infer Row>
      ? Row
      : Sink extends Topic<infer Row>
        ? Row
        : never

export interface StreamConcurrency<Record> {
  /** Records in their steps at once, per shard; 1 to 4,096. Default 64. */
  readonly total?: number
  /** Groups the records; no group takes more than `each` at once, and none holds up another. */
  readonly per?: (record: Record) => string
  readonly each?: number
}

export interface StreamOptions<Record, Sink> {
  /** Where its records come from. (Under a name of its own, the compiler would not infer the record through the union.) */
  readonly from: Topic<Record> | Timer<Record>
  /** The identity of a record. */
  readonly id: (record: Record) => string | number | readonly (string | number)[]
  /** Records with equal keys are processed one after another, in order. */
  readonly key?: (record: Record) => string
  /**
   * Only the first record of a key goes through the steps; later ones wait for its end and then are duplicates (also
   * when it was rejected), or dead with it. A function decides per record: false lets a record through again.
   * Needs `key`. Default false.
   */
  readonly distinct?: boolean | ((record: Record) => boolean)
  readonly concurrency?: StreamConcurrency<Record>
  readonly steps: (records: Records<Record, Record>) => Records<Record, RowOf<Sink>>
  readonly to: Sink
  /** Default 5 attempts. */
  readonly retry?: RetryOptions
  /** The time limit of all steps of a record together; default `2m`. */
  readonly timeout?: string
}

export interface Stream<Record = unknown> {
  readonly kind: 'stream'
  readonly name: string
  readonly options: StreamOptions<Record, StreamSink>
  readonly steps: readonly { readonly name: string; readonly work: Step<Record, unknown, unknown> }[]
}

export interface HttpRowContext {
  /** When the server had read the event. */
  readonly receivedAt: Date
  /** The id of the event; made for it where it came without. */
  readonly id: string
}

/** A stream that serving processes feed from HTTP: each event is one row, and what a request brought is committed before it is answered. */
export interface HttpStreamOptions<Event, Sink> {
  readonly from: HttpSource<Event>
  /** The id under which an event is stored once, however often it comes. Undefined: the `Idempotency-Key` of the request, or a new one. */
  readonly id?: (event: Event) => string | number | undefined
  /** Synchronous. What it throws rejects the event (422): a SluiceError with its message and faults, anything else with its message. */
  readonly row: (event: Event, context: HttpRowContext) => RowOf<Sink>
  readonly to: Sink
}

export interface HttpStream<Event = unknown> {
  readonly kind: 'stream'
  readonly name: string
  readonly options: HttpStreamOptions<Event, StreamSink>
  readonly steps: readonly never[]
}

/** Whether it is fed by HTTP; if not, shards read its source. */
export function isHttpStream(stream: Stream | HttpStream): stream is HttpStream {
  return stream.options.from?.kind === 'http'
}

/** @throws SluiceError DEFINITION_INVALID */
export function stream<Event, Sink extends { readonly kind: StreamSink['kind'] }>(
  name: string,
  options: HttpStreamOptions<Event, Sink>,
): HttpStream<Event>
export function stream<Record, Sink extends { readonly kind: StreamSink['kind'] }>(
  name: string,
  options: StreamOptions<Record, Sink>,
): Stream<Record>
export function stream(
  name: string,
  options: StreamOptions<unknown, StreamSink> | HttpStreamOptions<unknown, StreamSink>,
): Stream | HttpStream {
  checkName('stream', name)
  if (options.from?.kind === 'http') {
    return { kind: 'stream', name, options: options as HttpStreamOptions<unknown, StreamSink>, steps: [] }
  }
  const { steps: chain } = options as StreamOptions<unknown, StreamSink>
  const steps: { name: string; work: Step<unknown, unknown, unknown> }[] = []
  const records = {
    step(work: Step<unknown, unknown, unknown>) {
      steps.push({ name: work.name || `step-${steps.length + 1}`, work })
      return records
    },
  }
  chain(records as unknown as Records<unknown, never>)
  return { kind: 'stream', name, options: options as unknown as StreamOptions<unknown, StreamSink>, steps }
}
