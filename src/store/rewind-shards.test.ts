/** Rewinds against streams that run: what is received again is counted once. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { StreamWorld } from '../../test/stream-world.ts'
import { balances } from '../core/ledger.ts'
import { statement } from '../ports/database.ts'
import { z } from '../sdk/schema.ts'
import { documents, type Stream, stream } from '../sdk/stream.ts'
import { topic } from '../sdk/topic.ts'
import { totals } from './ledger.ts'
import { type RewindTarget, rewindShards } from './rewind-shards.ts'
import { streamOperations } from './stream-controls.ts'

let world: StreamWorld
let made = 0
beforeAll(async () => {
  world = await StreamWorld.open()
})
afterAll(() => world.close())

interface Line {
  n: number
  kind: 'good' | 'bad' | 'odd' | 'dead'
}

/** A stream whose records end as their kind says; `mended` lets those that die go through. */
function lines(partitions = 1) {
  made += 1
  const name = `lines-${made}`
  const state = { mended: false, tried: 0 }
  const from = topic(name, { schema: z.object({ n: z.number(), kind: z.string() }), partitions })
  const definition: unknown = stream(name, {
    from,
    id: (line) => line.n,
    retry: { attempts: 1 },
    steps: (records) =>
      records.step((line, { reject, filter }) => {
        state.tried += 1
        if (line.kind === 'bad') reject('bad line')
        if (line.kind === 'odd') filter()
        if (line.kind === 'dead' && !state.mended) throw new Error('no answer')
        return { id: `${name}-${line.n}` }
      }),
    to: documents(name, { key: 'id' }),
  })
  return { name, definition: definition as Stream, state }
}

const kinds = ['good', 'bad', 'odd', 'dead', 'good'] as const
const someLines = (count: number, from = 0): Line[] =>
  Array.from({ length: count }, (_, index) => ({ n: from + index, kind: kinds[(from + index) % kinds.length]! }))

async function rewind(name: string, target: RewindTarget, partition: number | null = null, keptFrom?: number[]) {
  const asked = { id: randomUUID(), by: 'ada', note: 'a fault was mended' }
  return world.db.transaction((session) => rewindShards(session, name, { target, partition, keptFrom }, asked))
}

const moveAway = statement('test.move-away', `update sluice.shards set topic = 'kafka:' || topic where stream = $1`)

async function sums(name: string) {
  const { queued, waiting, rejectedByReason, ...terms } = await totals(world.db, name)
  expect(balances(terms)).toBe(true)
  return { ...terms, queued, waiting, rejectedByReason }
}

describe('a rewind', () => {
  it('to the beginning has everything received again, and counts it once', async () => {
    const { name, definition, state } = lines()
    await world.make(definition)
    await world.publishValues(name, someLines(10) as never)
    await world.runToRest(definition)
    const before = await sums(name)
    expect(before).toMatchObject({ received: 10, written: 4, rejected: 2, filtered: 2, dead: 2, pending: 0 })
    expect(await rewind(name, 'beginning')).toEqual([{ partition: 0, from: 10, to: 0, records: 10 }])
    expect(await sums(name)).toMatchObject({
      ...{ received: 10, pending: 10, queued: 10, written: 0, rejected: 0, dead: 0 },
      rejectedByReason: {},
    })
    expect(await world.waiting(name)).toEqual([])
    state.mended = true
    await world.runToRest(definition)
    expect(state.tried).toBe(20)
    expect(await sums(name)).toMatchObject({
      ...{ received: 10, written: 6, rejected: 2, filtered: 2, dead: 0, pending: 0 },
      rejectedByReason: { 'bad line': 2 },
    })
    expect(await world.documents(name)).toHaveLength(6)
    const [operation] = await streamOperations(world.db, name, { before: null, limit: 10 })
    expect(operation).toMatchObject({
      act: 'rewind',
      by: 'ada',
      note: 'a fault was mended',
      detail: { target: 'beginning' },
    })
  })

  it('goes to the beginning of the batch with the offset, as often as one likes', async () => {
    const { name, definition } = lines()
    for (let from = 0; from < 30; from += 10) {
      await world.make(definition)
      await world.publishValues(name, someLines(10, from) as never)
      await world.runToRest(definition)
    }
    const before = await sums(name)
    expect(await rewind(name, { offset: 15 })).toEqual([{ partition: 0, from: 30, to: 10, records: 20 }])
    await world.runToRest(definition)
    expect(await sums(name)).toEqual(before)
    // The batches of the first time above 10 are none any more: those of the second time are.
    const [again] = await rewind(name, { offset: 3 })
    expect(again).toEqual({ partition: 0, from: 30, to: 0, records: 30 })
    await world.runToRest(definition)
    expect(await sums(name)).toEqual(before)
    expect(await rewind(name, { offset: 30 })).toEqual([{ partition: 0, from: 30, to: 30, records: 0 }])
    expect(await rewind(name, { time: new Date(Date.now() + 3_600_000) })).toEqual([
      { partition: 0, from: 30, to: 30, records: 0 },
    ])
  })

  it('goes no further back than a topic keeps that lies elsewhere', async () => {
    const { name, definition } = lines()
    for (let from = 0; from < 30; from += 10) {
      await world.make(definition)
      await world.publishValues(name, someLines(10, from) as never)
      await world.runToRest(definition)
    }
    // Of the topic that lies here nobody else knows it better.
    expect(await rewind(name, { offset: 25 }, null, [30])).toMatchObject([{ to: 20 }])
    await world.runToRest(definition)
    await world.db.execute(moveAway, [name])
    await expect(rewind(name, { offset: 15 }, null, [12])).rejects.toThrow('the topic keeps its records from 12 on')
    expect(await rewind(name, 'beginning', null, [12])).toEqual([{ partition: 0, from: 30, to: 20, records: 10 }])
  })

  it('takes what was replayed and what retries in the meantime back with it', async () => {
    const { name, definition, state } = lines(3)
    await world.make(definition)
    await world.publishValues(name, someLines(50) as never)
    await world.runToRest(definition)
    const all = await sums(name)
    expect(all).toMatchObject({ received: 50, dead: 10 })
    const back = await rewind(name, 'beginning', 1)
    expect(back).toMatchObject([{ partition: 1, to: 0 }])
    state.mended = true
    await world.runToRest(definition)
    const now = await sums(name)
    expect(now).toMatchObject({ received: 50, pending: 0 })
    expect(now.dead + now.written).toBe(all.dead + all.written)
    expect(now.dead).toBeLessThan(all.dead)
  })

  it('fences whoever holds the shard: what was in its hands is received again, and nothing is lost or doubled', async () => {
    const { name, definition } = lines()
    await world.make(definition)
    await world.publishValues(name, someLines(20) as never)
    const [shard] = await world.openShards(definition)
    await shard!.settled()
    await rewind(name, 'beginning')
    await world.publishValues(name, someLines(5, 20) as never)
    shard!.wake()
    expect(String(await shard!.closed)).toContain('no longer held')
    await world.runToRest(definition)
    expect(await sums(name)).toMatchObject({ received: 25, pending: 0, written: 10, dead: 5 })
  })

  it('refuses what is not there', async () => {
    const { name, definition } = lines()
    await world.make(definition)
    await expect(rewind('nothing', 'beginning')).rejects.toThrow('nothing has no shards')
    await expect(rewind(name, 'beginning', 7)).rejects.toThrow('has no partition 7')
    expect(await rewind(name, 'beginning')).toEqual([{ partition: 0, from: 0, to: 0, records: 0 }])
  })
})
