/** From the first check that failed to the first one after it that did not. */
import { type SqlQueries, z } from 'sluice'
import { schema } from '../settings.ts'

export const incident = z.object({
  id: z.int(),
  site: z.int(),
  startedAt: z.iso.datetime(),
  endedAt: z.iso.datetime().nullable().meta({ description: 'null: it goes on' }),
  failure: z.string().meta({ description: 'Of its first check' }),
  detail: z.string().nullable(),
  status: z.int().nullable(),
})

export type Incident = z.infer<typeof incident>

const columns = `i.id, i.site, i.started_at as "startedAt", i.ended_at as "endedAt", i.failure, i.detail, i.status`

const ofSiteSql = `
  select ${columns} from ${schema}.incidents i
  where i.site = $1 and ($2::timestamptz is null or i.started_at < $2) order by i.started_at desc limit $3`

/** Newest first, those that began before `before`. */
export function incidentsOf(
  sql: SqlQueries,
  site: number,
  { before, limit }: { readonly before: string | null; readonly limit: number },
): Promise<Incident[]> {
  return sql.query<Incident>(ofSiteSql, [site, before, limit])
}

const openSql = `
  select ${columns}, s.url from ${schema}.incidents i join ${schema}.sites s on s.id = i.site
  where i.ended_at is null and s.active order by i.started_at desc limit $1`

/** Those of active sites that go on. */
export function openIncidents(sql: SqlQueries, limit: number): Promise<(Incident & { readonly url: string })[]> {
  return sql.query<Incident & { readonly url: string }>(openSql, [limit])
}
