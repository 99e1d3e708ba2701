/** Timers on a real database, in processes that come and go. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { patience, until } from '../../../test/engine-world.ts'
import { StreamWorld } from '../../../test/stream-world.ts'
import { accountsOf, itemStream, itemTables, putItems, type TestItem, testTimers } from '../../../test/timer-world.ts'
import { statement } from '../../ports/database.ts'
import { totals } from '../../store/ledger.ts'
import { shardFigures } from '../../store/stream-figures.ts'
import { openStreams, type Streams } from '../streams.ts'

/** Long enough for a busy machine: a lease in doubt would give the shards up in the middle of what is tested. */
const leaseMs = 9_000
// Nothing here takes as long where nothing else runs.
patience.ms = 100_000
const timeout = 300_000

const runsStatement = statement<{ item: string; node: string; scheduledAt: Date; ended: boolean }>(
  'test.timed-runs',
  `select item, node, scheduled_at as "scheduledAt", ended_at is not null as ended from test_runs order by begun_at`,
)

const lapseStatement = statement(
  'test.lapse-of',
  `with node as (update sluice.nodes set lease_until = '-infinity' where id = $1)
   update sluice.shards set lease_until = '-infinity' where holder = $1`,
)

let world: StreamWorld
let reports: { message: string; fields: Record<string, unknown> }[]
let opened: Streams[]
let children: ChildProcess[]
beforeEach(async () => {
  world = await StreamWorld.open()
  await world.db.script(itemTables)
  reports = []
  opened = []
  children = []
})
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL')
  for (const streams of opened) await streams.stop(0)
  const breaches = await world.breaches()
  await world.close()
  expect(breaches).toEqual([])
})

/** A process of its own would do the same: it has a node, a lease and a list of items of its own. */
async function open({ perProducer, lease = leaseMs }: { perProducer?: number; lease?: number } = {}): Promise<Streams> {
  const node = randomUUID()
  const definition = itemStream(world.db, node, perProducer)
  const report = (message: string, fields: Record<string, unknown>) => reports.push({ message, fields })
  const { adapters } = testTimers(world.db, definition, report)
  const streams = await openStreams({
    ...{ database: world.db, streams: [definition], node, random: Math.random, leaseMs: lease, report },
    ...{ adapters: adapters.streams, capabilities: adapters.capabilities },
  })
  opened.push(streams)
  return streams
}

