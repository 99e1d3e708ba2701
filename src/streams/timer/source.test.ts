/** Timers in virtual time: an hour in seconds. */
import { afterEach, describe, expect, it, vi } from 'vitest'
import { plainCapabilities } from '../../../test/stream-world.ts'
import { Heap } from '../../core/heap.ts'
import { stableHash } from '../../core/stable-hash.ts'
import { offsetOf, phaseOf, tickFrom, timeOfOffset } from '../../core/ticks.ts'
import type { SourceReader, SourceRecord } from '../../ports/source.ts'
import { z } from '../../sdk/schema.ts'
import { type Timer, timer } from '../../sdk/timer.ts'
import { Timers } from './timers.ts'

const begin = Date.UTC(2026, 2, 28, 12)
const limits = { records: 1_000, bytes: 8_388_608 }

interface Probe {
  id: string
  every: string
  /** How long its steps take. */
  ms: number
}

function probes(list: readonly Probe[], shards: number): Timer {
  return timer('probes', {
    schema: z.object({ id: z.string(), every: z.string(), ms: z.number() }),
    items: () => list,
    id: (one) => one.id,
    every: (one) => one.every,
    shards,
  }) as Timer
}

function timersAt(clock: { now(): number }) {
  const reports: string[] = []
  const timers = new Timers({ capabilities: plainCapabilities, clock, report: (message) => reports.push(message) })
  return { timers, reports }
}

const ticksOf = (id: string, intervalMs: number, to: number): number =>
  Math.floor((to - tickFrom(phaseOf(id, intervalMs), intervalMs, begin)) / intervalMs) + 1

/** A shard without a database: records of one item go one after another, all others at once. */
class PlayedShard {
  readonly reader: SourceReader
  readonly running = new Map<string, SourceRecord[]>()
  received = 0
  missed = 0
  folded = 0

  constructor(
    source: { open: (partition: number, from: number, wake: () => void) => SourceReader },
    partition: number,
  ) {
    this.reader = source.open(partition, offsetOf(begin), () => {})
  }

  /** Gives the records that begin now. */
  async read(): Promise<SourceRecord[]> {
    const begun: SourceRecord[] = []
    for (;;) {
      const { records } = await this.reader.read(0, limits)
      if (records.length === 0) return begun
      for (const record of records) {
        this.received += 1
        this.missed += record.skipped!.missed
        this.folded += record.skipped!.folded
        const queue = this.running.get(record.key!) ?? []
        this.running.set(record.key!, [...queue, record])
        if (queue.length === 0) begun.push(record)
      }
    }
  }

  /** The record that runs is over; gives the one that begins. */
  end(key: string): SourceRecord | undefined {
    const [over, ...rest] = this.running.get(key)!
    this.reader.ended?.(over!.offset)
    if (rest.length > 0) this.running.set(key, rest)
    else this.running.delete(key)
    return rest[0]
  }
}

