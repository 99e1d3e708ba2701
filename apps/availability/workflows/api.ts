/** HTTP access to sites and to how they are. */
import { endpoint, problem, reply, z } from 'sluice'
import { warehouse } from '../settings.ts'
import { cursorOf, isId, isTime, placeOf } from '../sites/cursor.ts'
import { siteBody } from '../sites/site.ts'
import { findSite, insertSites, listSites as listStored, removeSite, replaceSite } from '../sites/stored-sites.ts'
import { incident, incidentsOf } from '../status/incidents.ts'
import { point, readSeries, spanOf, stepNames } from '../status/series.ts'
import { readStatus, readSummary, siteStatus, states } from '../status/site-status.ts'

const page = {
  limit: z.coerce.number().int().min(1).max(1_000).default(50).meta({ description: 'Items at most' }),
  cursor: z.string().max(500).optional().meta({ description: 'The nextCursor of the page before' }),
}

const pageOf = <Item extends z.ZodType>(item: Item) =>
  z.object({
    items: z.array(item),
    nextCursor: z.string().nullable().meta({ description: 'null at the end' }),
  })

/** One more than `limit` was asked for. */
function pageFrom<Item>(found: readonly Item[], limit: number, place: (item: Item) => string | number) {
  const items = found.slice(0, limit)
  return { items, nextCursor: found.length > limit ? cursorOf(place(items.at(-1) as Item)) : null }
}

const siteParams = z.object({
  id: z.coerce.number().int().min(1).max(2_147_483_647).meta({ description: 'Of the site', example: 1 }),
})

const storedSite = z.object({
  id: z.int(),
  ...siteBody.shape,
  fault: z.string().nullable().meta({ description: 'Why it is skipped; null when it is not' }),
  createdAt: z.iso.datetime(),
  updatedAt: z.iso.datetime(),
})

const missing = (id: number): never => problem('NOT_FOUND', `There is no site ${id}`)

export const listSites = endpoint('GET /api/v1/sites', {
  summary: 'Sites as they are configured',
  query: z.strictObject({ active: z.enum(['true', 'false']).optional(), ...page }),
  reply: pageOf(storedSite),
  async handle({ query: { limit, cursor, active }, connection }) {
    const wanted = { after: placeOf(cursor, isId) ?? 0, active: active === undefined ? null : active === 'true' }
    const found = await listStored(connection(warehouse), { ...wanted, limit: limit + 1 })
    return pageFrom(found, limit, ({ id }) => id)
  },
})

export const addSite = endpoint('POST /api/v1/sites', {
  summary: 'Adds a site; it is checked within its interval',
  body: siteBody,
  reply: storedSite,
  status: 201,
  async handle({ body, connection }) {
    const [site] = await insertSites(connection(warehouse), [body])
    return reply(201, site, { location: `/api/v1/sites/${site!.id}` })
  },
})

export const importSites = endpoint('POST /api/v1/sites/import', {
  summary: 'Adds up to 1,000 sites, all of them or none',
  body: z.strictObject({ sites: z.array(siteBody).min(1).max(1_000) }),
  reply: z.object({ sites: z.array(storedSite) }),
  status: 201,
  async handle({ body, connection }) {
    return { sites: await insertSites(connection(warehouse), body.sites) }
  },
})

export const getSite = endpoint('GET /api/v1/sites/:id', {
  summary: 'A site as it is configured',
  params: siteParams,
  reply: storedSite,
  handle: async ({ params: { id }, connection }) => (await findSite(connection(warehouse), id)) ?? missing(id),
})

export const changeSite = endpoint('PUT /api/v1/sites/:id', {
  summary: 'Replaces what is configured of a site; effective within its interval',
  params: siteParams,
  body: siteBody,
  reply: storedSite,
  handle: async ({ params: { id }, body, connection }) =>
    (await replaceSite(connection(warehouse), id, body)) ?? missing(id),
})

export const deleteSite = endpoint('DELETE /api/v1/sites/:id', {
  summary: 'Removes a site; its results are kept as long as others',
  params: siteParams,
  status: 204,
  async handle({ params: { id }, connection }) {
    if (!(await removeSite(connection(warehouse), id))) missing(id)
    return reply(204, undefined)
  },
})

export const listStatus = endpoint('GET /api/v1/sites/status', {
  summary: 'How sites are: state, uptime, last result',
  query: z.strictObject({
    state: z.enum(states).optional(),
    failure: z.string().max(50).optional().meta({ description: 'Of the last result', example: 'timeout' }),
    url: z.string().min(1).max(200).optional().meta({ description: 'The URL has it in it', example: 'example.com' }),
    ...page,
  }),
  reply: pageOf(siteStatus),
  async handle({ query: { limit, cursor, ...wanted }, connection }) {
    const after = placeOf(cursor, isId) ?? 0
    const found = await readStatus(connection(warehouse), { ...wanted, after, limit: limit + 1 })
    return pageFrom(found, limit, ({ id }) => id)
  },
})

const counts = Object.fromEntries(states.map((state) => [state, z.int()])) as Record<(typeof states)[number], z.ZodInt>

export const summary = endpoint('GET /api/v1/sites/summary', {
  summary: 'How many sites are in each state',
  reply: z.object(counts),
  handle: ({ connection }) => readSummary(connection(warehouse)),
})

export const getStatus = endpoint('GET /api/v1/sites/:id/status', {
  summary: 'How a site is',
  params: siteParams,
  reply: siteStatus,
  handle: async ({ params: { id }, connection }) =>
    (await readStatus(connection(warehouse), { id, limit: 1 }))[0] ?? missing(id),
})

const time = z.iso.datetime({ offset: true })

export const series = endpoint('GET /api/v1/sites/:id/series', {
  summary: 'Response times and checks of a site over time, for charts',
  params: siteParams,
  query: z.strictObject({
    from: time.optional().meta({ description: 'Default: a day before `to`' }),
    to: time.optional().meta({ description: 'Default: now' }),
    step: z.enum(stepNames).optional().meta({
      description:
        'Below an hour single results are read, which are kept 8 days. Default: the finest with at most 300 points; at most 2,000 points are given',
    }),
  }),
  reply: z.object({ step: z.enum(stepNames), items: z.array(point) }),
  async handle({ params: { id }, query, connection }) {
    const sql = connection(warehouse)
    const span = spanOf(query, Date.now())
    if (!(await findSite(sql, id))) missing(id)
    return { step: span.step, items: await readSeries(sql, id, span) }
  },
})

export const incidents = endpoint('GET /api/v1/sites/:id/incidents', {
  summary: 'Incidents of a site, newest first',
  params: siteParams,
  query: z.strictObject(page),
  reply: pageOf(incident),
  async handle({ params: { id }, query: { limit, cursor }, connection }) {
    const sql = connection(warehouse)
    if (!(await findSite(sql, id))) missing(id)
    const before = placeOf(cursor, isTime) ?? null
    return pageFrom(await incidentsOf(sql, id, { before, limit: limit + 1 }), limit, ({ startedAt }) => startedAt)
  },
})
