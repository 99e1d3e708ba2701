/**
 * A process that runs a timer over the rows of `test_items`, until it is killed or its stdin ends. What it does is in `test_runs`.
 * Arguments: the address of the database, the id of its node, the lease in milliseconds, items per process (0: no limit).
 */
import { openDatabase } from '../../src/postgres/pool.ts'
import { openStreams } from '../../src/streams/streams.ts'
import { itemStream, testTimers } from '../timer-world.ts'

const [url = '', node = '', leaseMs = '', perProducer = ''] = process.argv.slice(2)
const db = openDatabase({ url, applicationName: 'timer process', max: 8 })
const { definition, adapters } = testTimers(db, itemStream(db, node, Number(perProducer) || undefined))
const streams = await openStreams({
  ...{
    database: db,
    streams: [definition],
    node,
    host: 'timer-process',
    random: Math.random,
    leaseMs: Number(leaseMs),
  },
  ...{ adapters: adapters.streams, capabilities: adapters.capabilities },
  report: (message, fields) => process.stderr.write(`${message} ${JSON.stringify(fields)}\n`),
})
process.stdout.write('open\n')
process.stdin.resume()
process.stdin.on('end', () => void streams.stop().then(() => db.close()))
