/** What a Prometheus reads of sites, under the names that blackbox_exporter has for them. */
import { type MetricSample, metrics, type SqlQueries } from 'sluice'
import { schema, warehouse } from '../settings.ts'

/** Sites with an id up to that of the last are told of: 14 samples each at most. */
const mostTargets = 10_000
const perRead = 1_000

const gauges = {
  probe_success: 'Whether the last check of a site found nothing wrong',
  probe_duration_seconds: 'How long the last check took',
  probe_http_status_code: 'Status of the last answer, 0 where there was none',
  probe_http_duration_seconds: 'How long each phase of the last check took, summed over redirects',
  probe_ssl_earliest_cert_expiry: 'When the first certificate of the site ends, in seconds since the epoch',
  probe_failed_due_to_regex: 'Whether the last check failed since the page lacks its regexp',
  availability_last_check_timestamp_seconds: 'For when the last check was scheduled',
  availability_failure: '1 for the class of failure of the last check',
  availability_sites: 'Sites by state',
  availability_targets_omitted: `Active sites beyond the ${mostTargets} that have metrics of their own`,
} as const

type Gauge = keyof typeof gauges

interface Row {
  readonly id: number
  readonly url: string
  readonly at: number
  readonly failure: string | null
  readonly status: number | null
  readonly total_ms: number
  readonly dns_ms: number | null
  readonly connect_ms: number | null
  readonly tls_ms: number | null
  readonly processing_ms: number | null
  readonly transfer_ms: number | null
  readonly certificate_ends: number | null
}

/** Those that are checked, and were by now. */
const sitesSql = `
  select id, url, extract(epoch from scheduled_at)::float8 as at, failure, status, total_ms, dns_ms, connect_ms, tls_ms,
    processing_ms, transfer_ms, extract(epoch from certificate_ends_at)::float8 as certificate_ends
  from ${schema}.overview where id > $1 and state in ('up', 'down') order by id limit $2`

const countsSql = `select state, count(*)::int as sites from ${schema}.overview group by state`

const phases = [
  ['resolve', 'dns_ms'],
  ['connect', 'connect_ms'],
  ['tls', 'tls_ms'],
  ['processing', 'processing_ms'],
  ['transfer', 'transfer_ms'],
] as const

const seconds = (ms: number) => Number((ms / 1_000).toFixed(6))

function* samplesOf(row: Row): Generator<MetricSample<Gauge>> {
  const labels = { target: row.url, site: String(row.id) }
  const regexp = row.failure === 'regexp-mismatch' || row.failure === 'regexp-limit'
  yield { gauge: 'probe_success', labels, value: row.failure === null ? 1 : 0 }
  yield { gauge: 'probe_duration_seconds', labels, value: seconds(row.total_ms) }
  yield { gauge: 'probe_http_status_code', labels, value: row.status ?? 0 }
  yield { gauge: 'probe_failed_due_to_regex', labels, value: regexp ? 1 : 0 }
  yield { gauge: 'availability_last_check_timestamp_seconds', labels, value: row.at }
  for (const [phase, column] of phases) {
    const ms = row[column]
    if (ms !== null) yield { gauge: 'probe_http_duration_seconds', labels: { ...labels, phase }, value: seconds(ms) }
  }
  if (row.certificate_ends !== null) {
    yield { gauge: 'probe_ssl_earliest_cert_expiry', labels, value: row.certificate_ends }
  }
  if (row.failure !== null)
    yield { gauge: 'availability_failure', labels: { ...labels, failure: row.failure }, value: 1 }
}

async function* allSamples(sql: SqlQueries): AsyncGenerator<MetricSample<Gauge>> {
  const counts = await sql.query<{ state: string; sites: number }>(countsSql)
  for (const { state, sites } of counts) yield { gauge: 'availability_sites', labels: { state }, value: sites }
  const targets = counts.reduce((sum, { state, sites }) => sum + (state === 'up' || state === 'down' ? sites : 0), 0)
  yield { gauge: 'availability_targets_omitted', value: Math.max(0, targets - mostTargets) }
  let after = 0
  for (let read = 0; read < mostTargets; read += perRead) {
    const rows = await sql.query<Row>(sitesSql, [after, perRead])
    for (const row of rows) yield* samplesOf(row)
    if (rows.length < perRead) return
    after = rows.at(-1)!.id
  }
}

export const availabilityMetrics = metrics('availability', {
  gauges,
  collect: ({ connection }) => allSamples(connection(warehouse)),
})
