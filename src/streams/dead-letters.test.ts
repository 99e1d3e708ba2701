/** Dead letters in a stream that runs: edited, replayed, dying again, whatever happens at the same time. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { breaches } from '../../test/invariants/check.ts'
import { StreamWorld } from '../../test/stream-world.ts'
import { balances } from '../core/ledger.ts'
import type { Database } from '../ports/database.ts'
import { z } from '../sdk/schema.ts'
import { documents, type Stream, stream } from '../sdk/stream.ts'
import { topic } from '../sdk/topic.ts'
import { findDeadLetter, listDeadLetters } from '../store/dead-letters.ts'
import { editDeadLetter } from '../store/edit-dead-letter.ts'
import { totals } from '../store/ledger.ts'
import { type ReplaySelection, replayDeadLetters } from '../store/replay-dead-letters.ts'
import { identify } from './intake.ts'

interface Picture {
  id: string
  url: string
}
interface Line {
  n: number
  url: string
}

let world: StreamWorld
let made = 0
beforeAll(async () => {
  world = await StreamWorld.open()
})
afterEach(async () => {
  expect(await world.breaches()).toEqual([])
})
afterAll(async () => {
  expect(await breaches(world.db, { atRest: true })).toEqual([])
  await world.close()
})

/** `work` gives the key of the document; what it throws counts as a failed attempt, of two. */
function letters({ distinct = true, partitions = 1, total = 64 }, work: (line: Line) => string) {
  made += 1
  const name = `letters-${made}`
  const lines = topic(name, { schema: z.object({ n: z.number(), url: z.string() }), partitions })
  const definition: unknown = stream(name, {
    from: lines,
    id: (line) => line.n,
    key: (line) => line.url,
    ...(distinct ? { distinct: true } : {}),
    concurrency: { total },
    retry: { attempts: 2, base: '1ms', max: '1ms' },
    steps: (records) => records.step(async (line): Promise<Picture> => ({ id: work(line), url: line.url })),
    to: documents(name, { key: 'id', merge: (document: Picture): Picture => document }),
  })
  return { name, definition: definition as Stream }
}

const edit = (
  { name, definition }: { name: string; definition: Stream },
  offset: number,
  line: unknown,
  more: { seenEdits?: number; note?: string; partition?: number; database?: Database } = {},
) => {
  const value = JSON.stringify(line)
  const identity = identify(definition, value)
  if ('fault' in identity) throw new Error(identity.fault)
  const { seenEdits = null, note = null, partition = 0, database = world.db } = more
  return database.transaction((session) =>
    editDeadLetter(session, {
      ...{ stream: name, partition, offset, value, ...identity, by: 'ada', note, seenEdits },
      distinct: definition.options.distinct !== undefined,
    }),
  )
}

const replay = (name: string, selection: ReplaySelection = {}) =>
  replayDeadLetters(world.db, name, selection, { distinct: true })

/** The totals, after they were recounted record by record with other SQL. */
async function counted(name: string) {
  const sums = await totals(world.db, name)
  const { queued: _queued, waiting: _waiting, rejectedByReason: _reasons, ...terms } = sums
  expect(balances(terms)).toBe(true)
  const ends = await world.ends(name)
  const count = (outcome: string) => ends.filter((end) => end.outcome === outcome).length
  const { written, duplicate, rejected, dead, waiting } = sums
  expect({ written, duplicate, rejected, dead, waiting }).toEqual({
    ...{ written: count('written'), duplicate: count('duplicate'), rejected: count('rejected') },
    ...{ dead: count('dead'), waiting: count('waiting') },
  })
  expect(await breaches(world.db)).toEqual([])
  expect((await world.waiting(name)).filter(({ state }) => state === 'dead')).toHaveLength(dead)
  return sums
}

const die = (): never => {
  throw new Error('no answer')
}
const lines = (...list: string[]) => list.map((url, n) => ({ n, url }))

