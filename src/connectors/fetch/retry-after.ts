/**
 * Milliseconds until a server wants to be asked again, from a `Retry-After` header: whole seconds or an HTTP date
 * (RFC 9110 section 10.2.3). A date that has passed gives 0, a wait over `longestMs` gives `longestMs`, anything else
 * `undefined`.
 */
export function parseRetryAfter(header: string | undefined, nowMs: number, longestMs: number): number | undefined {
  const text = header?.trim()
  if (text === undefined || text === '') return undefined
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1_000, longestMs)
  // every date form of HTTP opens with the name of a day; Date.parse alone would take "-3" and "1.5" for dates
  if (!/^(mon|tue|wed|thu|fri|sat|sun)/i.test(text)) return undefined
  const at = Date.parse(/ \d{4}$/.test(text) ? `${text} GMT` : text)
  return Number.isNaN(at) ? undefined : Math.min(Math.max(0, at - nowMs), longestMs)
}
