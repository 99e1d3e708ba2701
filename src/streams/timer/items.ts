/**
 * The items of a timer, asked for once per process and shared by its shards.
 *
 * 1. While anybody listens, the author's `items` is asked every `refresh`, and given up after 30 s. When it fails, the last list stands.
 * 2. An item that is wrong is left out, and reported once for as long as it stays so; up to 100 of them at a time.
 * 3. Items are taken as JSON gives them back, so that what a step gets later is what `id` and `every` were asked about.
 */
import type { TickItem } from '../../core/due-ticks.ts'
import { messageOf, SluiceError } from '../../errors.ts'
import type { TimerFigures } from '../../ports/source.ts'
import type { Capabilities } from '../../sdk/context.ts'
import { itemInterval, type Timer } from '../../sdk/timer.ts'
import { type Clock, parseDuration } from '../../time.ts'
import { faultsOf, itemId } from '../intake.ts'

/** An item that is right. */
export interface ReadyItem extends TickItem {
  /** JSON. */
  readonly text: string
}

interface Wrong {
  /** Which one: its id, or the beginning of its JSON. */
  readonly item: string
  readonly fault: string
}

export interface TimerParts {
  readonly timer: Timer
  readonly capabilities: (signal: AbortSignal) => Capabilities
  readonly clock: Clock
  readonly report: (message: string, fields: Record<string, unknown>) => void
}

type Listener = (items: readonly ReadyItem[]) => void

/** UTF-8 bytes of one item, and items of one timer. */
export const maxItemBytes = 262_144
export const maxItems = 1_000_000
const answerMs = 30_000
const reportedAtOnce = 100

export class TimerItems {
  readonly #parts: TimerParts
  readonly #listeners = new Set<Listener>()
  readonly #ending: { controller?: AbortController; next?: NodeJS.Timeout } = {}
  #items: readonly ReadyItem[] | undefined
  /** What is known of an item by its JSON. */
  #known = new Map<string, ReadyItem | Wrong>()
  #reported = new Set<string>()
  #refused = 0
  #failure: string | null = null

  constructor(parts: TimerParts) {
    this.#parts = parts
  }

  get figures(): Omit<TimerFigures, 'items'> {
    return { refused: this.#refused, failure: this.#failure }
  }

  /** Tells the list, at once if there is one, and whenever it changes. Gives the function that ends it. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener)
    if (this.#listeners.size === 1) void this.#ask()
    else if (this.#items !== undefined) listener(this.#items)
    return () => {
      this.#listeners.delete(listener)
      if (this.#listeners.size === 0) this.#stop()
    }
  }

  /** The list is forgotten: by the time somebody listens again it may be old. */
  #stop(): void {
    this.#ending.controller?.abort(new SluiceError('CANCELLED', 'Nobody needs the items any more'))
    clearTimeout(this.#ending.next)
    this.#items = undefined
  }

  async #ask(): Promise<void> {
    const { clock, timer } = this.#parts
    const askedAt = clock.now()
    const controller = new AbortController()
    this.#ending.controller = controller
    try {
      const given = await this.#answer(controller)
      if (controller.signal.aborted) return
      this.#take(given)
      this.#failure = null
    } catch (thrown) {
      if (controller.signal.aborted) return
      const failure = messageOf(thrown)
      if (this.#failure !== failure) {
        const stands = this.#items === undefined ? 'none' : this.#items.length
        this.#tell('the items of a timer could not be had; the last list stands', { error: failure, items: stands })
      }
      this.#failure = failure
    }
    const waitMs = Math.min(timer.refreshMs, Math.max(1, askedAt + timer.refreshMs - clock.now()))
    this.#ending.next = setTimeout(() => void this.#ask(), waitMs)
  }

