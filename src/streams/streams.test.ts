import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { builtIn, plainCapabilities, StreamWorld } from '../../test/stream-world.ts'
import { statement } from '../ports/database.ts'
import { openDatabase } from '../postgres/pool.ts'
import { z } from '../sdk/schema.ts'
import { documents, type Stream, stream } from '../sdk/stream.ts'
import { topic } from '../sdk/topic.ts'
import { totals } from '../store/ledger.ts'
import { minuteFigures, shardFigures } from '../store/stream-figures.ts'
import { openStreams, type Streams } from './streams.ts'

let world: StreamWorld
let reports: unknown[]
let opened: Streams[]
beforeEach(async () => {
  world = await StreamWorld.open()
  reports = []
  opened = []
})
afterEach(async () => {
  for (const streams of opened) await streams.stop(100)
  const breaches = await world.breaches()
  await world.close()
  expect(breaches).toEqual([])
})

const numbers = topic('numbers', { schema: z.object({ n: z.number() }), partitions: 6 })
const definition: unknown = stream('numbers', {
  from: numbers,
  id: (record) => record.n,
  steps: (records) => records.step((record) => ({ id: `row-${record.n}` })),
  to: documents('numbers', { key: 'id' }),
})

async function open(database = world.db): Promise<Streams> {
  const streams = await openStreams({
    ...{
      database,
      streams: [definition as Stream],
      node: randomUUID(),
      random: Math.random,
    },
    ...{ capabilities: plainCapabilities, adapters: builtIn(database), leaseMs: 3_000, sweepMs: 60_000 },
    report: (message, fields) => reports.push({ message, fields }),
  })
  opened.push(streams)
  return streams
}

const publish = (from: number, count: number) =>
  world.publishValues(
    'numbers',
    Array.from({ length: count }, (_, index) => ({ n: from + index })),
  )

const held = statement('test.held', 'select stream from sluice.shards where holder is not null')
const nodes = statement('test.nodes', 'select id from sluice.nodes')
const killConnections = statement(
  'test.kill-connections',
  `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'victim%'`,
)

async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10))
}

it('share the shards, hand them over, wake on publishing, and leave nothing behind', async () => {
  const first = await open()
  expect(first.held()).toHaveLength(6)
  await publish(0, 60)
  await first.settled()
  expect(await totals(world.db, 'numbers')).toMatchObject({ written: 60, pending: 0 })
  const second = await open()
  await until(() => first.held().length === 3 && second.held().length === 3)
  await publish(60, 60)
  await until(async () => (await totals(world.db, 'numbers')).written === 120)
  await second.stop()
  await until(() => first.held().length === 6)
  const shards = await shardFigures(world.db, 'numbers')
  expect(shards.map(({ lag, waiting, dead, inFlight }) => lag + waiting + dead + inFlight)).toEqual([0, 0, 0, 0, 0, 0])
  expect(shards.every(({ holder }) => holder !== null)).toBe(true)
  const minutes = await minuteFigures(world.db, 'numbers')
  expect(minutes.reduce((sum, minute) => sum + minute.written, 0)).toBe(120)
  await first.stop()
  expect(reports).toEqual([])
  expect(await world.db.query(held)).toEqual([])
  expect(await world.db.query(nodes)).toEqual([])
})

it('go on after every connection was cut', async () => {
  const database = openDatabase({ ...world.options, applicationName: 'victim', max: 8 })
  const streams = await open(database)
  await publish(0, 100)
  await streams.settled()
  await world.db.query(killConnections)
  await publish(100, 100)
  await world.db.query(killConnections)
  await until(async () => (await totals(world.db, 'numbers')).written === 200)
  expect(await totals(world.db, 'numbers')).toMatchObject({ received: 200, written: 200, pending: 0 })
  await streams.stop()
  await database.close()
})
