/** Sites in the table, by the API. */
import type { SqlQueries } from 'sluice'
import { schema } from '../settings.ts'
import type { SiteBody } from './site.ts'

export interface StoredSite extends SiteBody {
  readonly id: number
  /** Why it is skipped; null when it is not. */
  readonly fault: string | null
  readonly createdAt: string
  readonly updatedAt: string
}

const columns = `id, url, regexp, interval, active, expected_status as "expectedStatus", fault,
    created_at as "createdAt", updated_at as "updatedAt"`

const insertSql = `
  insert into ${schema}.sites (url, regexp, interval, active, expected_status)
  select url, regexp, interval, active, expected_status
  from json_to_recordset($1::json) as s (url text, regexp text, interval integer, active boolean, expected_status integer)
  returning ${columns}`

/** In their order. */
export async function insertSites(sql: SqlQueries, sites: readonly SiteBody[]): Promise<StoredSite[]> {
  const rows = sites.map(({ expectedStatus, ...site }) => ({ ...site, expected_status: expectedStatus }))
  const stored = await sql.query<StoredSite>(insertSql, [JSON.stringify(rows)])
  return stored.sort((a, b) => a.id - b.id)
}

const replaceSql = `
  update ${schema}.sites set url = $2, regexp = $3, interval = $4, active = $5, expected_status = $6, fault = null, updated_at = now()
  where id = $1 returning ${columns}`

export async function replaceSite(sql: SqlQueries, id: number, site: SiteBody): Promise<StoredSite | undefined> {
  const { url, regexp, interval, active, expectedStatus } = site
  return (await sql.query<StoredSite>(replaceSql, [id, url, regexp, interval, active, expectedStatus]))[0]
}

const removeSql = `delete from ${schema}.sites where id = $1 returning id`

/** Whether it was there. */
export async function removeSite(sql: SqlQueries, id: number): Promise<boolean> {
  return (await sql.query(removeSql, [id])).length > 0
}

const findSql = `select ${columns} from ${schema}.sites where id = $1`

export async function findSite(sql: SqlQueries, id: number): Promise<StoredSite | undefined> {
  return (await sql.query<StoredSite>(findSql, [id]))[0]
}

const listSql = `
  select ${columns} from ${schema}.sites
  where id > $1 and ($2::boolean is null or active = $2) order by id limit $3`

export function listSites(
  sql: SqlQueries,
  wanted: { readonly after: number; readonly active: boolean | null; readonly limit: number },
): Promise<StoredSite[]> {
  return sql.query<StoredSite>(listSql, [wanted.after, wanted.active, wanted.limit])
}
