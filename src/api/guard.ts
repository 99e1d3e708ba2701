/**
 * Who may talk to the server before there are users: programs of this machine, and pages that the server itself sent.
 *
 * 1. Host names this machine (with our port) or a configured host: a page that rebinds its own name to our address is refused.
 * 2. Origin, where there is one, passes the same test: no page of another server may send requests.
 * 3. What changes state is refused where the browser says that another site caused it.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { SluiceError } from '../errors.ts'

export interface Allowed {
  /** `name` (any port) or `name:port`, besides the names of this machine. */
  readonly hosts: readonly string[]
  /** Where we listen; undefined: nowhere, requests are injected. */
  readonly port: number | undefined
}

const loopbackNames: ReadonlySet<string> = new Set(['localhost', '127.0.0.1', '[::1]'])
const authority = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9._-]{0,252}))(?::(\d{1,5}))?$/
const readOnly: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

export const isLoopbackHost = (host: string) => loopbackNames.has(host) || host === '::1'

/** Why a request is refused, or undefined. */
export function refusalOf(method: string, headers: IncomingHttpHeaders, allowed: Allowed): SluiceError | undefined {
  const { host, origin } = headers
  if (host === undefined || !isAllowed(host, 80, allowed)) return forbidden('Host', host, allowed)
  if (origin !== undefined && !isAllowedOrigin(origin, allowed)) return forbidden('Origin', origin, allowed)
  if (headers['sec-fetch-site'] === 'cross-site' && !readOnly.has(method)) {
    return new SluiceError('FORBIDDEN_HOST', 'The page of another site may not change anything here (Sec-Fetch-Site)')
  }
  return undefined
}

function isAllowedOrigin(origin: string, allowed: Allowed): boolean {
  const parts = /^(https?):\/\/(.+)$/.exec(origin.toLowerCase())
  return parts !== null && isAllowed(parts[2] as string, parts[1] === 'https' ? 443 : 80, allowed)
}

function isAllowed(host: string, defaultPort: number, { hosts, port }: Allowed): boolean {
  const parts = authority.exec(host.toLowerCase())
  if (!parts) return false
  const name = parts[1] as string
  const at = parts[2] === undefined ? defaultPort : Number(parts[2])
  if (loopbackNames.has(name) && (port === undefined || at === port)) return true
  return hosts.some((entry) => entry === name || entry === `${name}:${at}`)
}

function forbidden(header: string, value: string | undefined, { hosts, port }: Allowed): SluiceError {
  const names = [`localhost${port === undefined ? '' : `:${port}`}`, ...hosts].join(', ')
  const found = value === undefined ? 'missing' : JSON.stringify(value.slice(0, 100))
  return new SluiceError('FORBIDDEN_HOST', `The ${header} header is ${found}; allowed are ${names}`)
}

/** On every answer; documents that load something say so themselves. */
export const securityHeaders = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cache-control': 'no-store',
} as const
