import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { until } from '../../../test/engine-world.ts'
import { IngestWorld, post, sample, statsEvents } from '../../../test/ingest-world.ts'
import { SluiceError } from '../../errors.ts'
import { type PipelinedDatabase, statement } from '../../ports/database.ts'
import { http } from '../../sdk/http-source.ts'
import { z } from '../../sdk/schema.ts'
import { stream } from '../../sdk/stream.ts'
import { topic } from '../../sdk/topic.ts'
import { forgetIngestIds } from '../../store/ingest.ts'
import { foldLedger } from '../../store/ledger.ts'
import { type StreamMode, setStreamMode } from '../../store/stream-controls.ts'
import { ensureTopic } from '../../store/topics.ts'

let world: IngestWorld
beforeEach(async () => {
  world = await IngestWorld.open()
})
afterEach(() => world.close())

const numbered = (count: number, from = 0) =>
  Array.from({ length: count }, (_, n) => ({ ...sample, id: `e${from + n}` }))
const unreachable = () => new SluiceError('DATABASE_UNREACHABLE', 'it is gone')
const unavailable = expect.objectContaining({ code: 'UNAVAILABLE', retryAfterMs: expect.any(Number) })

/** Stands before the commits of a process: each waits for its turn, and can be made to fail before or after it is done. */
class Gate {
  commits = 0
  /** What becomes of the commits to come, one after another; none: they pass. */
  readonly plan: ('pass' | 'lost before' | 'lost after' | Error | Promise<void>)[] = []

  readonly through = (database: PipelinedDatabase): PipelinedDatabase => ({
    ...database,
    pipeline: (steps) => this.#pass(() => database.pipeline(steps)),
    transaction: (work) => this.#pass(() => database.transaction(work)),
  })

  async #pass<T>(work: () => Promise<T>): Promise<T> {
    this.commits += 1
    const fate = this.plan.shift() ?? 'pass'
    if (fate === 'lost before') throw unreachable()
    if (fate instanceof Error) throw fate
    if (fate instanceof Promise) await fate
    const result = await work()
    if (fate === 'lost after') throw unreachable()
    return result
  }
}

describe('a group commit', () => {
  it('stores an event and tells the id that was made for it; the ledger counts it', async () => {
    const point = (await world.serve()).point()
    expect(await post(point, sample)).toEqual([{ outcome: 'stored', id: 'made-1' }])
    expect(await world.rows()).toEqual([{ eventId: 'made-1', token: sample.token, p2p: sample.p2p }])
    expect(await world.totals()).toMatchObject({ received: 1, written: 1, pending: 0 })
    expect(await world.breaches()).toEqual([])
  })

  it('takes what arrived while the last was under way', async () => {
    const gate = new Gate()
    let open = () => {}
    gate.plan.push(new Promise((resolve) => (open = resolve)))
    const point = (await world.serve({ through: gate.through })).point()
    const first = post(point, numbered(1))
    await until('the commit', async () => gate.commits === 1)
    const others = Promise.all(numbered(50, 1).map((one) => post(point, one)))
    open()
    await first
    await others
    expect(gate.commits).toBe(2)
    expect((await world.batches()).map(({ received }) => received)).toEqual([1, 50])
    expect(await world.rows()).toHaveLength(51)
  })

  it('is bounded: more wait for the next', async () => {
    const gate = new Gate()
    const point = (await world.serve({ through: gate.through, limits: { groupEvents: 10 } })).point()
    await Promise.all(numbered(35).map((one) => post(point, one)))
    const sizes = (await world.batches()).map(({ received }) => received)
    expect(Math.max(...sizes)).toBe(10)
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(35)
  })

  it('turns away at once what is over the bound of memory, and takes it when there is room', async () => {
    const gate = new Gate()
    let open = () => {}
    gate.plan.push(new Promise((resolve) => (open = resolve)))
    const point = (await world.serve({ through: gate.through, limits: { mostEvents: 20 } })).point()
    const taken = [post(point, numbered(10)), post(point, numbered(10, 10))]
    await expect(post(point, numbered(1, 20))).rejects.toEqual(unavailable)
    open()
    await Promise.all(taken)
    expect(await post(point, numbered(1, 20))).toEqual([{ outcome: 'stored', id: 'e20' }])
    // One request alone may have more than the bound.
    expect(await post(point, numbered(30, 100))).toHaveLength(30)
  })

  it('finds the events that the table refuses, however many, and stores the others', async () => {
    const point = (await world.serve()).point()
    const events = numbered(64).map((one, n) => (n % 9 === 0 ? { ...one, p2p: 13 } : one))
    const ends = await post(point, events)
    expect(ends.map(({ outcome }) => outcome === 'rejected')).toEqual(events.map(({ p2p }) => p2p === 13))
    expect(await world.rows()).toHaveLength(56)
    expect(await world.totals()).toMatchObject({
      received: 64,
      written: 56,
      rejected: 8,
      rejectedByReason: { 'not storable': 8 },
    })
    expect(await world.breaches()).toEqual([])
  })

  it('counts what was rejected by reason, without a row per record', async () => {
    const point = (await world.serve()).point()
    await post(point, [{}, { token: 1 }, sample, { ...sample, customer: 'bug' }])
    await post(point, {})
    await until('the counts', async () => (await world.totals()).received === 5)
    const counts = { received: 5, written: 1, rejected: 4, rejectedByReason: { 'function failed': 1, malformed: 3 } }
    expect(await world.totals()).toMatchObject(counts)
    const records = statement<{ count: number }>(
      'test.ingest-records',
      'select count(*)::int from sluice.ledger_records',
    )
    expect(await world.db.query(records)).toEqual([{ count: 0 }])
    await foldLedger(world.db, new Date(Date.now() + 60_000))
    expect(await world.totals()).toMatchObject(counts)
    expect(await world.breaches()).toEqual([])
  })
})

