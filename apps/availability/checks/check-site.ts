import type { FetchClient } from 'sluice'
import { Searches } from '../regexp/searches.ts'
import type { Site } from '../sites/site.ts'
import { type Availability, availabilityOf, type Found } from './availability.ts'

/** A check ends so long before the next of its site is due: it never takes the place of one. */
const spareMs = 1_000

const searches = new Searches()

/** One GET, and the search in what came. @throws SluiceError CANCELLED, and where the connection is not configured. */
export async function checkSite(client: FetchClient, site: Site, scheduledAt: string): Promise<Availability> {
  const check = await client.check(site.url, {
    timeout: `${site.interval * 1_000 - spareMs}ms`,
    redirects: !(site.expectedStatus !== null && site.expectedStatus >= 300 && site.expectedStatus <= 399),
  })
  const partly = check.failure === 'body-limit' || check.failure === 'truncated'
  const search = site.regexp !== null && (check.failure === null || (partly && check.body.length > 0))
  const page = { body: check.body, charset: charsetOf(check.headers['content-type']) }
  const found: Found = search ? await searches.search(site.regexp as string, page) : null
  return availabilityOf(site, scheduledAt, check, found)
}

const charsetOf = (contentType = '') => /;\s*charset\s*=\s*"?([A-Za-z0-9_:.-]{1,40})/i.exec(contentType)?.[1] ?? 'utf-8'
