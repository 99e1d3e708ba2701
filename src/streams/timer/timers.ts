/** The timers of one process: their items, asked for once whatever number of shards there is, and their sources. */
import type { Source } from '../../ports/source.ts'
import type { Capabilities } from '../../sdk/context.ts'
import type { Timer } from '../../sdk/timer.ts'
import { type Clock, systemClock } from '../../time.ts'
import type { SourcePlace } from '../streams.ts'
import { TimerItems } from './items.ts'
import { timerBegin, timerSource } from './source.ts'

export interface TimersParts {
  /** What `items` is given. */
  readonly capabilities: (signal: AbortSignal) => Capabilities
  /** Is told what is wrong with items. */
  readonly report: (message: string, fields: Record<string, unknown>) => void
  readonly clock?: Clock
}

export class Timers {
  readonly #parts: TimersParts & { readonly clock: Clock }
  readonly #items = new Map<Timer, TimerItems>()

  constructor(parts: TimersParts) {
    this.#parts = { clock: systemClock, ...parts }
  }

  place({ name, shards }: Timer): SourcePlace {
    return { source: `timer:${name}`, partitions: shards, first: timerBegin(this.#parts.clock) }
  }

  source(timer: Timer): Source {
    const { clock, report } = this.#parts
    const items = this.#items.get(timer) ?? new TimerItems({ ...this.#parts, timer })
    this.#items.set(timer, items)
    return timerSource({ items, shards: timer.shards, clock, report })
  }
}
