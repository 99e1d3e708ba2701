/** A site as it is configured, and whether it can be checked. */
import { z } from 'sluice'
import { longestPattern, patternFault } from '../regexp/pattern.ts'

/** Seconds. */
export const shortestInterval = 5
export const longestInterval = 300
const longestUrl = 2_000

/** What is checked, as the timer hands it on. */
export const site = z.object({
  id: z.int(),
  url: z.string(),
  regexp: z.string().nullable(),
  interval: z.int(),
  expectedStatus: z.int().nullable(),
})

export type Site = z.infer<typeof site>

/** Why the row of a site cannot be checked; undefined when it can. */
export function siteFault({ url, regexp, interval, expectedStatus }: Omit<Site, 'id'>): string | undefined {
  return urlFault(url) ?? intervalFault(interval) ?? regexpFault(regexp) ?? statusFault(expectedStatus)
}

function urlFault(text: string): string | undefined {
  if (text.length > longestUrl) return `url: it is longer than ${longestUrl} characters`
  const url = URL.parse(text)
  if (!url) return 'url: it is no URL; write it with its scheme, as https://example.com/'
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    return `url: the scheme "${url.protocol}" is not allowed, only http: and https:`
  }
  if (url.username !== '' || url.password !== '') return 'url: it must not carry credentials'
  return undefined
}

const intervalFault = (seconds: number) =>
  Number.isInteger(seconds) && seconds >= shortestInterval && seconds <= longestInterval
    ? undefined
    : `interval: ${seconds} s is not allowed, only ${shortestInterval} to ${longestInterval}`

function regexpFault(regexp: string | null): string | undefined {
  const fault = regexp === null ? undefined : regexp === '' ? 'it is empty' : patternFault(regexp)
  return fault === undefined ? undefined : `regexp: ${fault}`
}

const statusFault = (status: number | null) =>
  status === null || (Number.isInteger(status) && status >= 100 && status <= 599)
    ? undefined
    : `expected_status: ${status} is no status of HTTP, 100 to 599`

const part =
  <Value>(name: string, fault: (value: Value) => string | undefined) =>
  (value: Value, context: { addIssue(issue: { code: 'custom'; message: string }): void }) => {
    const found = fault(value)
    if (found !== undefined) context.addIssue({ code: 'custom', message: found.replace(`${name}: `, '') })
  }

/** A site as the API takes it. */
export const siteBody = z.strictObject({
  url: z
    .string()
    .max(longestUrl)
    .superRefine(part('url', urlFault))
    .meta({ description: 'With its scheme, http or https; without credentials', example: 'https://example.com/' }),
  regexp: z
    .string()
    .min(1)
    .max(longestPattern)
    .nullable()
    .superRefine(part('regexp', regexpFault))
    .default(null)
    .meta({ description: 'RE2 syntax; the page must have it', example: 'Example Domain' }),
  interval: z.int().min(shortestInterval).max(longestInterval).default(60).meta({ description: 'Seconds' }),
  active: z.boolean().default(true),
  expectedStatus: z
    .int()
    .min(100)
    .max(599)
    .nullable()
    .default(null)
    .meta({ description: 'null: any of 200 to 299. With 300 to 399 redirects are not followed' }),
})

export type SiteBody = z.infer<typeof siteBody>
