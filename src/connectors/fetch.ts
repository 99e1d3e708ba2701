/**
 * Gets bytes from URLs that come from outside. Responsible for: who may be asked (the guard, at every hop), how much is
 * asked of one host at once, when to stop (deadline, byte cap, redirects), and naming what went wrong.
 *
 * 1. Every HTTP answer is a result, whatever its status; only what is not a whole answer is thrown.
 * 2. Nothing is connected to before its address was checked, on the first hop and on each redirect.
 * 3. A rewrite rule admits its target for what came through the rule only: a URL from outside that names it is judged like
 *    any other, and refused when its address is not public.
 * 4. One deadline covers all hops, from the moment the fetch has its first place at a host until the last byte.
 */
import { performance } from 'node:perf_hooks'
import { z } from 'zod'
import { SluiceError } from '../errors.ts'
import { type Clock, parseDuration } from '../time.ts'
import { parseAllow, parseTarget } from './address-guard.ts'
import { exchange } from './exchange.ts'
import { FetchFailure } from './fetch-failure.ts'
import { HostLimits } from './host-limits.ts'
import { type Connection, PinnedConnections } from './pinned-connections.ts'
import { dnsLookup, type HostLookup } from './resolve-host.ts'
import { parseRetryAfter } from './retry-after.ts'
import { parseRewriteRules, type RewriteRule, restored, rewritten } from './rewrite.ts'

const duration = z.string().superRefine((text, context) => {
  try {
    parseDuration(text)
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message })
  }
})

/** A connection of kind `fetch`, as the configuration writes it. */
export const fetchSettings = z.strictObject({
  kind: z.literal('fetch'),
  /** Sent with every request. */
  userAgent: z.string().min(1).max(256).default('sluice'),
  /** Fetches in flight per host and process, and so the connections to it. */
  perHost: z.number().int().min(1).max(256).default(8),
  /** At most `count` requests to one host within any span of `per`, per process. Default: no limit. */
  ratePerHost: z.strictObject({ count: z.number().int().min(1).max(10_000), per: duration }).optional(),
  /** For the whole fetch, redirects and body included; waiting for a place at the first host is not counted. */
  timeout: duration.default('30s'),
  /** Largest body in bytes; 20 MiB by default, at most 1 GiB since a body is held in memory. */
  maxBytes: z
    .number()
    .int()
    .min(1)
    .max(2 ** 30)
    .default(20 * 2 ** 20),
  maxRedirects: z.number().int().min(0).max(20).default(5),
  /** Asks another server for URLs that start with `from`; exactly the target's scheme, host and port is admitted for it. */
  rewrite: z.array(z.strictObject({ from: z.string(), to: z.string() })).default([]),
  /** Addresses admitted though they are not public: `host:port` or a CIDR block. */
  allow: z.array(z.string()).default([]),
})

export type FetchSettings = z.infer<typeof fetchSettings>

