/** The status pages. */
import { endpoint, problem, reply, z } from 'sluice'
import { warehouse } from '../settings.ts'
import { cursorOf, isId, placeOf } from '../sites/cursor.ts'
import { incidentsOf, openIncidents } from '../status/incidents.ts'
import { listPage, pageHeaders, sitePage, spanNames, spans } from '../status/page.ts'
import { readSeries, spanOf } from '../status/series.ts'
import { readStatus, readSummary, states } from '../status/site-status.ts'

const sitesPerPage = 100
const openShown = 20
const incidentsShown = 50

export const statusPage = endpoint('GET /status', {
  summary: 'The status page: how many sites are in each state, incidents that go on, and the sites page by page',
  type: 'text/html',
  query: z.strictObject({
    state: z.enum(states).optional(),
    url: z.string().max(200).optional().meta({ description: 'The URL has it in it' }),
    cursor: z.string().max(500).optional(),
  }),
  async handle({ query: { cursor, ...asked }, connection }) {
    const sql = connection(warehouse)
    const after = placeOf(cursor, isId) ?? 0
    const wanted = { ...asked, url: asked.url === '' ? undefined : asked.url }
    const [counts, open, found] = await Promise.all([
      readSummary(sql),
      openIncidents(sql, openShown),
      readStatus(sql, { ...wanted, after, limit: sitesPerPage + 1 }),
    ])
    const sites = found.slice(0, sitesPerPage)
    const next = found.length > sitesPerPage ? cursorOf(sites.at(-1)!.id) : undefined
    const page = listPage({ counts, open, sites, wanted, next, later: after > 0, now: new Date() })
    return reply(200, page, pageHeaders)
  },
})

export const siteStatusPage = endpoint('GET /status/:id', {
  summary: 'The status page of a site: response times, phases, incidents',
  type: 'text/html',
  params: z.object({ id: z.coerce.number().int().min(1).max(2_147_483_647) }),
  query: z.strictObject({ span: z.enum(spanNames).default('24h') }),
  async handle({ params: { id }, query: { span: spanName }, connection }) {
    const sql = connection(warehouse)
    const now = new Date()
    const from = new Date(now.getTime() - spans[spanName]).toISOString()
    const span = spanOf({ from, to: now.toISOString() }, now.getTime())
    const [[site], points, incidents] = await Promise.all([
      readStatus(sql, { id, limit: 1 }),
      readSeries(sql, id, span),
      incidentsOf(sql, id, { before: null, limit: incidentsShown }),
    ])
    if (site === undefined) return problem('NOT_FOUND', `There is no site ${id}`)
    return reply(200, sitePage({ site, points, span, spanName, incidents, now }), pageHeaders)
  },
})