async function started(one: { name: string; definition: Stream }, ...list: string[]) {
  await world.make(one.definition)
  await world.publishValues(one.name, lines(...list))
  await world.runToRest(one.definition)
}

describe('an edited dead letter', () => {
  it('keeps its id and place, shows every value it had, and ends as the new value does', async () => {
    const one = letters({}, ({ url }) => (url === 'wrong' ? die() : url))
    await started(one, 'up', 'wrong')
    await edit(one, 1, { n: 1, url: 'right' }, { note: 'a slip' })
    expect(await counted(one.name)).toMatchObject({ received: 2, written: 1, dead: 1 })
    expect(await findDeadLetter(world.db, one.name, 0, 1)).toMatchObject({
      ...{ state: 'dead', recordId: '1', key: 'right', edits: 1, attempts: 2, reason: 'failed', detail: 'no answer' },
      ...{ value: '{"n":1,"url":"right"}', original: '{"n":1,"url":"wrong"}' },
      changes: [{ by: 'ada', note: 'a slip', value: '{"n":1,"url":"right"}' }],
      errors: [
        { attempt: 1, reason: 'failed', detail: 'no answer' },
        { attempt: 2, reason: 'failed', detail: 'no answer' },
      ],
      behind: { dead: 0, waiting: 0 },
    })
    expect(await replay(one.name, { letters: ['0:1'] })).toEqual({ replayed: 1, remaining: 0, notDead: [] })
    await world.runToRest(one.definition)
    expect(await counted(one.name)).toMatchObject({ received: 2, written: 2, dead: 0, pending: 0 })
    expect(await world.documents(one.name)).toMatchObject([{ key: 'right', recordId: '1' }, { key: 'up' }])
    // What it was stays visible after its end.
    expect(await findDeadLetter(world.db, one.name, 0, 1)).toMatchObject({
      ...{ state: 'written', recordId: '1', original: '{"n":1,"url":"wrong"}', value: '{"n":1,"url":"right"}' },
      history: [{ outcome: 'waiting' }, { outcome: 'dead' }, { outcome: 'waiting' }, { outcome: 'written' }],
    })
  })

  it('is refused for another id, another state, an edit in between, and where nothing is', async () => {
    const one = letters({}, ({ url }) => (url === 'down' ? die() : url))
    await started(one, 'down', 'up')
    await expect(edit(one, 0, { n: 7, url: 'down' })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringContaining('"7"; the record\'s id "0" must stay'),
    })
    await expect(edit(one, 1, { n: 1, url: 'x' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(edit(one, 99, { n: 1, url: 'x' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(edit(one, 0, { n: 1, url: 'x' }, { partition: 9 })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await edit(one, 0, { n: 0, url: 'a' }, { seenEdits: 0 })
    await expect(edit(one, 0, { n: 0, url: 'b' }, { seenEdits: 0 })).rejects.toMatchObject({ code: 'CONFLICT' })
    // Asking again for what is there changes nothing.
    await edit(one, 0, { n: 0, url: 'a' })
    expect(await findDeadLetter(world.db, one.name, 0, 0)).toMatchObject({ edits: 1, value: '{"n":0,"url":"a"}' })
    await replay(one.name)
    await expect(edit(one, 0, { n: 0, url: 'c' })).rejects.toMatchObject({ code: 'CONFLICT' })
    await world.runToRest(one.definition)
    expect(await counted(one.name)).toMatchObject({ written: 2, dead: 0 })
  })

  it('that gets another key leaves those of the old one, which can still be replayed; a known key makes it a duplicate', async () => {
    let mended = false
    const one = letters({}, ({ url }) => (url === 'down' && !mended ? die() : url))
    await started(one, 'down', 'down', 'known', 'down')
    expect(await counted(one.name)).toMatchObject({ dead: 3, written: 1 })
    expect(await findDeadLetter(world.db, one.name, 0, 0)).toMatchObject({ behind: { dead: 2, waiting: 0 } })
    await edit(one, 0, { n: 0, url: 'known' })
    expect(await replay(one.name, { ids: ['0'] })).toMatchObject({ replayed: 1, remaining: 0 })
    await world.runToRest(one.definition)
    expect(await counted(one.name)).toMatchObject({ dead: 2, written: 1, duplicate: 1, pending: 0 })
    // A new record of the old key still ends with those that are dead.
    await world.publishValues(one.name, [{ n: 4, url: 'down' }])
    await world.runToRest(one.definition)
    expect(await counted(one.name)).toMatchObject({ dead: 3 })
    mended = true
    expect(await replay(one.name, { letters: ['0:3'] })).toMatchObject({ replayed: 3 })
    await world.runToRest(one.definition)
    expect(await counted(one.name)).toMatchObject({ received: 5, dead: 0, written: 2, duplicate: 3, pending: 0 })
  })

  it('that was alone with its key leaves the key free', async () => {
    let mended = false
    const one = letters({}, ({ url }) => (url === 'down' && !mended ? die() : url))
    await started(one, 'down')
    await edit(one, 0, { n: 0, url: 'else' })
    mended = true
    await world.publishValues(one.name, [{ n: 1, url: 'down' }])
    await world.runToRest(one.definition)
    expect(await counted(one.name)).toMatchObject({ dead: 1, written: 1 })
  })
})

describe('a replay', () => {
  it('of what dies again goes on with its history: errors, attempts and replays add up', async () => {
    const one = letters({}, ({ url }) => (url === 'down' ? die() : url))
    await started(one, 'down')
    for (let times = 1; times <= 3; times += 1) {
      expect(await replay(one.name)).toMatchObject({ replayed: 1 })
      expect(await counted(one.name)).toMatchObject({ dead: 0, waiting: 1 })
      await world.runToRest(one.definition)
      expect(await counted(one.name)).toMatchObject({ dead: 1, pending: 0 })
      const letter = await findDeadLetter(world.db, one.name, 0, 0)
      expect(letter).toMatchObject({ attempts: 2, earlierAttempts: 2 * times, replays: times })
      expect(letter!.errors.map(({ attempt }) => attempt)).toEqual(
        Array.from({ length: times + 1 }, () => [1, 2]).flat(),
      )
    }
  })

  it('takes what fits: by reason, by key, by the time of death, by place; and says what is not dead', async () => {
    const one = letters({ distinct: false }, ({ url }) => (url.startsWith('down') ? die() : url))
    await started(one, 'down-1', 'up', 'down-2')
    const { items } = await listDeadLetters(world.db, one.name)
    const later = new Date(items[1]!.since.getTime() + 60_000)
    const plain = (selection: ReplaySelection) => replayDeadLetters(world.db, one.name, selection, { distinct: false })
    expect(await plain({ reason: 'timeout' })).toMatchObject({ replayed: 0 })
    expect(await plain({ since: later })).toMatchObject({ replayed: 0 })
    expect(await plain({ letters: ['0:1', '7:0'], ids: undefined })).toEqual({
      ...{ replayed: 0, remaining: 0, notDead: ['0:1', '7:0'] },
    })
    expect(await plain({ ids: ['0', 'nobody'] })).toEqual({ replayed: 1, remaining: 0, notDead: ['nobody'] })
    expect(await plain({ ids: ['0'] })).toEqual({ replayed: 0, remaining: 0, notDead: ['0'] })
    expect((await listDeadLetters(world.db, one.name, { reason: 'failed', key: 'down-2' })).items).toMatchObject([
      { offset: 2 },
    ])
    expect((await listDeadLetters(world.db, one.name, { since: later })).items).toEqual([])
    expect(await plain({ reason: 'failed', key: 'down-2', since: items[1]!.since })).toMatchObject({ replayed: 1 })
    await world.runToRest(one.definition)
    expect(await counted(one.name)).toMatchObject({ received: 3, dead: 2, written: 1 })
  })

  it('takes as many as one replay takes, and leaves the others dead with their key', async () => {
    let mended = false
    const one = letters({}, ({ url }) => (url === 'up' || mended ? url : die()))
    await started(one, 'a', 'a', 'b', 'b')
    mended = true
    const some = await replayDeadLetters(world.db, one.name, {}, { distinct: true, maxOfShard: 2 })
    expect(some).toMatchObject({ replayed: 2, remaining: 2 })
    await world.runToRest(one.definition)
    expect(await counted(one.name)).toMatchObject({ written: 1, duplicate: 1, dead: 2 })
    await world.publishValues(one.name, [{ n: 9, url: 'b' }])
    await world.runToRest(one.definition)
    expect(await counted(one.name)).toMatchObject({ dead: 3 })
    await replay(one.name)
    await world.runToRest(one.definition)
    expect(await counted(one.name)).toMatchObject({ written: 2, duplicate: 3, dead: 0 })
  })

  it('counts each record once, however many replays, edits and shards are at it at once', async () => {
    let mended = false
    const one = letters({ partitions: 4 }, ({ url }) => (mended ? url : die()))
    await world.make(one.definition)
    await world.publish(
      one.name,
      Array.from({ length: 60 }, (_, n) => ({
        ...{ id: `id-${n}`, key: `spread-${n}`, value: JSON.stringify({ n, url: `u${n % 20}` }) },
      })),
    )
    await world.runToRest(one.definition)
    expect(await counted(one.name)).toMatchObject({ dead: 60 })
    mended = true
    const { items } = await listDeadLetters(world.db, one.name, { limit: 100 })
    const shards = await world.openShards(one.definition)
    const chosen = items.filter(({ recordId }) => Number(recordId) % 6 === 0)
    const outcomes = await Promise.all([
      ...Array.from({ length: 4 }, () => replay(one.name).then(({ replayed }) => replayed)),
      ...items
        .slice(0, 20)
        .map(({ recordId }) => replay(one.name, { ids: [recordId] }).then(({ replayed }) => replayed)),
      ...chosen.map(async ({ partition, offset, recordId }) => {
        const line = { n: Number(recordId), url: `edited-${recordId}` }
        try {
          await edit(one, offset, line, { partition })
        } catch (thrown) {
          expect((thrown as { code?: string }).code).toMatch(/^(CONFLICT|NOT_FOUND)$/)
        }
        return 0
      }),
    ])
    expect(outcomes.reduce((sum, replayed) => sum + replayed, 0)).toBe(60)
    await Promise.all(shards.map((shard) => shard.settled()))
    const sums = await counted(one.name)
    expect(sums).toMatchObject({ received: 60, dead: 0, pending: 0 })
    expect(sums.written).toBe((await world.documents(one.name)).length)
    for (const shard of shards) await shard.drain(1_000)
  })

  it('survives a kill after each commit: nothing is lost or doubled, and the ledger balances at every moment', async () => {
    let mended = false
    const one = letters({ total: 1 }, ({ url }) => (mended ? url : die()))
    await started(one, 'a', 'b', 'a', 'c', 'b', 'a', 'd', 'e')
    mended = true
    await replay(one.name)
    let commits = 0
    for (let killed = 0; killed < 40 && (await counted(one.name)).pending > 0; killed += 1) {
      let kill = () => {}
      const database: Database = {
        ...world.db,
        transaction: async (work) => {
          const done = await world.db.transaction(work)
          commits += 1
          kill()
          return done
        },
      }
      const [shard] = await world.openShards(one.definition, { database, limits: { rowBytes: 1 } })
      kill = () => shard!.drop()
      expect(await shard!.closed).toBeUndefined()
      await counted(one.name)
    }
    expect(commits).toBeGreaterThan(3)
    expect(await counted(one.name)).toMatchObject({ received: 8, written: 5, duplicate: 3, dead: 0, pending: 0 })
    expect(await world.documents(one.name)).toHaveLength(5)
  })
})