describe('an id', () => {
  it('that comes three times at once is stored once', async () => {
    const point = (await world.serve()).point()
    const ends = await Promise.all([1, 2, 3].map(() => post(point, { ...sample, id: 'same' })))
    expect(
      ends
        .flat()
        .map(({ outcome }) => outcome)
        .sort(),
    ).toEqual(['duplicate', 'duplicate', 'stored'])
    expect(await world.rows()).toHaveLength(1)
    expect(await world.totals()).toMatchObject({ received: 3, written: 1, duplicate: 2 })
  })

  it('that comes to three processes at once is stored once', async () => {
    const points = await Promise.all([1, 2, 3].map(async () => (await world.serve()).point()))
    const all = await Promise.all(points.flatMap((point) => [0, 1, 2, 3].map(() => post(point, numbered(25)))))
    const outcomes = all.flat().map(({ outcome }) => outcome)
    expect(outcomes.filter((outcome) => outcome === 'stored')).toHaveLength(25)
    expect(outcomes.filter((outcome) => outcome === 'duplicate')).toHaveLength(275)
    expect((await world.rows()).map(({ eventId }) => eventId).sort()).toEqual(
      numbered(25)
        .map(({ id }) => id)
        .sort(),
    )
    expect(await world.totals()).toMatchObject({ received: 300, written: 25, duplicate: 275 })
    expect(await world.lanes()).toHaveLength(3)
    expect(await world.breaches()).toEqual([])
  })

  it('is known when the row is gone, until its time is over', async () => {
    const point = (await world.serve()).point()
    await post(point, numbered(2))
    await world.db.script('delete from ingest_test.raw')
    expect(await forgetIngestIds(world.db, 100)).toBe(0)
    expect((await post(point, numbered(3))).map(({ outcome }) => outcome)).toEqual(['duplicate', 'duplicate', 'stored'])
    await world.db.script(`update sluice.ingest_ids set expires_at = expires_at - interval '24 hours 1 minute'`)
    expect([await forgetIngestIds(world.db, 2), await forgetIngestIds(world.db, 2)]).toEqual([2, 1])
    expect((await post(point, numbered(1)))[0]).toMatchObject({ outcome: 'stored' })
  })

  it('of one stream is not that of another', async () => {
    const ingest = await world.serve()
    const event = { ...sample, id: 'same' }
    expect((await post(ingest.point(), event))[0]).toMatchObject({ outcome: 'stored' })
    expect((await post(ingest.point('keyed-events'), event))[0]).toMatchObject({ outcome: 'stored' })
  })

  it('is the Idempotency-Key where the event has none; in a batch with its place', async () => {
    const point = (await world.serve()).point()
    expect(await post(point, sample, { key: 'k' })).toEqual([{ outcome: 'stored', id: 'k' }])
    expect(await post(point, sample, { key: 'k' })).toEqual([{ outcome: 'duplicate', id: 'k' }])
    expect(await post(point, [sample, sample], { key: 'k' })).toMatchObject([
      { id: 'k#0', outcome: 'stored' },
      { id: 'k#1' },
    ])
    expect(await post(point, [sample, sample], { key: 'k' })).toMatchObject([
      { outcome: 'duplicate' },
      { outcome: 'duplicate' },
    ])
  })
})

