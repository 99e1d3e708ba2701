/**
 * Gets bytes from URLs that come from outside. Responsible for: who may be asked (the guard, at every hop), how much is
 * asked of one host at once, when to stop (deadline, byte cap, redirects), and naming what went wrong.
 *
 * 1. Every whole HTTP answer is a result, whatever its status; only what is not a whole answer is thrown.
 * 2. Nothing is connected to before its address was checked, on the first hop and on each redirect.
 * 3. A rewrite rule admits its target for what came through the rule only: a URL from outside that names it is judged like
 *    any other, and refused when its address is not public.
 * 4. One deadline covers all hops, look-up, connection, TLS, head and body; only waiting for a turn at a host is not counted.
 * 5. A request carries `host`, `user-agent`, `accept` and `accept-encoding` and nothing else: there are no cookies and no
 *    credentials that a redirect could carry away. No proxy is ever asked, whatever the environment says.
 */
import { SluiceError } from '../../errors.ts'
import type { FetchCheck, FetchCheckOptions } from '../../sdk/fetch-check.ts'
import { type Clock, parseDuration } from '../../time.ts'
import { parseAllow, parseTarget } from './address-guard.ts'
import { checkSite } from './check.ts'
import { Deadline } from './deadline.ts'
import { decoded } from './decode.ts'
import { type Exchanged, exchange } from './exchange.ts'
import { FetchFailure } from './fetch-failure.ts'
import { firstHop, type Hop, nextHop, one, redirectLocation } from './hop.ts'
import { type HostState, Hosts, type Place } from './hosts.ts'
import { type KeptHeader, keptOf } from './kept-headers.ts'
import type { LeastPace } from './pace.ts'
import { alreadyOpen, type Connection, PinnedConnections } from './pinned-connections.ts'
import { Redirects } from './redirects.ts'
import { dnsLookup, type HostLookup } from './resolve-host.ts'
import { parseRetryAfter } from './retry-after.ts'
import { parseRewriteRules, type RewriteRule } from './rewrite.ts'
import { type FetchSettings, fetchSettings } from './settings.ts'

export { fetchSettings, type HostState }

export interface FetchOptions {
  readonly clock: Clock
  /** How names become addresses; DNS by default. */
  readonly lookup?: HostLookup
  /** Who asks where the settings do not say, `name/version`; `sluice` by default. */
  readonly product?: string
  /** For back-offs: gives numbers in [0, 1). */
  readonly random: () => number
}

/** Milliseconds. The first three are sums over redirects and 0 where an open connection was used again. */
export interface FetchTimings {
  readonly dnsMs: number
  readonly connectMs: number
  readonly tlsMs: number
  /** From the start until the head of the final answer. */
  readonly firstByteMs: number
  readonly totalMs: number
}

export interface FetchResult {
  readonly status: number
  /** After redirects, before rewriting. */
  readonly url: string
  /** Where the answer really came from, when a rewrite rule applied. */
  readonly rewrittenTo?: string
  /** As sent: `content-length` is that of the coded body where there is a `content-encoding`. */
  readonly headers: Readonly<Partial<Record<KeptHeader, string>>>
  /** No content coding is asked for; one that was used all the same is undone. */
  readonly body: Buffer
  /** Milliseconds since the epoch, when the answer was whole. */
  readonly fetchedAt: number
  /** From `Retry-After`, seconds or date; at most `maxRetryAfter` of the settings. */
  readonly retryAfterMs?: number
  readonly redirects: number
  readonly timings: FetchTimings
}

export interface FetchRequest {
  /** Gives up, also while waiting for a turn. */
  readonly signal?: AbortSignal
  /** `Accept` header, any by default. */
  readonly accept?: string
}

export interface FetchClient {
  /**
   * @throws SluiceError INVALID_INPUT, ADDRESS_BLOCKED, BODY_TOO_LARGE, CANCELLED, HOST_RESTING; FetchFailure (FETCH_FAILED,
   * with its class: dns, refused, tls, timeout, reset, truncated, protocol, redirect-loop, circuit-open).
   */
  get(url: string, request?: FetchRequest): Promise<FetchResult>
  /**
   * Whether a site answers: a result always, see `FetchCheck`. Of another turn, rate, rest or circuit it knows nothing.
   * @throws SluiceError CANCELLED; INVALID_INPUT for options.
   */
  check(url: string, options?: FetchCheckOptions): Promise<FetchCheck>
  /** The hosts that are remembered (at most 4,096), as they stand in this process. */
  hosts(): HostState[]
  /** Ends what is in flight or waiting with CANCELLED and closes every connection. */
  close(): Promise<void>
}

