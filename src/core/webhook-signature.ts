/**
 * Whether a delivery was signed by whoever knows the secret. Two forms are taken, each HMAC-SHA256 in lower-case hex:
 *
 * | header                | signed                                   | also                                              |
 * |-----------------------|------------------------------------------|---------------------------------------------------|
 * | `Sluice-Signature`    | `Sluice-Timestamp`, a dot, and the body  | the timestamp (seconds) must be within tolerance  |
 * | `X-Hub-Signature-256` | the body                                 | `sha256=` before the hex, as GitHub sends it      |
 *
 * The id of a delivery (`Sluice-Delivery`, `X-GitHub-Delivery`) is not signed, so that the signature is an identity too.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'

export interface Delivery {
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: Uint8Array
}

/** What no other delivery of the hook may have, or why it is refused. */
export type Verdict = { readonly keys: readonly string[] } | { readonly refused: string }

/** Shorter secrets could be guessed from one delivery. */
export const shortestSecret = 16

export function verifyDelivery(
  { headers, body }: Delivery,
  secret: string,
  { toleranceMs, now }: { readonly toleranceMs: number; readonly now: number },
): Verdict {
  const { 'sluice-signature': ours, 'sluice-timestamp': timestamp, 'x-hub-signature-256': github } = headers
  if (ours !== undefined) {
    if (timestamp === undefined || !/^\d{1,12}$/.test(timestamp)) {
      return { refused: 'Sluice-Timestamp must say when it was signed, in seconds since 1970' }
    }
    if (!isSigned(ours.replace(/^sha256=/, ''), secret, [`${timestamp}.`, body])) return wrong
    const offMs = Math.abs(Number(timestamp) * 1_000 - now)
    if (offMs > toleranceMs) {
      return { refused: `it was signed ${Math.round(offMs / 1_000)} s from now; ${toleranceMs / 1_000} s are allowed` }
    }
    return identities(headers['sluice-delivery'], ours)
  }
  if (github === undefined) return { refused: 'Sluice-Signature or X-Hub-Signature-256 is needed' }
  if (!github.startsWith('sha256=') || !isSigned(github.slice(7), secret, [body])) return wrong
  return identities(headers['x-github-delivery'] ?? headers['sluice-delivery'], github)
}

const wrong: Verdict = { refused: 'the signature is not that of the body under the secret of the hook' }

/** Compares digests of equal length, in a time that tells nothing of what is right. */
function isSigned(given: string, secret: string, parts: readonly (string | Uint8Array)[]): boolean {
  const hmac = createHmac('sha256', secret)
  for (const part of parts) hmac.update(part)
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(hmac.digest('hex')))
}

function identities(id: string | undefined, signature: string): Verdict {
  if (id !== undefined && !/^[\x21-\x7e]{1,200}$/.test(id)) {
    return { refused: 'the id of the delivery must be 1 to 200 printable ASCII characters without spaces' }
  }
  return { keys: [...(id === undefined ? [] : [`id:${id}`]), `signature:${signature.replace(/^sha256=/, '')}`] }
}