describe('a commit that fails', () => {
  it('of which nobody knows the end is answered as unavailable; sent again under its id the event is there once', async () => {
    for (const fate of ['lost after', 'lost before'] as const) {
      const gate = new Gate()
      const point = (await world.serve({ through: gate.through })).point()
      gate.plan.push(fate)
      const event = { ...sample, id: fate }
      await expect(post(point, event)).rejects.toEqual(unavailable)
      const [end] = await insist(point, event)
      expect(end?.outcome).toBe(fate === 'lost after' ? 'duplicate' : 'stored')
    }
    expect((await world.rows()).map(({ eventId }) => eventId).sort()).toEqual(['lost after', 'lost before'])
    expect(await world.breaches()).toEqual([])
  })

  it('since another holds the shard writes nothing; the process takes a shard again', async () => {
    const one = (await world.serve()).point()
    await post(one, numbered(1))
    await world.lapse()
    const other = (await world.serve()).point()
    await post(other, numbered(1, 1))
    await expect(post(one, numbered(1, 2))).rejects.toEqual(unavailable)
    expect(await world.rows()).toHaveLength(2)
    expect(await insist(one, numbered(1, 2)[0]!)).toEqual([{ outcome: 'stored', id: 'e2' }])
    expect((await world.lanes()).map(({ epoch }) => epoch)).toEqual([2, 1])
    expect(await world.breaches()).toEqual([])
  })

  it('for a table that is not there any more is told, and events are turned away until it is', async () => {
    const ingest = await world.serve()
    await world.db.script('alter table ingest_test.raw rename to gone')
    await expect(post(ingest.point(), sample)).rejects.toEqual(unavailable)
    await until('the lane to close', async () => ingest.closed().includes('stats-events'))
    await expect(post(ingest.point(), sample)).rejects.toEqual(unavailable)
    expect(world.reports.at(-1)?.fields.error).toMatch(/ingest_test\.raw/)
    await world.db.script('alter table ingest_test.gone rename to raw')
    expect(await insist(ingest.point(), sample)).toMatchObject([{ outcome: 'stored' }])
  })

  it('for a lock that does not come turns away its group alone', async () => {
    const gate = new Gate()
    const point = (await world.serve({ through: gate.through })).point()
    await post(point, numbered(1))
    gate.plan.push(Object.assign(new Error('lock timeout'), { code: '55P03' }))
    await expect(post(point, numbered(1, 1))).rejects.toEqual(unavailable)
    expect(await post(point, numbered(1, 1))).toMatchObject([{ outcome: 'stored' }])
    expect(await world.lanes()).toMatchObject([{ epoch: 1 }])
  })
})

