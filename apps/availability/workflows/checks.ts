/** Every active site, at its time, to its result. */
import { stream, table, timer, topic, z } from 'sluice'
import { type Availability, availability } from '../checks/availability.ts'
import { checkSite } from '../checks/check-site.ts'
import { checks, partitions, schema, sitesPerProducer } from '../settings.ts'
import { activeSites } from '../sites/active-sites.ts'
import { site } from '../sites/site.ts'

export const siteChecks = timer('site-checks', {
  schema: site,
  items: activeSites,
  id: ({ id }) => id,
  every: ({ interval }) => `${interval}s`,
  refresh: '5s',
  shards: 16,
  perProducer: sitesPerProducer,
})

/** What was found, by site. `docs/availability.md` says what each field means. */
export const websiteAvailability = topic('website_availability', {
  schema: availability,
  key: ({ site }) => String(site),
  partitions,
})

/** Nothing is tried again here: that a site does not answer is what was to be found out. */
export const checkSites = stream('check-sites', {
  from: siteChecks,
  id: ({ item, scheduledAt }) => [item.id, scheduledAt],
  key: ({ item }) => String(item.id),
  // each may take as long as its interval, and holds a socket
  concurrency: { total: 1_024 },
  steps: (records) =>
    records.step(function check({ item, scheduledAt }, { connection }) {
      return checkSite(connection(checks), item, scheduledAt)
    }),
  to: websiteAvailability,
  timeout: '6m',
})

const time = z.iso.datetime()
const ms = z.number()

export const results = table(`${schema}.results`, {
  schema: z.object({
    site: z.int(),
    scheduled_at: time,
    checked_at: time,
    url: z.string(),
    status: z.int().nullable(),
    response_ms: ms.nullable(),
    regexp_found: z.boolean().nullable(),
    failure: z.string().nullable(),
    detail: z.string().nullable(),
    dns_ms: ms.nullable(),
    connect_ms: ms.nullable(),
    tls_ms: ms.nullable(),
    processing_ms: ms.nullable(),
    transfer_ms: ms.nullable(),
    total_ms: ms,
    certificate_ends_at: time.nullable(),
  }),
  key: ['site', 'scheduled_at'],
  recordId: 'record_id',
})

const rowOf = ({ timings, ...found }: Availability) => ({
  site: found.site,
  scheduled_at: found.scheduledAt,
  checked_at: found.checkedAt,
  url: found.url,
  status: found.status,
  response_ms: found.responseMs,
  regexp_found: found.regexpFound,
  failure: found.failure,
  detail: found.detail,
  dns_ms: timings.dnsMs,
  connect_ms: timings.connectMs,
  tls_ms: timings.tlsMs,
  processing_ms: timings.processingMs,
  transfer_ms: timings.transferMs,
  total_ms: timings.totalMs,
  certificate_ends_at: found.certificateEndsAt,
})

export const storeResults = stream('website-results', {
  from: websiteAvailability,
  id: ({ site, scheduledAt }) => [site, scheduledAt],
  // in order, since an incident ends with what comes after it
  key: ({ site }) => String(site),
  concurrency: { total: 1_024 },
  steps: (records) => records.step(rowOf),
  to: results,
})
