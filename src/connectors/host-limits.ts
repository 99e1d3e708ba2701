import type { Clock } from '../time.ts'

/** At most `count` starts within any span of `perMs` milliseconds. */
export interface Rate {
  readonly count: number
  readonly perMs: number
}

/** Milliseconds until another start is within the rate. `starts` are the latest starts in order, at most `count`. */
export function rateWaitMs(starts: readonly number[], rate: Rate, nowMs: number): number {
  const oldest = starts[starts.length - rate.count]
  return oldest === undefined ? 0 : Math.max(0, oldest + rate.perMs - nowMs)
}

interface Host {
  active: number
  /** Insertion order is the order of service; leaving from the middle is cheap. */
  readonly waiting: Set<() => void>
  starts: number[]
  timer: NodeJS.Timeout | undefined
}

/**
 * Keeps a number of fetches per host in flight, and their rate, first come, first served; hosts do not know of each
 * other. Within this process only: a deployment with several shard processes gives each its part.
 */
export class HostLimits {
  readonly #hosts = new Map<string, Host>()
  readonly #concurrent: number
  readonly #rate: Rate | undefined
  readonly #clock: Clock

  constructor(limits: { concurrent: number; rate?: Rate | undefined; clock: Clock }) {
    this.#concurrent = limits.concurrent
    this.#rate = limits.rate
    this.#clock = limits.clock
  }

  /** Hosts that have something in flight or waiting, or whose rate still counts. */
  get size(): number {
    return this.#hosts.size
  }

  /** Resolves at one's turn with the function that ends it. @throws the reason of `signal` when it aborts first. */
  acquire(name: string, signal: AbortSignal): Promise<() => void> {
    if (signal.aborted) return Promise.reject(signal.reason)
    const host = this.#host(name)
    return new Promise((resolve, reject) => {
      const leave = () => {
        host.waiting.delete(start)
        this.#serve(name, host)
        reject(signal.reason)
      }
      const start = () => {
        signal.removeEventListener('abort', leave)
        resolve(this.#release(name, host))
      }
      signal.addEventListener('abort', leave, { once: true })
      host.waiting.add(start)
      this.#serve(name, host)
    })
  }

  #host(name: string): Host {
    let host = this.#hosts.get(name)
    if (!host) {
      host = { active: 0, waiting: new Set(), starts: [], timer: undefined }
      this.#hosts.set(name, host)
    }
    return host
  }

  #release(name: string, host: Host): () => void {
    let held = true
    return () => {
      if (!held) return
      held = false
      host.active -= 1
      this.#serve(name, host)
    }
  }

  /** Starts whoever may start now, sets a timer when only the rate is in the way, forgets a host that is at rest. */
  #serve(name: string, host: Host): void {
    clearTimeout(host.timer)
    host.timer = undefined
    for (const start of host.waiting) {
      if (host.active >= this.#concurrent) return
      const waitMs = this.#rateWait(host)
      if (waitMs > 0) {
        host.timer = setTimeout(() => this.#serve(name, host), waitMs)
        return
      }
      host.waiting.delete(start)
      host.active += 1
      if (this.#rate) host.starts = [...host.starts, this.#clock.now()].slice(-this.#rate.count)
      start()
    }
    if (host.active > 0) return
    const restMs = this.#rest(host)
    if (restMs === 0) this.#hosts.delete(name)
    else host.timer = setTimeout(() => this.#serve(name, host), restMs).unref()
  }

  #rateWait(host: Host): number {
    return this.#rate ? rateWaitMs(host.starts, this.#rate, this.#clock.now()) : 0
  }

  /** How long the latest start still counts against the rate. */
  #rest(host: Host): number {
    const latest = host.starts.at(-1)
    return this.#rate && latest !== undefined ? Math.max(0, latest + this.#rate.perMs - this.#clock.now()) : 0
  }
}
