/**
 * What is known of each host, and who may ask it now: a number of fetches in flight, a rate, the rest that the host asked
 * for with `Retry-After`, and the circuit of a host that does not answer.
 *
 * 1. First come, first served; hosts do not know of each other.
 * 2. Who comes to a host that is to be left alone, or waits there when that begins, is sent back with HOST_RESTING and the
 *    time to come again: it holds no place meanwhile. Those sent back are told times one after another.
 * 3. Within this process only: a deployment with several shard processes gives each its part.
 * 4. At most `maxHosts` hosts are remembered; the one that was asked longest ago is forgotten first, never one that has a
 *    fetch in flight or waiting.
 */
import { messageOf, SluiceError } from '../../errors.ts'
import type { Clock } from '../../time.ts'
import {
  type Circuit,
  type CircuitPolicy,
  type CircuitState,
  circuitState,
  closed,
  failed,
  mayAsk,
  probing,
  unprobed,
} from './circuit.ts'
import { FetchFailure, isConnectionFailure } from './fetch-failure.ts'
import { type Rate, rateWaitMs, tokenTaken } from './rate.ts'

export interface HostPolicy {
  readonly concurrent: number
  readonly rate?: Rate | undefined
  /** Who would wait longer for the rate is sent back. */
  readonly maxWaitMs: number
  readonly circuit: CircuitPolicy
  /** A host that has been failing for longer makes what comes to it fail, instead of wait. */
  readonly patienceMs: number
}

/** One host as it stands. */
export interface HostState {
  /** Name and port as the `Host` header has them. */
  readonly host: string
  readonly circuit: CircuitState
  readonly inFlight: number
  readonly queued: number
  /** Fetches that had their turn since the host is remembered. */
  readonly requests: number
  /** Of the latest failure since it last answered; null when there is none. */
  readonly lastError: string | null
  /** Milliseconds since the epoch; null when it may be asked now. */
  readonly retryAt: number | null
}

/** A turn at a host. It must be left, once. */
export interface Place {
  /** The host answered, whatever it said. */
  answered(): void
  /** The host asked to be left alone for so many milliseconds. */
  rest(ms: number): void
  failed(error: unknown): void
  leave(): void
}

interface Waiter {
  start(place: Place): void
  sendBack(error: SluiceError): void
}

interface Host {
  readonly name: string
  active: number
  /** Insertion order is the order of service; leaving from the middle is cheap. */
  readonly waiting: Set<Waiter>
  timer: NodeJS.Timeout | undefined
  /** Of the rate, see there. */
  fullAt: number
  /** The host asked not to be asked before. */
  restsUntil: number
  circuit: Circuit
  lastError: string | null
  requests: number
  /** How many were sent back since somebody was let in. */
  sentBack: number
}

const defaultMaxHosts = 4_096
/** Those sent back come again so far apart, where no rate says more, and within `longestSpreadMs`. */
const spreadMs = 5
const longestSpreadMs = 600_000

export class Hosts {
  readonly #hosts = new Map<string, Host>()
  readonly #policy: HostPolicy
  readonly #clock: Clock
  readonly #random: () => number
  readonly #maxHosts: number

  constructor(parts: { policy: HostPolicy; clock: Clock; random: () => number; maxHosts?: number }) {
    this.#policy = parts.policy
    this.#clock = parts.clock
    this.#random = parts.random
    this.#maxHosts = parts.maxHosts ?? defaultMaxHosts
  }