export interface FetchOptions {
  readonly clock: Clock
  /** How names become addresses; DNS by default. */
  readonly lookup?: HostLookup
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

export type KeptHeader =
  | 'content-type'
  | 'content-length'
  | 'content-encoding'
  | 'etag'
  | 'last-modified'
  | 'cache-control'

export interface FetchResult {
  readonly status: number
  /** After redirects, before rewriting. */
  readonly url: string
  /** Where the answer really came from, when a rewrite rule applied. */
  readonly rewrittenTo?: string
  readonly headers: Readonly<Partial<Record<KeptHeader, string>>>
  /** As sent; no content coding is asked for and none is undone. */
  readonly body: Buffer
  /** Milliseconds since the epoch, when the answer was whole. */
  readonly fetchedAt: number
  /** From `Retry-After`, seconds or date; at most a day. */
  readonly retryAfterMs?: number
  readonly redirects: number
  readonly timings: FetchTimings
}

export interface FetchRequest {
  /** Gives up, also while waiting for a place. */
  readonly signal?: AbortSignal
  /** `Accept` header, any by default. */
  readonly accept?: string
}

export interface FetchClient {
  /**
   * @throws SluiceError INVALID_INPUT, ADDRESS_BLOCKED, BODY_TOO_LARGE, CANCELLED; FetchFailure (FETCH_FAILED, with its
   * class: dns, refused, tls, timeout, reset, truncated, protocol, redirect-loop).
   */
  get(url: string, request?: FetchRequest): Promise<FetchResult>
  /** Ends what is in flight or waiting with CANCELLED and closes every connection. */
  close(): Promise<void>
}

/** @throws SluiceError CONFIGURATION when a rewrite rule or an `allow` entry cannot be read. */
export function openFetch(settings: FetchSettings, options: FetchOptions): FetchClient {
  return new PinnedFetch(settings, options)
}

/** One request of a fetch: what is asked, where that really goes, and whether a rule vouches for the target. */
interface Hop {
  readonly asked: URL
  readonly actual: URL
  readonly admitted: boolean
}

class PinnedFetch implements FetchClient {
  readonly #clock: Clock
  readonly #rules: readonly RewriteRule[]
  readonly #limits: HostLimits
  readonly #connections: PinnedConnections
  readonly #settings: FetchSettings
  readonly #timeoutMs: number
  readonly #underWay = new Set<AbortController>()
  #closed = false

  constructor(settings: FetchSettings, { clock, lookup = dnsLookup() }: FetchOptions) {
    const { ratePerHost } = settings
    this.#settings = settings
    this.#clock = clock
    this.#rules = parseRewriteRules(settings.rewrite)
    this.#timeoutMs = parseDuration(settings.timeout)
    this.#connections = new PinnedConnections(parseAllow(settings.allow), lookup)
    this.#limits = new HostLimits({
      concurrent: settings.perHost,
      rate: ratePerHost && { count: ratePerHost.count, perMs: parseDuration(ratePerHost.per) },
      clock,
    })
  }

  async get(url: string, request: FetchRequest = {}): Promise<FetchResult> {
    const stop = new AbortController()
    const cancel = () => stop.abort(new SluiceError('CANCELLED', 'the fetch was cancelled'))
    if (this.#closed || request.signal?.aborted) cancel()
    request.signal?.addEventListener('abort', cancel, { once: true })
    this.#underWay.add(stop)
    const deadline = new Deadline(this.#timeoutMs, stop)
    try {
      return await this.#follow(firstHop(parseTarget(url), this.#rules), request, deadline)
    } finally {
      deadline.end()
      this.#underWay.delete(stop)
      request.signal?.removeEventListener('abort', cancel)
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const stop of this.#underWay) stop.abort(new SluiceError('CANCELLED', 'the fetch client was closed'))
    await this.#connections.close()
  }

  async #follow(first: Hop, request: FetchRequest, deadline: Deadline): Promise<FetchResult> {
    const spent = { dnsMs: 0, connectMs: 0, tlsMs: 0 }
    let hop = first
    for (let redirects = 0; ; redirects += 1) {
      const answer = await this.#ask(hop, request, deadline)
      spent.dnsMs += answer.opening.dnsMs
      spent.connectMs += answer.opening.connectMs
      spent.tlsMs += answer.opening.tlsMs
      const location = redirectLocation(answer.status, answer.headers)
      if (location === undefined) {
        const firstByteMs = answer.firstByteAt - deadline.startedAt
        return this.#result(hop, answer, redirects, { ...spent, firstByteMs, totalMs: deadline.spentMs() })
      }
      if (redirects === this.#settings.maxRedirects) {
        throw new FetchFailure(
          'redirect-loop',
          `more than ${redirects} redirects, the last to ${location.slice(0, 200)}`,
        )
      }
      hop = nextHop(hop, location, this.#rules)
    }
  }

  async #ask(hop: Hop, request: FetchRequest, deadline: Deadline): Promise<Answer> {
    const leave = await this.#limits.acquire(hop.asked.host, deadline.signal)
    deadline.start()
    const connection = this.#connections.take(hop.actual, hop.admitted)
    try {
      return await this.#exchange(connection, hop, request, deadline)
    } finally {
      this.#connections.give(connection)
      leave()
    }
  }

  async #exchange(connection: Connection, hop: Hop, request: FetchRequest, deadline: Deadline): Promise<Answer> {
    const asked = {
      path: hop.actual.pathname + hop.actual.search,
      headers: {
        'user-agent': this.#settings.userAgent,
        accept: request.accept ?? '*/*',
        'accept-encoding': 'identity',
      },
      maxBytes: this.#settings.maxBytes,
      signal: deadline.signal,
    }
    const again = connection.used > 0
    try {
      return await exchange(connection, asked)
    } catch (error) {
      // the server may close an idle connection in the moment we use it again; a new one tells
      const stale = again && error instanceof FetchFailure && error.failure === 'reset' && !connection.client.destroyed
      if (!stale) throw error
      return await exchange(connection, asked)
    }
  }

  #result(hop: Hop, answer: Answer, redirects: number, timings: FetchTimings): FetchResult {
    const fetchedAt = this.#clock.now()
    const retryAfterMs = parseRetryAfter(one(answer.headers['retry-after']), fetchedAt)
    return {
      status: answer.status,
      url: hop.asked.href,
      ...(hop.actual === hop.asked ? {} : { rewrittenTo: hop.actual.href }),
      headers: keptOf(answer.headers),
      body: answer.body,
      fetchedAt,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      redirects,
      timings,
    }
  }
}

