/** More records of a dead host than a shard holds: they wait in the table alone, and nobody else waits with them. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { StreamWorld } from '../../test/stream-world.ts'
import { SluiceError } from '../errors.ts'
import { statement } from '../ports/database.ts'
import { z } from '../sdk/schema.ts'
import { documents, type Stream, stream } from '../sdk/stream.ts'
import { topic } from '../sdk/topic.ts'
import { totals } from '../store/ledger.ts'

let world: StreamWorld
beforeAll(async () => {
  world = await StreamWorld.open()
})
afterAll(() => world.close())

/** `SLUICE_APART_RECORDS=100000` for the count that is promised; the suite takes fewer. */
const many = Number(process.env.SLUICE_APART_RECORDS ?? 3_000)
const healthy = 1_000
const limits = many > 20_000 ? {} : { waiting: 1_000, readRecords: 500, distance: 1_000 }
/** Those of the dead host, that the shard may hold: half of the limit, what one read brings, and what fails of the distance. */
const held = many > 20_000 ? 10_000 : 2_000

interface Line {
  n: number
  key: string
  host: string
}

function lineStream(
  name: string,
  options: { readonly keyed: boolean; readonly distinct: boolean },
  host: { up: boolean },
) {
  const begun: Line[] = []
  const lines: unknown = stream(name, {
    from: topic(name, { schema: z.object({ n: z.number(), key: z.string(), host: z.string() }), partitions: 1 }),
    id: ({ n }: Line) => n,
    ...(options.keyed ? { key: (line: Line) => line.key } : {}),
    distinct: options.distinct,
    concurrency: { total: 64, per: ({ host }: Line) => host, each: 8 },
    retry: { attempts: 2, base: '1ms', max: '1ms' },
    steps: (records: { step: (work: (line: Line) => Promise<object>) => object }) =>
      records.step(async (line: Line) => {
        if (line.host === 'dead' && !host.up) {
          throw new SluiceError('HOST_RESTING', 'not now', { retryAfterMs: 60_000 })
        }
        begun.push(line)
        return { id: String(line.n) }
      }),
    to: documents(name, { key: 'id' }),
  } as never)
  return { definition: lines as Stream, begun }
}

const dueStatement = statement(
  'test.due',
  'update sluice.stream_waiting set due_at = sluice.sluice_now() where stream = $1 and due_at is not null',
)

it.each([
  { name: 'without keys', keyed: false, distinct: false, keyOf: (n: number) => `${n}` },
  { name: 'each with a key of its own', keyed: true, distinct: false, keyOf: (n: number) => `${n}` },
  { name: 'all of one key', keyed: true, distinct: false, keyOf: () => 'one' },
  { name: 'repeats of a few keys', keyed: true, distinct: true, keyOf: (n: number) => `k${n % 50}` },
])(
  'records of a dead host, $name, do not hold up those behind them',
  async ({ name, keyOf, ...options }) => {
    const id = `apart-${name.replaceAll(' ', '-')}`
    const host = { up: false }
    const { definition, begun } = lineStream(id, options, host)
    await world.make(definition)
    const total = many + healthy
    const line = (n: number): Line =>
      n < many ? { n, key: keyOf(n), host: 'dead' } : { n, key: `healthy-${n}`, host: `healthy-${n % 4}` }
    for (let from = 0; from < total; from += 5_000) {
      const count = Math.min(5_000, total - from)
      await world.publishValues(
        id,
        Array.from({ length: count }, (_, index) => ({ ...line(from + index) })),
      )
    }

    const [first] = await world.openShards(definition, { limits })
    await vi.waitFor(async () => expect(await world.documents(id)).toHaveLength(healthy), {
      timeout: 120_000,
      interval: 200,
    })
    expect(await totals(world.db, id)).toMatchObject({ received: total, written: healthy, waiting: many, queued: 0 })
    expect(first!.held).toBeLessThanOrEqual(held)
    expect(await world.breaches()).toEqual([])

    // One that comes later finds those of its key in the table alone, and waits behind them.
    await world.publishValues(id, [{ n: total, key: keyOf(0), host: 'up' }])
    await vi.waitFor(async () => expect((await totals(world.db, id)).received).toBe(total + 1), 60_000)
    if (options.keyed) expect(begun.some(({ n }) => n === total)).toBe(false)

    // Its next holder knows nothing but the table.
    first!.drop()
    await first!.closed
    host.up = true
    await world.db.execute(dueStatement, [id])
    await world.runToRest(definition, { limits })
    const sums = await totals(world.db, id)
    const written = options.distinct ? 50 + healthy : total + 1
    expect(sums).toMatchObject({ received: total + 1, written, duplicate: total + 1 - written, pending: 0 })
    expect(await world.waiting(id)).toEqual([])
    expect(await world.breaches({ atRest: true })).toEqual([])
    const byKey = Map.groupBy(begun, ({ key }) => key)
    for (const lines of options.keyed ? byKey.values() : []) {
      expect(lines.map(({ n }) => n)).toEqual(lines.map(({ n }) => n).toSorted((a, b) => a - b))
      if (options.distinct) expect(lines).toHaveLength(1)
    }
  },
  300_000,
)
