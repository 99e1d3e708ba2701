/** The sites that are checked now: asked anew every few seconds, so that a change is effective without a restart. */
import type { Capabilities } from 'sluice'
import { schema, warehouse } from '../settings.ts'
import { type Site, siteFault } from './site.ts'

interface SiteRow extends Site {
  readonly fault: string | null
}

const activeSql = `
  select id, url, regexp, interval, expected_status as "expectedStatus", fault
  from ${schema}.sites where active order by id`

/** Unless it was changed meanwhile: then the next look tells. */
const noteSql = `
  update ${schema}.sites s set fault = n.fault
  from unnest($1::integer[], $2::text[], $3::text[]) as n (id, url, fault)
  where s.id = n.id and s.url = n.url and s.fault is distinct from n.fault`

/** What was found of a row, until it is another. */
const judged = new Map<number, { readonly row: string; readonly fault: string | null }>()

function faultOf(row: Site): string | null {
  const text = JSON.stringify([row.url, row.regexp, row.interval, row.expectedStatus])
  const known = judged.get(row.id)
  if (known?.row === text) return known.fault
  const fault = siteFault(row) ?? null
  judged.set(row.id, { row: text, fault })
  return fault
}

/** Rows that cannot be checked are reported, in the table and the log, and left out. */
export async function activeSites({ connection, log }: Pick<Capabilities, 'connection' | 'log'>): Promise<Site[]> {
  const sql = connection(warehouse)
  const rows = await sql.query<SiteRow>(activeSql)
  const found = rows.map((row) => ({ ...row, now: faultOf(row) }))
  const changed = found.filter(({ fault, now }) => fault !== now)
  if (changed.length > 0) {
    const noted = [changed.map(({ id }) => id), changed.map(({ url }) => url), changed.map(({ now }) => now)]
    await sql.query(noteSql, noted)
  }
  for (const { id, now } of changed) if (now !== null) log.warn(`site ${id} is skipped: ${now}`, { site: id })
  if (judged.size > 2 * rows.length + 100) judged.clear()
  return found.flatMap(({ now, fault: _, ...site }) => (now === null ? [site] : []))
}