/** @throws SluiceError CONFIGURATION when a rewrite rule or an `allow` entry cannot be read. */
export function openFetch(settings: FetchSettings, options: FetchOptions): FetchClient {
  return new PinnedFetch(settings, options)
}

class PinnedFetch implements FetchClient {
  readonly #clock: Clock
  readonly #rules: readonly RewriteRule[]
  readonly #hosts: Hosts
  readonly #connections: PinnedConnections
  readonly #settings: FetchSettings
  readonly #timeoutMs: number
  readonly #leastPace: LeastPace
  readonly #maxRetryAfterMs: number
  readonly #userAgent: string
  readonly #underWay = new Set<AbortController>()
  #closed = false

  constructor(settings: FetchSettings, options: FetchOptions) {
    const { clock, random, lookup = dnsLookup(), product = 'sluice' } = options
    this.#settings = settings
    this.#clock = clock
    this.#rules = parseRewriteRules(settings.rewrite)
    this.#timeoutMs = parseDuration(settings.timeout)
    this.#leastPace = { bytes: settings.minPace.bytes, perMs: parseDuration(settings.minPace.per) }
    this.#maxRetryAfterMs = parseDuration(settings.maxRetryAfter)
    const contact = settings.contact === undefined ? '' : ` (+${settings.contact})`
    this.#userAgent = (settings.userAgent ?? product) + contact
    this.#connections = new PinnedConnections(parseAllow(settings.allow), lookup)
    this.#hosts = new Hosts({ policy: hostPolicy(settings), clock, random })
  }

