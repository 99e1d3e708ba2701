/** The status pages: plain HTML without scripts. What is written in them is escaped, and nothing is loaded from elsewhere. */
import { createHash } from 'node:crypto'
import { latencyChart, milliseconds } from './chart.ts'
import { type Html, html } from './html.ts'
import type { Incident } from './incidents.ts'
import type { Point, Span } from './series.ts'
import { type SiteStatus, type State, states } from './site-status.ts'

const style = `
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5d6b7e;--line:#d9dfe7;--page:#f6f8fa;--card:#fff;--up:#1a7f4b;--down:#c0292b;--late:#b26a00;--plot:#2563c9}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf2;--soft:#93a1b5;--line:#2c3644;--page:#12171e;--card:#1a212b;--up:#3fbf7f;--down:#f2686a;--late:#e0a040;--plot:#6ea8ff}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem;max-width:70rem;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.4rem;margin:0 0 1rem}h2{font-size:1.05rem;margin:1.75rem 0 .5rem}
a{color:inherit}
.counts{display:flex;flex-wrap:wrap;gap:.5rem;margin:0 0 1rem;padding:0;list-style:none}
.counts a{display:block;padding:.5rem .9rem;background:var(--card);border:1px solid var(--line);border-radius:.5rem;text-decoration:none}
.counts a[aria-current]{border-color:var(--plot)}
.counts b{font-size:1.25rem;margin-right:.35rem;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:.5rem}
table{border-collapse:collapse;width:100%}
th,td{padding:.4rem .75rem;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap;font-variant-numeric:tabular-nums}
tr:last-child td{border-bottom:0}
th{color:var(--soft);font-weight:500;font-size:.85rem}
td.number,th.number{text-align:right}
td.url{max-width:26rem;overflow:hidden;text-overflow:ellipsis}
td.wide{white-space:normal;overflow-wrap:anywhere}
.state{display:inline-block;min-width:4.5rem;font-weight:600;color:var(--soft)}
.state.up{color:var(--up)}.state.down,.state.invalid{color:var(--down)}.state.late{color:var(--late)}
form{display:flex;flex-wrap:wrap;gap:.5rem;margin:0 0 1rem}
input,select,button{font:inherit;padding:.35rem .6rem;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:.4rem}
.soft,.spans a{color:var(--soft)}.spans a{margin-right:.75rem}.spans a[aria-current]{color:var(--ink);font-weight:600;text-decoration:none}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.25rem;margin:0}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
svg{display:block;width:100%;height:auto;background:var(--card);border:1px solid var(--line);border-radius:.5rem}
.grid{stroke:var(--line)}.tick{fill:var(--soft);font-size:11px}.end{text-anchor:end}.middle{text-anchor:middle}
.average,.most{fill:none;stroke:var(--plot);stroke-width:1.8;stroke-linecap:round;stroke-linejoin:round}.most{opacity:.3;stroke-width:1.2}
.failed{fill:var(--down)}
nav{margin-top:1rem}
`

const styleHash = createHash('sha256').update(style).digest('base64')

