/**
 * Whether a site answers, and how long each phase took. Responsible for: a result always, with its class.
 *
 * 1. One try over connections of its own, so that every phase is real; nothing that is known of the host changes it.
 * 2. Every hop passes the guard, as a fetch does.
 * 3. Whatever goes wrong is a result; only who gives up gets an error.
 */
import { performance } from 'node:perf_hooks'
import { SluiceError } from '../../errors.ts'
import type { CheckFailure, CheckTimings, FetchCheck } from '../../sdk/fetch-check.ts'
import { parseTarget } from './address-guard.ts'
import { Body } from './body.ts'
import type { Deadline } from './deadline.ts'
import { decoded } from './decode.ts'
import { type Exchanged, exchange, type Head } from './exchange.ts'
import { type FailureClass, FetchFailure } from './fetch-failure.ts'
import { firstHop, type Hop, nextHop, one, redirectLocation } from './hop.ts'
import { keptOf } from './kept-headers.ts'
import type { Connection, PinnedConnections } from './pinned-connections.ts'
import { Redirects } from './redirects.ts'
import type { RewriteRule } from './rewrite.ts'

export interface CheckParts {
  readonly connections: PinnedConnections
  readonly rules: readonly RewriteRule[]
  readonly headers: Record<string, string>
  readonly maxBytes: number
  /** 0: a redirect is an answer like any other. */
  readonly maxRedirects: number
  readonly checkedAt: number
  readonly deadline: Deadline
}

type Phase = 'dnsMs' | 'connectMs' | 'tlsMs' | 'processingMs' | 'transferMs'

/** @throws the reason of the deadline's signal, when that is no failure of the site. */
export async function checkSite(url: string, parts: CheckParts): Promise<FetchCheck> {
  return new SiteCheck(url, parts).run()
}

class SiteCheck {
  readonly #parts: CheckParts
  readonly #phases: Partial<Record<Phase, number>> = {}
  #url: string
  #redirects = 0
  #head: Head | undefined
  #firstByteMs: number | null = null
  #body = new Body()
  #certificateEndsAt: number | undefined

  constructor(url: string, parts: CheckParts) {
    this.#url = url
    this.#parts = parts
  }

  async run(): Promise<FetchCheck> {
    const { deadline } = this.#parts
    deadline.run()
    try {
      const answer = await this.#follow()
      const spentMs = deadline.spentMs()
      const coding = one(answer.headers['content-encoding'])
      const body = await decoded(answer.body, coding, this.#parts.maxBytes)
      return this.#result(null, null, body, spentMs)
    } catch (thrown) {
      const failure = failureClass(thrown)
      if (failure === undefined) throw thrown
      const { message } = thrown as Error
      const detail = message.startsWith(`${failure}: `) ? message.slice(failure.length + 2) : message
      return this.#result(failure, detail.slice(0, 600), this.#body.whole(), deadline.spentMs())
    }
  }

  async #follow(): Promise<Exchanged> {
    const { rules, maxRedirects } = this.#parts
    let hop = firstHop(parseTarget(this.#url), rules)
    const redirects = new Redirects(hop.asked, maxRedirects)
    for (;;) {
      this.#url = hop.asked.href
      const answer = await this.#ask(hop)
      const location = maxRedirects > 0 ? redirectLocation(answer.status, answer.headers) : undefined
      if (location === undefined) return answer
      hop = nextHop(hop, location, rules)
      redirects.follow(hop.asked)
      this.#redirects += 1
    }
  }

  async #ask(hop: Hop): Promise<Exchanged> {
    const { connections, headers, maxBytes, deadline } = this.#parts
    const connection = connections.fresh(hop.actual, hop.admitted)
    const begunAt = performance.now()
    let head: Head | undefined
    this.#body = new Body()
    try {
      const answer = await exchange(connection, {
        ...{ path: hop.actual.pathname + hop.actual.search, headers, maxBytes },
        ...{ signal: deadline.signal, leastPace: { bytes: 0, perMs: 0 }, body: this.#body, last: true },
        onHead: (found) => {
          head = found
          this.#head = found
          this.#firstByteMs = deadline.spentMs(found.firstByteAt)
        },
      })
      this.#add('transferMs', performance.now() - answer.firstByteAt)
      return answer
    } finally {
      this.#passed(connection, begunAt, head)
      connections.drop(connection)
    }
  }

  /** Adds up the phases that this hop came through. */
  #passed({ phases, certificateEndsAt }: Connection, begunAt: number, head: Head | undefined): void {
    const { dnsMs, connectMs, tlsMs } = phases
    const opened = dnsMs !== undefined && connectMs !== undefined && tlsMs !== undefined
    if (dnsMs !== undefined) this.#add('dnsMs', dnsMs)
    if (connectMs !== undefined) this.#add('connectMs', connectMs)
    if (certificateEndsAt !== undefined) {
      this.#certificateEndsAt = Math.min(certificateEndsAt, this.#certificateEndsAt ?? certificateEndsAt)
      if (tlsMs !== undefined) this.#add('tlsMs', tlsMs)
    }
    if (head && opened) this.#add('processingMs', Math.max(0, head.firstByteAt - begunAt - dnsMs - connectMs - tlsMs))
  }

  #add(phase: Phase, ms: number): void {
    this.#phases[phase] = (this.#phases[phase] ?? 0) + ms
  }

  #result(failure: CheckFailure | null, detail: string | null, body: Buffer, totalMs: number): FetchCheck {
    const head = this.#head
    return {
      ...{ failure, detail, url: this.#url, status: head?.status ?? null, headers: head ? keptOf(head.headers) : {} },
      ...{ body, redirects: this.#redirects, checkedAt: this.#parts.checkedAt },
      timings: this.#timings(totalMs),
      certificateEndsAt: this.#certificateEndsAt ?? null,
    }
  }

  #timings(totalMs: number): CheckTimings {
    const of = (phase: Phase) => this.#phases[phase] ?? null
    return {
      ...{ dnsMs: of('dnsMs'), connectMs: of('connectMs'), tlsMs: of('tlsMs') },
      ...{ processingMs: of('processingMs'), transferMs: of('transferMs') },
      ...{ firstByteMs: this.#firstByteMs, totalMs },
    }
  }
}

const classes: Readonly<Partial<Record<FailureClass, CheckFailure>>> = {
  dns: 'dns',
  refused: 'refused',
  tls: 'tls',
  timeout: 'timeout',
  reset: 'reset',
  truncated: 'truncated',
  protocol: 'protocol',
  'redirect-loop': 'redirect-loop',
}

/** What it says of the site; undefined: nothing. */
function failureClass(thrown: unknown): CheckFailure | undefined {
  if (thrown instanceof FetchFailure) return classes[thrown.failure]
  if (!(thrown instanceof SluiceError)) return undefined
  if (thrown.code === 'ADDRESS_BLOCKED') return 'blocked'
  if (thrown.code === 'BODY_TOO_LARGE') return 'body-limit'
  return thrown.code === 'INVALID_INPUT' ? 'invalid-url' : undefined
}
