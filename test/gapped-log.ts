/** A log that leaves gaps between offsets, as those do that keep marks of their own in it or drop records. In memory. */
import type { Source, SourceRecord } from '../src/ports/source.ts'
import type { StreamAdapters } from '../src/streams/streams.ts'

export class GappedLog {
  readonly #name: string
  readonly #partitions: { records: SourceRecord[]; end: number }[]
  readonly #wakes = new Set<() => void>()

  constructor(name: string, partitions: number) {
    this.#name = name
    this.#partitions = Array.from({ length: partitions }, () => ({ records: [], end: 0 }))
  }

  /** `gap`: so many offsets are passed over before the record. */
  append(partition: number, { gap, ...record }: Omit<SourceRecord, 'offset'> & { readonly gap: number }): number {
    const log = this.#partitions[partition]!
    const offset = log.end + gap
    log.records.push({ ...record, offset })
    log.end = offset + 1
    for (const wake of this.#wakes) wake()
    return offset
  }

  /** The log goes on without a record. */
  pass(partition: number, gap: number): void {
    this.#partitions[partition]!.end += gap
    for (const wake of this.#wakes) wake()
  }

  end(partition: number): number {
    return this.#partitions[partition]!.end
  }

  /** `others` serve the sink. */
  adapters(others: StreamAdapters): StreamAdapters {
    const source = this.#source()
    return {
      ...others,
      ensure: async () => ({ source: `gaps:${this.#name}`, partitions: this.#partitions.length }),
      source: () => source,
    }
  }

  #source(): Source {
    return {
      open: (partition, _, wake) => {
        this.#wakes.add(wake)
        const log = this.#partitions[partition]!
        return {
          get end() {
            return log.end
          },
          read: async (from, limits) => {
            const records: SourceRecord[] = []
            let bytes = 0
            for (const record of log.records) {
              if (record.offset < from) continue
              bytes += Buffer.byteLength(record.value)
              if (records.length === limits.records || (records.length > 0 && bytes > limits.bytes))
                return { records, next: records.at(-1)!.offset + 1 }
              records.push(record)
            }
            return { records, next: Math.max(from, log.end) }
          },
          close: async () => {
            this.#wakes.delete(wake)
          },
        }
      },
    }
  }
}
