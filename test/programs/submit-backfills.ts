/** Submits the runs of backfills as an engine does, until it is killed. Arguments: the address of the database. */
import { Backfills } from '../../src/engine/backfill.ts'
import { openDatabase } from '../../src/postgres/pool.ts'
import { systemClock } from '../../src/time.ts'

const [url = ''] = process.argv.slice(2)
const db = openDatabase({ url, applicationName: 'submitter', max: 2 })
const backfills = new Backfills({ db, clock: systemClock, random: Math.random, note: (line) => console.error(line) })
await backfills.wake()
process.send?.('done')
await db.close()
