/**
 * A timer as the source of a stream: each shard has the items whose ids fall to it, and one alarm, set to the next that is
 * due. What becomes a record and what does not is decided by `DueTicks`.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { DueTicks } from '../../core/due-ticks.ts'
import { stableHash } from '../../core/stable-hash.ts'
import { offsetOf, timeOfOffset } from '../../core/ticks.ts'
import type {
  OpenRecord,
  ReadLimits,
  Source,
  SourceBatch,
  SourceReader,
  SourceRecord,
  TimerFigures,
} from '../../ports/source.ts'
import type { Clock } from '../../time.ts'
import type { ReadyItem, TimerItems } from './items.ts'

/** The longest that setTimeout takes. */
const longestMs = 2_147_483_647
/** Where nothing is due for long, the offset follows the time in steps of this length. */
const idleMs = 10_000
/** What a record has besides its item, and some room. */
const envelopeBytes = 100

export interface TimerSourceParts {
  readonly items: TimerItems
  readonly shards: number
  readonly clock: Clock
  readonly report: (message: string, fields: Record<string, unknown>) => void
}

/** Where the shards of a timer begin that are new: now. */
export const timerBegin = (clock: Clock): number => offsetOf(clock.now())

export function timerSource(parts: TimerSourceParts): Source {
  return { open: (partition, from, wake) => new TimerReader(parts, partition, from, wake) }
}

class TimerReader implements SourceReader {
  readonly #parts: TimerSourceParts
  readonly #wake: () => void
  readonly #due: DueTicks<ReadyItem>
  readonly #unlisten: () => void
  /** There was a list. */
  #ready = false
  #longestItem = 0
  #alarm: NodeJS.Timeout | undefined
  #closed = false

  constructor(parts: TimerSourceParts, partition: number, from: number, wake: () => void) {
    this.#parts = parts
    this.#wake = wake
    this.#due = new DueTicks(from)
    this.#unlisten = parts.items.listen((all) => {
      this.#set(all.filter(({ id }) => stableHash(id) % parts.shards === partition))
      wake()
    })
    const aheadMs = timeOfOffset(from) - parts.clock.now()
    if (aheadMs > 60_000) {
      const message = 'a timer was further than the clock of this machine says it is: nothing is due until then'
      parts.report(message, { partition, until: new Date(timeOfOffset(from)).toISOString() })
    }
  }

  #set(items: readonly ReadyItem[]): void {
    this.#ready = true
    this.#longestItem = items.reduce((longest, { text }) => Math.max(longest, Buffer.byteLength(text)), 0)
    this.#due.set(items)
  }

  get figures(): TimerFigures {
    return { items: this.#due.size, ...this.#parts.items.figures }
  }

  resume(open: readonly OpenRecord[]): void {
    for (const { key, offset } of open) if (key !== null) this.#due.opened(key, offset)
  }

  ended(offset: number): void {
    this.#due.ended(offset)
  }

  async read(from: number, limits: ReadLimits): Promise<SourceBatch> {
    if (!this.#ready) return { records: [], next: from }
    const byBytes = Math.floor(limits.bytes / (this.#longestItem + envelopeBytes))
    const limit = Math.max(1, Math.min(limits.records, byBytes))
    for (;;) {
      const { due, more } = this.#due.take(this.#parts.clock.now(), limit)
      const next = this.#due.position
      if (due.length > 0) return { records: due.map(recordOf), next: Math.max(next, from) }
      if (!more || this.#closed) {
        this.#setAlarm()
        return { records: [], next: next >= from + offsetOf(idleMs) ? next : from }
      }
      await turn()
    }
  }

  #setAlarm(): void {
    clearTimeout(this.#alarm)
    const at = this.#due.nextAt
    if (at === undefined || this.#closed) return
    this.#alarm = setTimeout(this.#wake, Math.min(longestMs, Math.max(1, at - this.#parts.clock.now())))
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#alarm)
    this.#unlisten()
  }
}

function recordOf({ item, at, offset, skipped }: ReturnType<DueTicks<ReadyItem>['take']>['due'][number]): SourceRecord {
  const scheduledAt = new Date(at).toISOString()
  return {
    offset,
    id: `${item.id} ${scheduledAt}`,
    key: item.id,
    value: `{"item":${item.text},"scheduledAt":"${scheduledAt}"}`,
    skipped,
  }
}
