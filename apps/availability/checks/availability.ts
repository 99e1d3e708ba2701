/** What a check says of a site: the record of the topic. */
import { type FetchCheck, z } from 'sluice'
import type { Site } from '../sites/site.ts'

export const failures = [
  ...['dns', 'refused', 'tls', 'timeout', 'reset', 'truncated', 'protocol', 'redirect-loop', 'body-limit', 'blocked'],
  ...['http-status', 'regexp-mismatch', 'regexp-limit'],
] as const

const ms = z.number().min(0)
const time = z.iso.datetime()

export const availability = z.object({
  /** Of this form; another form is another number. */
  version: z.literal(1),
  site: z.int(),
  url: z.string().max(10_000),
  /** With `site` it names the check: there is one record for both. */
  scheduledAt: time,
  checkedAt: time,
  /** Of the last head that came; null without one. */
  status: z.int().min(100).max(999).nullable(),
  /** From the start to the whole answer; null without one. */
  responseMs: ms.nullable(),
  /** null: nothing was searched for, or it cannot be said. */
  regexpFound: z.boolean().nullable(),
  /** null: all is well. */
  failure: z.string().min(1).max(50).nullable(),
  detail: z.string().max(1_000).nullable(),
  timings: z.object({
    dnsMs: ms.nullable(),
    connectMs: ms.nullable(),
    tlsMs: ms.nullable(),
    processingMs: ms.nullable(),
    transferMs: ms.nullable(),
    totalMs: ms,
  }),
  certificateEndsAt: time.nullable(),
})

export type Availability = z.infer<typeof availability>

/** Of the regexp in what came of the page; null where it has none. */
export type Found = 'found' | 'missing' | 'over' | null

export function availabilityOf(site: Site, scheduledAt: string, check: FetchCheck, found: Found): Availability {
  const { dnsMs, connectMs, tlsMs, processingMs, transferMs, totalMs } = check.timings
  const failed = failureOf(site, check, found)
  const phases = { dnsMs, connectMs, tlsMs, processingMs, transferMs }
  const rounded = Object.fromEntries(Object.entries(phases).map(([name, value]) => [name, thousandths(value)]))
  return {
    version: 1,
    site: site.id,
    url: site.url,
    scheduledAt,
    checkedAt: new Date(check.checkedAt).toISOString(),
    status: check.status,
    responseMs: check.failure === null ? thousandths(totalMs) : null,
    regexpFound: regexpFound(check, found),
    failure: failed?.failure ?? null,
    detail: failed ? plain(failed.detail) : null,
    timings: { ...(rounded as typeof phases), totalMs: thousandths(totalMs) as number },
    certificateEndsAt: check.certificateEndsAt === null ? null : new Date(check.certificateEndsAt).toISOString(),
  }
}

/** Of a page that did not come whole, only what was found in it is known. */
function regexpFound({ failure }: FetchCheck, found: Found): boolean | null {
  if (found === 'found') return true
  return found === 'missing' && failure === null ? false : null
}

type Failed = { readonly failure: (typeof failures)[number]; readonly detail: string }

function failureOf({ regexp, expectedStatus }: Site, check: FetchCheck, found: Found): Failed | undefined {
  const { failure, status } = check
  // what is configured was judged; what the guard calls no URL is one that nobody may ask
  if (failure !== null) return { failure: failure === 'invalid-url' ? 'blocked' : failure, detail: check.detail ?? '' }
  const isExpected = expectedStatus === null ? status! >= 200 && status! <= 299 : status === expectedStatus
  if (!isExpected) {
    return { failure: 'http-status', detail: `status ${status}, not ${expectedStatus ?? '200 to 299'}` }
  }
  if (found === 'missing') return { failure: 'regexp-mismatch', detail: `the page has nothing like ${regexp}` }
  if (found === 'over') return { failure: 'regexp-limit', detail: `the search for ${regexp} took too long` }
  return undefined
}

const thousandths = (value: number | null) => (value === null ? null : Math.round(value * 1_000) / 1_000)

/** In one line, and what a database takes as text: details quote the other side. */
const plain = (text: string) =>
  text
    .toWellFormed()
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is taken out
    .replace(/[\u0000-\u001f\u007f]+/g, ' ')
    .slice(0, 1_000)
    .toWellFormed()