export const pageHeaders = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': `default-src 'none'; style-src 'sha256-${styleHash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`,
} as const

const refreshSeconds = 30

const pageOf = (title: string, body: Html): string =>
  `<!doctype html>\n${
    html`<html lang="en"><head><meta charset="utf-8"><title>${title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="refresh" content="${refreshSeconds}">
<style>`.text
  }${style}</style></head>\n${html`<body>${body}</body></html>`.text}\n`

export interface ListPage {
  readonly counts: Readonly<Record<State, number>>
  readonly open: readonly (Incident & { readonly url: string })[]
  readonly sites: readonly SiteStatus[]
  readonly wanted: { readonly state?: State | undefined; readonly url?: string | undefined }
  /** Where the next page of sites begins; undefined at the end. */
  readonly next: string | undefined
  /** Not the first page. */
  readonly later: boolean
  readonly now: Date
}

export function listPage({ counts, open, sites, wanted, next, later, now }: ListPage): string {
  const all = states.reduce((sum, state) => sum + counts[state], 0)
  const title = counts.down > 0 ? `${counts.down} of ${all} sites down` : `${all} sites`
  const link = (more: Record<string, string | undefined>) => {
    const given = Object.entries({ ...wanted, ...more }).filter(([, value]) => value !== undefined && value !== '')
    const query = new URLSearchParams(given as [string, string][]).toString()
    return query === '' ? '/status' : `/status?${query}`
  }
  const count = (name: string, number: number, state: State | undefined) =>
    html`<li><a href="${link({ state })}"${wanted.state === state && html` aria-current="true"`}><b>${number}</b>${name}</a></li>`
  return pageOf(
    title,
    html`<h1>${title}</h1>
<ul class="counts">${count('all', all, undefined)}${states.map((state) => counts[state] > 0 && count(state, counts[state], state))}</ul>
${!later && open.length > 0 && openTable(open, now)}
<h2>Sites</h2>
<form action="/status" method="get"><input type="search" name="url" value="${wanted.url}" placeholder="URL contains" aria-label="URL contains" maxlength="200">
${wanted.state && html`<input type="hidden" name="state" value="${wanted.state}">`}<button>Search</button></form>
${sites.length === 0 ? html`<p class="soft">There are none. <code>sluice sites add https://example.com/</code> adds one.</p>` : siteTable(sites)}
<nav>${later && html`<a href="${link({})}">First page</a> `}${next && html`<a href="${link({ cursor: next })}">Next page</a>`}</nav>
<p class="soft">As of ${minute(now.toISOString())} UTC</p>`,
  )
}

const openTable = (open: ListPage['open'], now: Date) => html`<h2>Incidents now</h2>
<div class="scroll"><table><tr><th>Site</th><th>Failure</th><th>Since (UTC)</th><th class="number">For</th><th>Detail</th></tr>
${open.map(
  ({
    site,
    url,
    failure,
    startedAt,
    detail,
  }) => html`<tr><td class="url"><a href="/status/${site}">${url}</a></td><td>${failure}</td>
<td>${minute(startedAt)}</td><td class="number">${lengthOf(Date.parse(startedAt), now.getTime())}</td><td class="wide">${detail}</td></tr>`,
)}</table></div>`

const siteTable = (sites: readonly SiteStatus[]) => html`<div class="scroll"><table>
<tr><th>State</th><th>Site</th><th class="number">24 h</th><th class="number">7 d</th><th class="number">30 d</th><th class="number">Response</th><th>Status</th><th>Last check (UTC)</th></tr>
${sites.map(
  ({ id, url, state, uptime, last }) => html`<tr><td><span class="state ${state}">${state}</span></td>
<td class="url"><a href="/status/${id}">${url}</a></td><td class="number">${share(uptime['24h'])}</td><td class="number">${share(uptime['7d'])}</td>
<td class="number">${share(uptime['30d'])}</td><td class="number">${milliseconds(last?.responseMs)}</td><td>${last?.failure ?? last?.status}</td><td>${last && second(last.scheduledAt)}</td></tr>`,
)}</table></div>`

export const spans = { '1h': 3_600_000, '24h': 86_400_000, '7d': 7 * 86_400_000, '30d': 30 * 86_400_000 } as const
export type SpanName = keyof typeof spans
export const spanNames = Object.keys(spans) as [SpanName, ...SpanName[]]

export interface SitePage {
  readonly site: SiteStatus
  readonly points: readonly Point[]
  readonly span: Span
  readonly spanName: SpanName
  readonly incidents: readonly Incident[]
  readonly now: Date
}

export function sitePage({ site, points, span, spanName, incidents, now }: SitePage): string {
  const { url, state, since, fault, interval, uptime, last } = site
  const isLink = /^https?:\/\//i.test(url)
  return pageOf(
    `${state}: ${url}`,
    html`<p><a href="/status">All sites</a></p>
<h1><span class="state ${state}">${state}</span> ${isLink ? html`<a href="${url}" rel="noreferrer nofollow">${url}</a>` : url}</h1>
<dl>${fault && html`<dt>It is skipped</dt><dd>${fault}</dd>`}
<dt>Uptime</dt><dd>${share(uptime['24h'])} in 24 h, ${share(uptime['7d'])} in 7 d, ${share(uptime['30d'])} in 30 d</dd>
<dt>Checked</dt><dd>every ${interval} s${last && html`, last at ${second(last.scheduledAt)} UTC`}</dd>
${since && html`<dt>${last?.failure ? 'Failing' : 'Good'} since</dt><dd>${second(since)} UTC</dd>`}
${last && lastFacts(last)}</dl>
<h2>Response times</h2>
<p class="spans">${spanNames.map((name) => html`<a href="/status/${site.id}?span=${name}"${name === spanName && html` aria-current="true"`}>${name}</a>`)}
<span class="soft">average and highest per ${span.step}; red: steps with checks that failed</span></p>
${points.length === 0 ? html`<p class="soft">Nothing was checked then.</p>` : latencyChart(points, span)}
<h2>Incidents</h2>
${incidents.length === 0 ? html`<p class="soft">None.</p>` : incidentTable(incidents, now)}
<p class="soft">As of ${minute(now.toISOString())} UTC</p>`,
  )
}

const phases = [
  ['DNS', 'dnsMs'],
  ['connect', 'connectMs'],
  ['TLS', 'tlsMs'],
  ['processing', 'processingMs'],
  ['transfer', 'transferMs'],
] as const

const phasesOf = (timings: NonNullable<SiteStatus['last']>['timings']) =>
  phases.flatMap(([name, phase]) => (timings[phase] === null ? [] : [`${name} ${milliseconds(timings[phase])}`]))

const lastFacts = ({
  status,
  failure,
  detail,
  timings,
  regexpFound,
  certificateEndsAt,
}: NonNullable<SiteStatus['last']>) =>
  html`${failure && html`<dt>Failure</dt><dd>${failure}: ${detail}</dd>`}
${status !== null && html`<dt>Status</dt><dd>${status}</dd>`}
${regexpFound !== null && html`<dt>Regexp</dt><dd>${regexpFound ? 'found' : 'not found'}</dd>`}
<dt>Took</dt><dd>${milliseconds(timings.totalMs)}: ${phasesOf(timings).join(', ')}</dd>
${certificateEndsAt && html`<dt>Certificate ends</dt><dd>${minute(certificateEndsAt)} UTC</dd>`}`

const incidentTable = (incidents: readonly Incident[], now: Date) => html`<div class="scroll"><table>
<tr><th>From (UTC)</th><th>To (UTC)</th><th class="number">For</th><th>Failure</th><th>Detail</th></tr>
${incidents.map(
  ({
    startedAt,
    endedAt,
    failure,
    detail,
  }) => html`<tr><td>${second(startedAt)}</td><td>${endedAt === null ? 'goes on' : second(endedAt)}</td>
<td class="number">${lengthOf(Date.parse(startedAt), endedAt === null ? now.getTime() : Date.parse(endedAt))}</td><td>${failure}</td><td class="wide">${detail}</td></tr>`,
)}</table></div>`

// never rounded up to what it is not
const share = (percent: number | null) =>
  percent === null ? '–' : `${percent === 100 ? 100 : (Math.floor(percent * 100) / 100).toFixed(2)} %`
const second = (time: string) => time.slice(0, 19).replace('T', ' ')
const minute = (time: string) => time.slice(0, 16).replace('T', ' ')

function lengthOf(from: number, to: number): string {
  const seconds = Math.max(0, Math.round((to - from) / 1_000))
  const [days, hours, minutes] = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3_600) % 24,
    Math.floor(seconds / 60) % 60,
  ]
  if (days > 0) return `${days} d ${hours} h`
  if (hours > 0) return `${hours} h ${minutes} min`
  return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`
}