  get(url: string, request: FetchRequest = {}): Promise<FetchResult> {
    return this.#within(request, this.#timeoutMs, (deadline) =>
      this.#follow(firstHop(parseTarget(url), this.#rules), request, deadline),
    )
  }

  check(url: string, options: FetchCheckOptions = {}): Promise<FetchCheck> {
    const ownMs = options.timeout === undefined ? this.#timeoutMs : parseDuration(options.timeout)
    return this.#within(options, Math.min(ownMs, this.#timeoutMs), (deadline) =>
      checkSite(url, {
        ...{ connections: this.#connections, rules: this.#rules, headers: this.#headers(options) },
        ...{ maxBytes: this.#settings.maxBytes, checkedAt: this.#clock.now(), deadline },
        maxRedirects: options.redirects === false ? 0 : this.#settings.maxRedirects,
      }),
    )
  }

  async #within<T>(request: FetchRequest, timeoutMs: number, work: (deadline: Deadline) => Promise<T>): Promise<T> {
    if (request.accept !== undefined && !/^[\x20-\x7e]{1,256}$/.test(request.accept)) {
      throw new SluiceError('INVALID_INPUT', 'accept must be 1 to 256 characters of printable ASCII')
    }
    const stop = new AbortController()
    const cancel = () => stop.abort(new SluiceError('CANCELLED', 'the fetch was cancelled'))
    if (this.#closed || request.signal?.aborted) cancel()
    request.signal?.addEventListener('abort', cancel, { once: true })
    this.#underWay.add(stop)
    const deadline = new Deadline(timeoutMs, stop)
    try {
      return await work(deadline)
    } finally {
      deadline.rest()
      this.#underWay.delete(stop)
      request.signal?.removeEventListener('abort', cancel)
    }
  }

  #headers({ accept = '*/*' }: FetchRequest): Record<string, string> {
    return { 'user-agent': this.#userAgent, accept, 'accept-encoding': 'identity' }
  }

  hosts(): HostState[] {
    return this.#hosts.states
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const stop of this.#underWay) stop.abort(new SluiceError('CANCELLED', 'the fetch client was closed'))
    await this.#connections.close()
  }

  async #follow(first: Hop, request: FetchRequest, deadline: Deadline): Promise<FetchResult> {
    const spent = { dnsMs: 0, connectMs: 0, tlsMs: 0 }
    const redirects = new Redirects(first.asked, this.#settings.maxRedirects)
    let hop = first
    for (;;) {
      const answer = await this.#ask(hop, request, deadline)
      spent.dnsMs += answer.opening.dnsMs
      spent.connectMs += answer.opening.connectMs
      spent.tlsMs += answer.opening.tlsMs
      const location = redirectLocation(answer.status, answer.headers)
      if (location === undefined) return await this.#result(hop, answer, redirects.followed, spent, deadline)
      hop = nextHop(hop, location, this.#rules)
      redirects.follow(hop.asked)
    }
  }

  async #ask(hop: Hop, request: FetchRequest, deadline: Deadline): Promise<Answer> {
    const place = await this.#hosts.enter(hop.asked.host, deadline.signal)
    deadline.run()
    const connection = this.#connections.take(hop.actual, hop.admitted)
    try {
      const answer = await this.#exchange(connection, hop, request, deadline, place)
      this.#connections.give(connection)
      if (answer.status === 429 || answer.status === 503) place.rest(this.#retryAfterMs(answer) ?? 0)
      return { ...answer, firstByteMs: deadline.spentMs(answer.firstByteAt) }
    } catch (thrown) {
      this.#connections.drop(connection)
      place.failed(thrown)
      throw thrown
    } finally {
      deadline.rest()
      place.leave()
    }
  }

  async #exchange(
    connection: Connection,
    hop: Hop,
    request: FetchRequest,
    deadline: Deadline,
    place: Place,
  ): Promise<Exchanged> {
    const asked = {
      path: hop.actual.pathname + hop.actual.search,
      headers: this.#headers(request),
      maxBytes: this.#settings.maxBytes,
      leastPace: this.#leastPace,
      signal: deadline.signal,
      onHead: place.answered,
    }
    try {
      return await exchange(connection, asked)
    } catch (error) {
      // the server may close an idle connection in the moment we use it again; a new one tells, once
      const stale = error instanceof FetchFailure && error.failure === 'reset' && connection.opening === alreadyOpen
      if (!stale || connection.client.destroyed) throw error
      return await exchange(connection, asked)
    }
  }

  async #result(
    hop: Hop,
    answer: Answer,
    redirects: number,
    spent: Pick<FetchTimings, 'dnsMs' | 'connectMs' | 'tlsMs'>,
    deadline: Deadline,
  ): Promise<FetchResult> {
    if (answer.status === 206) throw new FetchFailure('truncated', 'a part came (206), though the whole was asked for')
    const totalMs = deadline.spentMs()
    const coding = one(answer.headers['content-encoding'])
    const body = coding === undefined ? answer.body : await decoded(answer.body, coding, this.#settings.maxBytes)
    deadline.signal.throwIfAborted()
    const retryAfterMs = this.#retryAfterMs(answer)
    return {
      status: answer.status,
      url: hop.asked.href,
      ...(hop.actual === hop.asked ? {} : { rewrittenTo: hop.actual.href }),
      headers: keptOf(answer.headers),
      body,
      fetchedAt: this.#clock.now(),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      redirects,
      timings: { ...spent, firstByteMs: answer.firstByteMs, totalMs },
    }
  }

  #retryAfterMs({ headers }: Exchanged): number | undefined {
    return parseRetryAfter(one(headers['retry-after']), this.#clock.now(), this.#maxRetryAfterMs)
  }
}

type Answer = Exchanged & { readonly firstByteMs: number }

function hostPolicy({ perHost, ratePerHost, maxWait, circuit }: FetchSettings) {
  return {
    concurrent: perHost,
    rate: ratePerHost && {
      intervalMs: parseDuration(ratePerHost.per) / ratePerHost.count,
      burst: ratePerHost.burst,
    },
    maxWaitMs: parseDuration(maxWait),
    circuit: {
      failures: circuit.failures,
      baseMs: parseDuration(circuit.base),
      maxMs: parseDuration(circuit.max),
    },
    patienceMs: parseDuration(circuit.patience),
  }
}
