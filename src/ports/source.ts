/** Where a stream's records come from: partitions with offsets without gaps. */
import type { Session } from './database.ts'

export interface SourceRecord {
  readonly offset: number
  /** The id it was published under. */
  readonly id: string
  readonly key: string | null
  /** JSON text, as it was published. */
  readonly value: string
}

export interface ReadLimits {
  /** Records at most. */
  readonly records: number
  /** UTF-8 bytes of values at most, but for a first record that is longer alone. */
  readonly bytes: number
}

export interface Source {
  /** The records from an offset on, in order, without a gap; none when there are none yet. */
  read(session: Session, partition: number, from: number, limits: ReadLimits): Promise<SourceRecord[]>
}