  #answer(controller: AbortController): Promise<readonly unknown[]> {
    const { timer, capabilities } = this.#parts
    const asking = new AbortController()
    return new Promise((resolve, reject) => {
      const giveUp = () => asking.abort(controller.signal.reason)
      const late = setTimeout(() => {
        const reason = new SluiceError('TIMEOUT', `items did not answer within ${answerMs} ms`)
        asking.abort(reason)
        reject(reason)
      }, answerMs)
      controller.signal.addEventListener('abort', giveUp, { once: true })
      Promise.resolve()
        .then(() => timer.items(capabilities(asking.signal)))
        .then(resolve, reject)
        .finally(() => {
          clearTimeout(late)
          controller.signal.removeEventListener('abort', giveUp)
        })
    })
  }

  #take(given: readonly unknown[]): void {
    if (!Array.isArray(given)) throw new SluiceError('INVALID_INPUT', 'items must give a list')
    if (given.length > maxItems)
      throw new SluiceError('INVALID_INPUT', `items gave ${given.length} items; ${maxItems} are allowed`)
    const known = new Map<string, ReadyItem | Wrong>()
    const ready = new Map<string, ReadyItem>()
    const wrong: Wrong[] = []
    for (const one of given) {
      const judged = this.#judge(one, known)
      if ('fault' in judged) wrong.push(judged)
      else if (ready.has(judged.id)) wrong.push({ item: judged.id, fault: 'its id came before in the list' })
      else ready.set(judged.id, judged)
    }
    this.#known = known
    this.#refuse(wrong)
    const items = [...ready.values()]
    if (this.#items?.length === items.length && this.#items.every((one, index) => one === items[index])) return
    this.#items = items
    for (const listener of this.#listeners) listener(items)
  }

  #judge(given: unknown, known: Map<string, ReadyItem | Wrong>): ReadyItem | Wrong {
    let text: string | undefined
    try {
      text = JSON.stringify(given)
    } catch (thrown) {
      return { item: '(not JSON)', fault: messageOf(thrown) }
    }
    if (text === undefined) return { item: `(${typeof given})`, fault: 'it is not JSON' }
    const judged = known.get(text) ?? this.#known.get(text) ?? readyItem(this.#parts.timer, text)
    known.set(text, judged)
    return judged
  }

  #refuse(wrong: readonly Wrong[]): void {
    this.#refused = wrong.length
    const still = new Set<string>()
    let told = 0
    for (const { item, fault } of wrong) {
      const name = `${item}\n${fault}`
      if (this.#reported.has(name)) still.add(name)
      else if (told < reportedAtOnce) {
        told += 1
        still.add(name)
        this.#tell('an item of a timer is left out', { item, fault })
      }
    }
    this.#reported = still
  }

  #tell(message: string, fields: Record<string, unknown>): void {
    this.#parts.report(message, { timer: this.#parts.timer.name, ...fields })
  }
}

function readyItem(timer: Timer, text: string): ReadyItem | Wrong {
  const beginning = text.length > 200 ? `${text.slice(0, 200)}…` : text
  const bytes = Buffer.byteLength(text)
  if (bytes > maxItemBytes) return { item: beginning, fault: `it has ${bytes} bytes; ${maxItemBytes} are allowed` }
  if (text.includes('\\u0000')) return { item: beginning, fault: 'it holds a zero byte' }
  let asked = 'schema'
  try {
    const parsed = timer.itemSchema.safeParse(JSON.parse(text))
    if (!parsed.success) return { item: beginning, fault: faultsOf(parsed.error.issues) }
    asked = 'id'
    const id = itemId(timer, parsed.data)
    asked = 'every'
    return { id, intervalMs: intervalOf(timer.every(parsed.data)), text }
  } catch (thrown) {
    return { item: beginning, fault: `${asked}: ${messageOf(thrown)}` }
  }
}

function intervalOf(every: unknown): number {
  const { fromMs, toMs } = itemInterval
  const ms = typeof every === 'string' ? parseDuration(every) : Number.NaN
  if (ms >= fromMs && ms <= toMs) return ms
  throw new RangeError(`${JSON.stringify(every)} is not allowed; write a duration from 1s to 24h`)
}
