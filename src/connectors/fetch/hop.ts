/** One request of a fetch: what is asked, where that really goes, and whether a rule vouches for the target. */
import type { IncomingHttpHeaders } from 'node:http'
import { SluiceError } from '../../errors.ts'
import { parseTarget } from './address-guard.ts'
import { FetchFailure } from './fetch-failure.ts'
import { type RewriteRule, restored, rewritten } from './rewrite.ts'

export interface Hop {
  readonly asked: URL
  readonly actual: URL
  readonly admitted: boolean
}

export function firstHop(asked: URL, rules: readonly RewriteRule[]): Hop {
  const actual = rewritten(asked, rules)
  return actual ? { asked, actual, admitted: true } : { asked, actual: asked, admitted: false }
}

/**
 * Where a redirect leads. A server behind a rule speaks of itself by its own address: that is given the name the rule
 * has for it, or else stays admitted while scheme, host and port are the same.
 * @throws SluiceError ADDRESS_BLOCKED (scheme, disguised host, credentials); FetchFailure `protocol` (it is not a URL).
 */
export function nextHop(hop: Hop, location: string, rules: readonly RewriteRule[]): Hop {
  const target = redirectTarget(location, hop.actual)
  const inside = hop.admitted && target.origin === hop.actual.origin
  if (!inside) return firstHop(target, rules)
  const asked = restored(target, rules)
  return { asked: asked ?? target, actual: target, admitted: true }
}

function redirectTarget(location: string, base: URL): URL {
  const url = URL.parse(location, base.href)
  if (!url) throw new FetchFailure('protocol', `a redirect to "${location.slice(0, 200)}", which is not a URL`)
  if (url.username !== '' || url.password !== '') {
    throw new SluiceError('ADDRESS_BLOCKED', `a redirect to ${url.hostname} carries credentials`)
  }
  return parseTarget(location, base)
}

/** The target of a redirect that is to be followed. */
export function redirectLocation(status: number, headers: IncomingHttpHeaders): string | undefined {
  const redirects = status === 301 || status === 302 || status === 303 || status === 307 || status === 308
  return redirects ? one(headers.location) : undefined
}

/** The first of a header that came more than once. */
export function one(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header
}
