import type { RetryOptions } from './action-definition.ts'
import type { Capabilities } from './context.ts'
import { checkName } from './name.ts'
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

/** The rows a sink takes: its key is text, and where it merges they are what the merge is written for. */
export type RowOf<Sink> =
  Sink extends DocumentSink<infer Key, infer Merge>
    ? { readonly [K in Key]: string } & (Merge extends (document: infer Row, record: never) => unknown ? Row : unknown)
    : never

export interface StreamConcurrency<Record> {
  /** Records in their steps at once, per shard; 1 to 4,096. Default 64. */
  readonly total?: number
  /** Groups the records; no group takes more than `each` at once, and none holds up another. */
  readonly per?: (record: Record) => string
  readonly each?: number
}

export interface StreamOptions<Record, Sink> {
  readonly from: Topic<Record>
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
  readonly options: StreamOptions<Record, DocumentSink>
  readonly steps: readonly { readonly name: string; readonly work: Step<Record, unknown, unknown> }[]
}

/** @throws SluiceError DEFINITION_INVALID */
export function stream<Record, Sink extends DocumentSink>(
  name: string,
  options: StreamOptions<Record, Sink>,
): Stream<Record> {
  checkName('stream', name)
  const steps: { name: string; work: Step<Record, unknown, unknown> }[] = []
  const records = {
    step(work: Step<Record, unknown, unknown>) {
      steps.push({ name: work.name || `step-${steps.length + 1}`, work })
      return records
    },
  }
  options.steps(records as unknown as Records<Record, Record>)
  return { kind: 'stream', name, options: options as unknown as StreamOptions<Record, DocumentSink>, steps }
}