describe('a timer', () => {
  afterEach(() => void vi.useRealTimers())

  it('runs 10,000 items every minute for an hour: none early, none omitted, none twice, no overlap, and slow ones delay nobody', {
    timeout: 300_000,
  }, async () => {
    const stepMs = 1_000
    // Most take up to a second, one of 100 half a minute, one of 1,000 a minute and a half.
    const list = Array.from({ length: 10_000 }, (_, n): Probe => {
      const ms = n % 1_000 === 0 ? 90_000 : n % 100 === 1 ? 30_000 : 50 + (n % 951)
      return { id: `probe-${n}`, every: '60s', ms }
    })
    const byId = new Map(list.map((one) => [one.id, one]))
    let now = begin
    const { timers, reports } = timersAt({ now: () => now })
    const source = timers.source(probes(list, 16))
    const shards = Array.from({ length: 16 }, (_, partition) => new PlayedShard(source, partition))
    await vi.waitFor(() => expect(shards.every(({ reader }) => reader.figures!.items > 0)).toBe(true))

    const ends = new Heap<{ at: number; shard: PlayedShard; key: string }>((one, other) => one.at < other.at)
    const seen = new Map<string, number>()
    let [latest, early, twice] = [0, 0, 0]
    const start = (shard: PlayedShard, { key, offset }: SourceRecord, at: number) => {
      const due = timeOfOffset(offset)
      const { ms } = byId.get(key!)!
      if (due > at) early += 1
      if (due <= (seen.get(key!) ?? 0)) twice += 1
      seen.set(key!, due)
      if (ms < 60_000) latest = Math.max(latest, at - due)
      ends.push({ at: at + ms, shard, key: key! })
    }
    const endBy = (time: number) => {
      for (let next = ends.peek(); next !== undefined && next.at <= time; next = ends.peek()) {
        const { at, shard, key } = ends.pop()!
        const following = shard.end(key)
        if (following !== undefined) start(shard, following, at)
      }
    }
    for (const until = begin + 3_600_000; now <= until; now += stepMs) {
      endBy(now)
      for (const shard of shards) for (const record of await shard.read()) start(shard, record, now)
    }
    now -= stepMs

    expect({ early, twice, reports }).toEqual({ early: 0, twice: 0, reports: [] })
    // Nobody but those who take longer than their interval began later than the step of time in which they were due.
    expect(latest).toBeLessThanOrEqual(stepMs)
    const sum = (of: (shard: PlayedShard) => number) => shards.reduce((total, shard) => total + of(shard), 0)
    expect(sum(({ missed }) => missed)).toBe(0)
    expect(sum(({ folded }) => folded)).toBeGreaterThan(100)
    // Ticks that are folded are counted with the next record of their shard.
    const ticks = list.reduce((total, { id }) => total + ticksOf(id, 60_000, now), 0)
    const accounted = sum(({ received }) => received) + sum(({ folded }) => folded)
    expect(ticks - accounted).toBeGreaterThanOrEqual(0)
    expect(ticks - accounted).toBeLessThanOrEqual(16)
    for (const [key, due] of seen) if (byId.get(key)!.ms < 60_000) expect(due).toBeGreaterThan(now - 60_000)
    expect(seen.size).toBe(10_000)
    for (const { reader } of shards) await reader.close()
  })

  it('gives every item to one shard, by its id', async () => {
    const list = Array.from({ length: 500 }, (_, n): Probe => ({ id: `p${n}`, every: '1s', ms: 0 }))
    let now = begin
    const { timers } = timersAt({ now: () => now })
    const source = timers.source(probes(list, 7))
    const shards = Array.from({ length: 7 }, (_, partition) => new PlayedShard(source, partition))
    await vi.waitFor(() => expect(shards.every(({ reader }) => reader.figures!.items > 0)).toBe(true))
    now += 1_000
    const found: string[] = []
    for (const [partition, shard] of shards.entries()) {
      const records = await shard.read()
      found.push(...records.map(({ key }) => key!))
      for (const { key } of records) expect(stableHash(key!) % 7).toBe(partition)
      await shard.reader.close()
    }
    expect(new Set(found).size).toBe(500)
  })

  it('sets one alarm, to the next tick, and wakes its shard then', async () => {
    vi.useFakeTimers({ now: begin })
    const list = [1, 2, 3].map((n): Probe => ({ id: `p${n}`, every: '10s', ms: 0 }))
    const { timers } = timersAt({ now: () => Date.now() })
    const woken: number[] = []
    const reader = timers.source(probes(list, 1)).open(0, offsetOf(begin), () => woken.push(Date.now()))
    await vi.advanceTimersByTimeAsync(0)
    const alarms = vi.getTimerCount()
    const due = list.map(({ id }) => tickFrom(phaseOf(id, 10_000), 10_000, begin)).toSorted((a, b) => a - b)
    const found: number[] = []
    woken.length = 0
    for (const at of due) {
      expect((await reader.read(0, limits)).records).toEqual([])
      expect(vi.getTimerCount()).toBe(alarms + 1)
      await vi.advanceTimersByTimeAsync(at - Date.now() - 1)
      expect((await reader.read(0, limits)).records).toEqual([])
      await vi.advanceTimersByTimeAsync(1)
      const { records } = await reader.read(0, limits)
      found.push(...records.map(({ offset }) => timeOfOffset(offset)))
    }
    expect(found).toEqual(due)
    expect(woken).toEqual(expect.arrayContaining(due))
    await reader.close()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('moves its offset on in steps while nothing is due', async () => {
    let now = begin
    const { timers } = timersAt({ now: () => now })
    const reader = timers.source(probes([], 1)).open(0, offsetOf(begin), () => {})
    await vi.waitFor(async () => {
      now = begin + 10_000
      expect((await reader.read(offsetOf(begin), limits)).next).toBeGreaterThanOrEqual(offsetOf(now))
    })
    const from = offsetOf(now)
    now += 9_000
    expect((await reader.read(from, limits)).next).toBe(from)
    now += 2_000
    expect(timeOfOffset((await reader.read(from, limits)).next)).toBe(now + 1)
    await reader.close()
  })

  it('keeps to the bytes that it may read, and gives one record at least', async () => {
    const list = [1, 2, 3, 4].map((n): Probe => ({ id: `${n}${'x'.repeat(400)}`, every: '1s', ms: 0 }))
    let now = begin
    const { timers } = timersAt({ now: () => now })
    const reader = timers.source(probes(list, 1)).open(0, offsetOf(begin), () => {})
    await vi.waitFor(() => expect(reader.figures!.items).toBe(4))
    now += 1_000
    const first = await reader.read(0, { records: 10, bytes: 1_200 })
    expect(first.records.length).toBe(2)
    expect((await reader.read(0, { records: 10, bytes: 1 })).records.length).toBe(1)
    expect((await reader.read(0, { records: 10, bytes: 10_000 })).records.length).toBe(1)
    await reader.close()
  })

  it('says when it was further than the clock is', async () => {
    const { timers, reports } = timersAt({ now: () => begin })
    const reader = timers.source(probes([], 1)).open(0, offsetOf(begin + 3_600_000), () => {})
    expect(reports).toEqual([
      'a timer was further than the clock of this machine says it is: nothing is due until then',
    ])
    await reader.close()
  })
})
