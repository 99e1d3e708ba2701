/** Where a stream's records come from: partitions with ascending offsets. */

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

/** One partition in the hands of the shard that holds it. */
export interface SourceReader {
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
