/** What a deployment may change of this app. Who runs it owns these lines. */
import { connection } from 'sluice'

/** Where its tables are. Its first migration makes it: change both before that has run for the first time. */
export const schema = 'monitoring'

/** The database that keeps them: the platform's own, under the login role of apps. */
export const warehouse = connection('warehouse', 'postgres')

/** Who asks the sites: time limit, largest page, redirects, addresses that are admitted. */
export const checks = connection('checks', 'fetch')

/** `producers = ceil(active sites / this)` processes share the checks. */
export const sitesPerProducer = 2_500

/** Of the topic `website_availability`. */
export const partitions = 4

/** Days that single results are kept, and hours and days of each site. Incidents are kept as long as days. */
export const retention = { results: 8, hours: 35, days: 800 } as const
