/** Where a stream's records come from: partitions with ascending offsets. */
import type { SkippedTicks } from '../core/due-ticks.ts'

export interface SourceRecord {
  /** Above that of the record before; offsets may leave gaps. */
  readonly offset: number
  /** The id it was published under. */
  readonly id: string
  readonly key: string | null
  /** JSON text, as it was published. */
  readonly value: string
  /** Why the source itself could not read it: it is rejected. `value` is as much of it as is text then. */
  readonly fault?: { readonly reason: string; readonly detail: string }
  /** Of a timer: ticks before it that became no record. They are counted with the commit that passes its offset. */
  readonly skipped?: SkippedTicks
}

export interface ReadLimits {
  /** Records at most. */
  readonly records: number
  /** UTF-8 bytes of values at most, but for a first record that is longer alone. */
  readonly bytes: number
}

export interface SourceBatch {
  readonly records: readonly SourceRecord[]
  /** Where to read on: above the last record, and above what was passed without being one. `from` when nothing is there yet. */
  readonly next: number
}

/** A record by its place and key, as the shard knows it. */
export interface OpenRecord {
  readonly offset: number
  readonly key: string | null
}

/** What a timer tells of its items. */
export interface TimerFigures {
  /** Items of this partition. */
  readonly items: number
  /** Of the whole list: those that were left out the last time it was asked for. */
  readonly refused: number
  /** Why the list could not be had the last time; null when it could. */
  readonly failure: string | null
}

/** One partition in the hands of the shard that holds it. */
export interface SourceReader {
  /** Called once, before the first read: records that were read by earlier holders and have not ended. */
  resume?(open: readonly OpenRecord[]): void
  /** The record at that offset ended, and that is committed. */
  ended?(offset: number): void
  /** The offset at the log's end, as far as it is known: what lies between it and the committed offset is the lag. */
  readonly end?: number | undefined
  readonly figures?: TimerFigures | undefined
  /** The records from an offset on, in order; none when there are none yet. It does not wait for any: see `wake`. */
  read(from: number, limits: ReadLimits): Promise<SourceBatch>
  /** What is under way goes nowhere. */
  close(): Promise<void>
}

export interface Source {
  /**
   * Begins to read a partition at the offset up to which its shard has committed. `wake` is called when there may be
   * something to read after a read that gave nothing.
   */
  open(partition: number, from: number, wake: () => void): SourceReader
}