async function fork(node: string): Promise<ChildProcess> {
  const program = join(import.meta.dirname, '../../../test/programs/timer-process.ts')
  const child = spawn(process.execPath, [program, world.options.url ?? '', node, String(leaseMs), '0'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  children.push(child)
  await once(child.stdout!, 'data')
  return child
}

const items = (count: number, every_ms: number, ms: number, from = 0): TestItem[] =>
  Array.from({ length: count }, (_, n) => ({ id: `item-${from + n}`, every_ms, ms }))
const runs = () => world.db.query(runsStatement)
const figures = () => shardFigures(world.db, 'timed')
const holders = async () => new Set((await figures()).flatMap(({ holder }) => (holder === null ? [] : [holder])))

describe('a timer', () => {
  it('goes on when a process is killed: every tick is a record once, or is counted', { timeout }, async () => {
    const all = [...items(40, 1_000, 50), ...items(2, 1_000, 2_500, 40)]
    await putItems(world.db, all)
    const [survivor, victim] = [randomUUID(), randomUUID()]
    const child = await fork(survivor)
    const killed = await fork(victim)
    await until('both hold shards and run items', async () => {
      const by = (node: string) => (made: { node: string; ended: boolean }) => made.node === node && made.ended
      const [done, held] = [await runs(), await holders()]
      return held.size === 2 && [survivor, victim].every((node) => done.filter(by(node)).length > 25)
    })
    killed.kill('SIGKILL')
    await once(killed, 'exit')
    const before = await runs()
    await until('the items of the other one came due three times more', async () => {
      const since = (await runs()).slice(before.length).map(({ item }) => item)
      return since.some((item) => since.filter((other) => other === item).length > 3)
    })
    // As when its leases have lapsed by now.
    await world.db.execute(lapseStatement, [victim])
    const theirs = new Set(before.filter(({ node }) => node === victim).map(({ item }) => item))
    expect(theirs.size).toBeGreaterThan(5)
    await until('the items of the killed process run again', async () => {
      const since = (await runs()).slice(before.length).filter(({ node, ended }) => node === survivor && ended)
      const again = new Map<string, number>()
      for (const { item } of since) again.set(item, (again.get(item) ?? 0) + 1)
      return [...theirs].every((item) => (again.get(item) ?? 0) >= 2)
    })
    child.stdin!.end()
    await once(child, 'exit')

    const { ticks, written, missed, folded, overlaps, scheduled } = await accountsOf(world.db, all)
    expect(overlaps).toEqual([])
    const sums = await totals(world.db, 'timed')
    expect(sums).toEqual({ ...sums, written, received: written + sums.waiting, queued: 0 })
    expect(sums.received + missed + folded).toBe(ticks)
    expect(folded).toBeGreaterThan(0)
    // What came due while nobody held them is missed, but for the last tick.
    expect(missed).toBeGreaterThan(0)
    for (const [item, times] of scheduled) expect([item, new Set(times).size]).toEqual([item, times.length])
  })

  it('takes items that are added, changed or taken out without a restart', { timeout }, async () => {
    await putItems(world.db, items(3, 60_000, 0))
    const streams = await open()
    await until(
      'the items are known',
      async () => (await figures()).reduce((sum, { items }) => sum + (items ?? 0), 0) === 3,
    )
    await putItems(world.db, [
      { id: 'added', every_ms: 1_000, ms: 0 },
      { id: 'item-1', every_ms: 1_000, ms: 0 },
    ])
    await until('what was added and what was changed runs', async () => {
      const found = (await runs()).map(({ item }) => item)
      return found.filter((item) => item === 'added').length > 1 && found.filter((item) => item === 'item-1').length > 1
    })
    await putItems(world.db, [{ id: 'added', every_ms: 1_000, ms: 0, active: false }])
    await until(
      'what was taken out is known',
      async () => (await figures()).reduce((sum, { items }) => sum + (items ?? 0), 0) === 3,
    )
    const before = (await runs()).filter(({ item }) => item === 'added').length
    const others = (await runs()).filter(({ item }) => item === 'item-1').length
    await until('others run on', async () => (await runs()).filter(({ item }) => item === 'item-1').length > others + 2)
    expect((await runs()).filter(({ item }) => item === 'added')).toHaveLength(before)
    await streams.stop()
    expect(reports).toEqual([])
  })

  it('does not begin an item again whose record waits in the durable table when the shard changes hands', {
    timeout,
  }, async () => {
    await putItems(world.db, [...items(8, 1_000, 0), { id: 'slow', every_ms: 1_000, ms: 3_600_000 }])
    const first = await open()
    const slow = async () => (await runs()).filter(({ item }) => item === 'slow')
    await until('it waits in the table', async () => (await world.waiting('timed')).length === 2)
    const ticks = async () => new Set((await slow()).map(({ scheduledAt }) => scheduledAt.getTime())).size
    expect(await ticks()).toBe(1)
    const begun = (await slow()).length
    await first.stop(0)
    await open()
    await until('it is tried again', async () => (await slow()).length > begun)
    const folded = async () => (await figures()).reduce((sum, shard) => sum + shard.folded, 0)
    const before = await folded()
    await until('more of its ticks are folded', async () => (await folded()) > before + 2)
    expect(await ticks()).toBe(1)
    expect((await world.waiting('timed')).length).toBe(2)
  })

  it('is held by as many processes as its items need, and no more', { timeout }, async () => {
    await putItems(world.db, items(30, 60_000, 0))
    for (const _ of [1, 2, 3]) await open({ perProducer: 20, lease: 3_000 })
    await until(
      'two of three hold it',
      async () => (await holders()).size === 2 && (await figures()).every(({ holder }) => holder !== null),
    )
    await putItems(world.db, items(45, 60_000, 0))
    await until('all three do', async () => (await holders()).size === 3)
    await putItems(
      world.db,
      items(35, 60_000, 0, 10).map((item) => ({ ...item, active: false })),
    )
    await until(
      'one does',
      async () => (await holders()).size === 1 && (await figures()).every(({ holder }) => holder !== null),
    )
  })
})