describe('lanes', () => {
  it('are given back when the process stops, after what it took is committed; others take them', async () => {
    const gate = new Gate()
    let open = () => {}
    gate.plan.push(new Promise((resolve) => (open = resolve)))
    const ingest = await world.serve({ through: gate.through })
    const taken = [post(ingest.point(), numbered(1)), post(ingest.point(), numbered(1, 1))]
    const stopped = ingest.stop()
    open()
    expect(await Promise.all(taken)).toMatchObject([[{ outcome: 'stored' }], [{ outcome: 'stored' }]])
    await stopped
    await expect(post(ingest.point(), numbered(1, 2))).rejects.toEqual(unavailable)
    expect(await world.lanes()).toMatchObject([{ partition: 0, holder: null, committedOffset: 2 }])
    const other = await world.serve()
    await post(other.point(), numbered(1, 3))
    expect(await world.lanes()).toMatchObject([{ partition: 0, epoch: 2, committedOffset: 3 }])
    expect(await world.breaches()).toEqual([])
  })

  it('are renewed, and a lease that is gone is noticed', async () => {
    const ingest = await world.serve({ leaseMs: 300 })
    await world.serve({ leaseMs: 300 })
    expect(await world.lanes()).toHaveLength(2)
    const before = (await world.lanes())[0]!
    await world.db.script(`update sluice.shards set epoch = epoch + 1, holder = gen_random_uuid(), lease_until = 'infinity'
      where stream = 'stats-events' and partition = 0`)
    await until('another lane', async () => (await world.lanes()).length === 3)
    expect((await world.lanes())[2]?.holder).toBe(before.holder)
    expect(await insist(ingest.point(), sample)).toMatchObject([{ outcome: 'stored' }])
  })

  it.each(['paused', 'draining'] as const)('of a stream that is %s turn events away until it goes on', async (mode) => {
    const ingest = await world.serve()
    const ask = async (wanted: StreamMode) => {
      const asked = { id: randomUUID(), by: 'ada', note: null }
      await world.db.transaction((session) => setStreamMode(session, 'stats-events', wanted, asked))
      await ingest.look()
    }
    await post(ingest.point(), numbered(1))
    await ask(mode)
    await expect(post(ingest.point(), numbered(1, 1))).rejects.toEqual(unavailable)
    expect(ingest.closed()).toEqual([])
    await ask('running')
    expect(await post(ingest.point(), numbered(1, 1))).toMatchObject([{ outcome: 'stored' }])
    expect(await world.totals()).toMatchObject({ received: 2, written: 2 })
  })
})

describe('sinks', () => {
  it('a table with a key: a row that is there leaves the event a duplicate, also under another id', async () => {
    const point = (await world.serve()).point('keyed-events')
    const ends = await post(point, [
      { ...sample, id: 'a', token: 't1' },
      { ...sample, id: 'b', token: 't2' },
      { ...sample, id: 'c', token: 't1' },
      { ...sample, id: 'a', token: 't3' },
    ])
    expect(ends.map(({ outcome }) => outcome)).toEqual(['stored', 'stored', 'duplicate', 'duplicate'])
    expect(await world.keyed()).toMatchObject([
      { token: 't1', recordId: 'a' },
      { token: 't2', recordId: 'b' },
    ])
    expect(await world.totals('keyed-events')).toMatchObject({ received: 4, written: 2, duplicate: 2 })
    expect(await world.breaches()).toEqual([])
  })

  it('a topic: the event is published under its id', async () => {
    const token = z.object({ token: z.string() })
    const tokens = topic('tokens', { schema: token, key: (one) => one.token })
    await ensureTopic(world.db, 'tokens', 1)
    const tokenEvents = stream('token-events', {
      from: http('POST /tokens', { schema: token }),
      id: (one) => one.token,
      row: (one) => ({ token: one.token }),
      to: tokens,
    })
    const point = (await world.serve({ streams: [tokenEvents] as never })).point('token-events')
    expect(await post(point, [{ token: 'a' }, { token: 'b' }, { token: 'a' }])).toMatchObject([
      { outcome: 'stored' },
      { outcome: 'stored' },
      { outcome: 'duplicate' },
    ])
    const published = statement<{ id: string; key: string; value: string }>(
      'test.ingest-published',
      `select id, key, value from sluice.topic_records where topic = 'tokens' order by "offset"`,
    )
    const values = (await world.db.query(published)).map(({ key, value }) => ({ key, value: JSON.parse(value) }))
    expect(values).toEqual([
      { key: 'a', value: { token: 'a' } },
      { key: 'b', value: { token: 'b' } },
    ])
  })

  it('is told of as closed while its table is not there, at the start too', async () => {
    await world.db.script('drop table ingest_test.raw')
    const ingest = await world.serve({ streams: [statsEvents] as never })
    expect(ingest.closed()).toEqual(['stats-events'])
    await expect(post(ingest.point(), sample)).rejects.toEqual(unavailable)
  })
})

/** As a client does that has its event acknowledged, however long it takes. */
async function insist(point: Parameters<typeof post>[0], event: object) {
  let ends: Awaited<ReturnType<typeof post>> = []
  await until('the acknowledgement', async () => {
    ends = await post(point, event).catch(() => [])
    return ends.length > 0
  })
  return ends
}
