/**
 * What a request may look like, judged by its line and headers alone, before anything of its body is read. Deny by
 * default: what two readers of HTTP could understand in two ways is refused.
 */
import type { IncomingMessage } from 'node:http'
import { SluiceError } from '../errors.ts'
import { invalid } from './faults.ts'

/** Headers of one request at most. */
const maxHeaders = 100

/** What a key may be: it is kept beside its run, and seen in lists. */
const keyPattern = /^[\x21-\x7e]{1,200}$/
const keyRule = 'is 1 to 200 printable ASCII characters without spaces'

type Request = Pick<IncomingMessage, 'url' | 'headers' | 'rawHeaders'>

/** Why a request is refused, or undefined. */
export function formFault({ url = '', headers, rawHeaders }: Request): SluiceError | undefined {
  if (rawHeaders.length > 2 * maxHeaders) {
    return new SluiceError('HEADERS_TOO_LARGE', `The request has over ${maxHeaders} headers`)
  }
  const doubled = doubledHeader(rawHeaders)
  if (doubled !== undefined) return new SluiceError('USAGE', `The header ${doubled} is given more than once`)
  if (!url.startsWith('/')) {
    return new SluiceError('USAGE', 'The target of the request is not a path, such as /api/v1/runs')
  }
  if (!isPercentEncoded(url)) {
    return new SluiceError('USAGE', 'The path or query is not percent-encoded UTF-8')
  }
  const transfer = headers['transfer-encoding']
  if (transfer !== undefined && transfer.toLowerCase() !== 'chunked') {
    return new SluiceError('USAGE', 'Transfer-Encoding is chunked, or left out')
  }
  const encoding = headers['content-encoding']
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    return unsupported('Content-Encoding', encoding, 'send the body as it is')
  }
  const charset = charsetOf(headers['content-type'])
  if (charset !== undefined && !/^(?:utf-?8|us-ascii)$/i.test(charset))
    return unsupported('charset', charset, 'write UTF-8')
  const key = headers['idempotency-key']
  if (key !== undefined && !keyPattern.test(String(key))) {
    return invalid([{ where: '/headers/idempotency-key', message: keyRule }])
  }
  return undefined
}

const single: ReadonlySet<string> = new Set(['host', 'content-length', 'content-type', 'origin', 'idempotency-key'])

/** Of these, Node would take the first or join them; another reader might not. */
function doubledHeader(rawHeaders: readonly string[]): string | undefined {
  const seen = new Set<string>()
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] as string).toLowerCase()
    if (!single.has(name)) continue
    if (seen.has(name)) return name
    seen.add(name)
  }
  return undefined
}

function isPercentEncoded(url: string): boolean {
  if (!url.includes('%')) return true
  try {
    decodeURIComponent(url)
    return true
  } catch {
    return false
  }
}

function charsetOf(contentType: string | undefined): string | undefined {
  return /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(contentType ?? '')?.[1]
}

function unsupported(what: string, value: string, advice: string): SluiceError {
  return new SluiceError(
    'UNSUPPORTED_MEDIA_TYPE',
    `The ${what} ${JSON.stringify(value.slice(0, 50))} is not taken; ${advice}`,
  )
}