type Answer = Awaited<ReturnType<typeof exchange>>

function firstHop(asked: URL, rules: readonly RewriteRule[]): Hop {
  const actual = rewritten(asked, rules)
  return actual ? { asked, actual, admitted: true } : { asked, actual: asked, admitted: false }
}

/**
 * Where a redirect leads. A server behind a rule speaks of itself by its own address: that is given the name the rule
 * has for it, or else stays admitted while scheme, host and port are the same.
 */
function nextHop(hop: Hop, location: string, rules: readonly RewriteRule[]): Hop {
  const target = parseTarget(location, hop.actual)
  const inside = hop.admitted && target.origin === hop.actual.origin
  if (!inside) return firstHop(target, rules)
  const asked = restored(target, rules)
  return { asked: asked ?? target, actual: target, admitted: true }
}

/** The target of a redirect that is to be followed. */
function redirectLocation(status: number, headers: Answer['headers']): string | undefined {
  const redirects = status === 301 || status === 302 || status === 303 || status === 307 || status === 308
  return redirects ? one(headers.location) : undefined
}

const keptHeaders: readonly KeptHeader[] = [
  'content-type',
  'content-length',
  'content-encoding',
  'etag',
  'last-modified',
  'cache-control',
]

function keptOf(headers: Answer['headers']): FetchResult['headers'] {
  const kept: Partial<Record<KeptHeader, string>> = {}
  for (const name of keptHeaders) {
    const value = one(headers[name])
    if (value !== undefined) kept[name] = value
  }
  return kept
}

function one(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header
}

/** The time that a fetch has, running from `start`. */
class Deadline {
  readonly #ms: number
  readonly #stop: AbortController
  #timer: NodeJS.Timeout | undefined
  startedAt = 0

  constructor(ms: number, stop: AbortController) {
    this.#ms = ms
    this.#stop = stop
  }

  get signal(): AbortSignal {
    return this.#stop.signal
  }

  /** Only the first call counts. */
  start(): void {
    if (this.#timer) return
    this.startedAt = performance.now()
    this.#timer = setTimeout(() => {
      this.#stop.abort(new FetchFailure('timeout', `no whole answer within ${this.#ms} ms`))
    }, this.#ms)
  }

  spentMs(): number {
    return performance.now() - this.startedAt
  }

  end(): void {
    clearTimeout(this.#timer)
  }
}