  /** The hosts that are remembered, the one asked longest ago first. */
  get states(): HostState[] {
    const now = this.#clock.now()
    return [...this.#hosts.values()].map((host) => {
      const lonely = this.#leftAlone(host, now)
      return {
        host: host.name,
        circuit: circuitState(host.circuit),
        inFlight: host.active,
        queued: host.waiting.size,
        requests: host.requests,
        lastError: host.lastError,
        retryAt: lonely === undefined ? null : lonely.until,
      }
    })
  }

  /**
   * Resolves at one's turn.
   * @throws SluiceError HOST_RESTING; FetchFailure `circuit-open`; the reason of `signal` when it aborts first.
   */
  enter(name: string, signal: AbortSignal): Promise<Place> {
    if (signal.aborted) return Promise.reject(signal.reason)
    const host = this.#host(name)
    const tooLong = this.#rateTooLong(host)
    if (tooLong) return Promise.reject(tooLong)
    return new Promise((resolve, reject) => {
      const leave = () => {
        host.waiting.delete(waiter)
        this.#serve(host)
        reject(signal.reason)
      }
      const waiter: Waiter = {
        start(place) {
          signal.removeEventListener('abort', leave)
          resolve(place)
        },
        sendBack(error) {
          signal.removeEventListener('abort', leave)
          reject(error)
        },
      }
      signal.addEventListener('abort', leave, { once: true })
      host.waiting.add(waiter)
      this.#serve(host)
    })
  }

  #host(name: string): Host {
    const known = this.#hosts.get(name)
    if (known) {
      this.#hosts.delete(name)
      this.#hosts.set(name, known)
      return known
    }
    const host: Host = {
      name,
      active: 0,
      waiting: new Set(),
      timer: undefined,
      fullAt: 0,
      restsUntil: 0,
      circuit: closed,
      lastError: null,
      requests: 0,
      sentBack: 0,
    }
    this.#hosts.set(name, host)
    if (this.#hosts.size > this.#maxHosts) this.#forgetOne()
    return host
  }

  #forgetOne(): void {
    for (const { name, active, waiting } of this.#hosts.values()) {
      if (active > 0 || waiting.size > 0) continue
      this.#hosts.delete(name)
      return
    }
  }

  /** Starts whoever may start now, sends back whoever must not wait, sets a timer when only the rate is in the way. */
  #serve(host: Host): void {
    clearTimeout(host.timer)
    host.timer = undefined
    for (const waiter of host.waiting) {
      const now = this.#clock.now()
      const lonely = this.#leftAlone(host, now)
      if (lonely) {
        host.waiting.delete(waiter)
        waiter.sendBack(this.#comeAgain(host, lonely, now))
        continue
      }
      if (host.active >= this.#policy.concurrent) return
      const { rate } = this.#policy
      const waitMs = rate ? rateWaitMs(host.fullAt, rate, now) : 0
      if (waitMs > 0) {
        host.timer = setTimeout(() => this.#serve(host), waitMs)
        return
      }
      host.waiting.delete(waiter)
      if (rate) host.fullAt = tokenTaken(host.fullAt, rate, now)
      waiter.start(this.#place(host, now))
    }
  }

  /** Why nobody may ask the host now, and until when. */
  #leftAlone(host: Host, now: number): { reason: 'rest' | 'circuit'; until: number } | undefined {
    if (now < host.restsUntil) return { reason: 'rest', until: host.restsUntil }
    const may = mayAsk(host.circuit, now, this.#policy.circuit)
    return typeof may === 'object' ? { reason: 'circuit', until: may.until } : undefined
  }

  #comeAgain(host: Host, { reason, until }: { reason: 'rest' | 'circuit'; until: number }, now: number): SluiceError {
    const apart = this.#policy.rate?.intervalMs ?? spreadMs
    const retryAfterMs = Math.ceil(until - now + Math.min(longestSpreadMs, host.sentBack * apart))
    host.sentBack += 1
    if (reason === 'rest') {
      return new SluiceError('HOST_RESTING', `${host.name} asked to be left alone for a while`, { retryAfterMs })
    }
    const { failures, failingSince = now } = host.circuit
    const detail = `${host.name} failed ${failures} times in a row, the last time with ${host.lastError}`
    return now - failingSince > this.#policy.patienceMs
      ? new FetchFailure('circuit-open', detail, { retryAfterMs })
      : new SluiceError('HOST_RESTING', `circuit-open: ${detail}`, { retryAfterMs })
  }

  #rateTooLong(host: Host): SluiceError | undefined {
    const { rate, maxWaitMs } = this.#policy
    if (!rate) return undefined
    const retryAfterMs = rateWaitMs(host.fullAt + host.waiting.size * rate.intervalMs, rate, this.#clock.now())
    if (retryAfterMs <= maxWaitMs) return undefined
    const detail = `${host.name} is asked as often as the rate allows for the next ${retryAfterMs} ms`
    return new SluiceError('HOST_RESTING', detail, { retryAfterMs })
  }

  #place(host: Host, now: number): Place {
    const probe = mayAsk(host.circuit, now, this.#policy.circuit) === 'probe'
    if (probe) host.circuit = probing(host.circuit)
    host.active += 1
    host.requests += 1
    host.sentBack = 0
    let verdict = false
    let held = true
    return {
      answered: () => {
        verdict = true
        host.circuit = closed
        host.lastError = null
      },
      rest: (ms) => {
        host.restsUntil = Math.max(host.restsUntil, this.#clock.now() + ms)
      },
      failed: (error) => {
        if (error instanceof FetchFailure) host.lastError = messageOf(error)
        if (verdict || !isConnectionFailure(error)) return
        verdict = true
        host.circuit = failed(host.circuit, probe, this.#clock.now(), this.#random, this.#policy.circuit)
      },
      leave: () => {
        if (!held) return
        held = false
        if (probe && !verdict) host.circuit = unprobed(host.circuit)
        host.active -= 1
        this.#serve(host)
      },
    }
  }
}
