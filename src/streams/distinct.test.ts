import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { StreamWorld } from '../../test/stream-world.ts'
import type { Database } from '../ports/database.ts'
import { z } from '../sdk/schema.ts'
import { documents, type Stream, stream } from '../sdk/stream.ts'
import { topic } from '../sdk/topic.ts'
import { listDeadLetters } from '../store/dead-letters.ts'
import { totals } from '../store/ledger.ts'
import { replayDeadLetters } from '../store/replay-dead-letters.ts'

interface Line {
  n: number
  url: string
  refresh?: boolean
}
interface Picture {
  id: string
  sources: number[]
}

let world: StreamWorld
let made = 0
beforeAll(async () => {
  world = await StreamWorld.open()
})
afterEach(async () => {
  expect(await world.breaches()).toEqual([])
})
afterAll(() => world.close())

type Work = (line: Line, attempt: number) => Promise<string | undefined> | string | undefined

/** `work` gives the key of the picture that a URL leads to; undefined rejects. `fetched` has every line that reached it. */
function pictureStream(work: Work, partitions = 1) {
  made += 1
  const name = `pictures-${made}`
  const fetched: number[] = []
  const lines = topic(name, {
    schema: z.object({ n: z.number(), url: z.string(), refresh: z.boolean().optional() }),
    partitions,
  })
  const definition: unknown = stream(name, {
    from: lines,
    id: (line) => line.n,
    key: (line) => line.url,
    distinct: (line) => line.refresh !== true,
    retry: { attempts: 2, base: '1ms', max: '1ms' },
    steps: (records) =>
      records.step(async (line, context): Promise<Picture> => {
        fetched.push(line.n)
        const id = await work(line, context.attempt)
        return id === undefined ? context.reject('http error') : { id, sources: [line.n] }
      }),
    to: documents(name, {
      key: 'id',
      merge: (picture: Picture, line: Line): Picture => ({ ...picture, sources: [...picture.sources, line.n] }),
    }),
  })
  return { definition: definition as Stream, name, fetched }
}

const urls = (...list: string[]) => list.map((url, n) => ({ n, url }))

async function outcomes(name: string) {
  return (await world.ends(name)).map((end) => end.outcome)
}

describe('a distinct stream', () => {
  it('fetches each key once; repeats are duplicates, and merge, wherever they are', async () => {
    const one = pictureStream((line) => `of-${line.url}`)
    await world.make(one.definition)
    await world.publishValues(one.name, urls('a', 'b', 'a', 'a', 'b'))
    await world.runToRest(one.definition)
    await world.publishValues(one.name, [
      { n: 5, url: 'a' },
      { n: 6, url: 'c' },
      { n: 7, url: 'c' },
    ])
    await world.runToRest(one.definition)
    expect(one.fetched).toEqual([0, 1, 6])
    expect(await outcomes(one.name)).toEqual([
      ...['written', 'written', 'duplicate', 'duplicate', 'duplicate', 'duplicate', 'written', 'duplicate'],
    ])
    expect((await world.documents(one.name)).map(({ body }) => body)).toEqual([
      { id: 'of-a', sources: [0, 2, 3, 5] },
      { id: 'of-b', sources: [1, 4] },
      { id: 'of-c', sources: [6, 7] },
    ])
  })

  it('ends repeats as duplicates also when the first was rejected, or led to a document of another', async () => {
    const one = pictureStream((line) => (line.url === 'bad' ? undefined : 'same'))
    await world.make(one.definition)
    await world.publishValues(one.name, urls('bad', 'x', 'bad', 'y', 'y', 'bad'))
    await world.runToRest(one.definition)
    expect(one.fetched).toEqual([0, 1, 3])
    expect(await outcomes(one.name)).toEqual([
      'rejected',
      'written',
      'duplicate',
      'duplicate',
      'duplicate',
      'duplicate',
    ])
    const [picture] = await world.documents(one.name)
    expect(picture).toMatchObject({ recordId: '1', body: { id: 'same' } })
    expect(picture!.body.sources).toEqual([1, 3, 4])
  })

  it('ends repeats dead with a dead first, unfetched, also later ones; replaying one resolves them all', async () => {
    let mended = false
    const one = pictureStream((line) => {
      if (line.url === 'down' && !mended) throw new Error('no answer')
      return `of-${line.url}`
    })
    await world.make(one.definition)
    await world.publishValues(one.name, urls('down', 'up', 'down'))
    await world.runToRest(one.definition)
    await world.publishValues(one.name, [{ n: 3, url: 'down' }])
    await world.runToRest(one.definition)
    expect(one.fetched).toEqual([0, 1, 0])
    expect(await outcomes(one.name)).toEqual(['dead', 'written', 'dead', 'dead'])
    const { items, nextCursor } = await listDeadLetters(world.db, one.name, { limit: 2 })
    expect(items).toMatchObject([
      { recordId: '0', reason: 'failed', detail: 'no answer', attempts: 2 },
      { recordId: '2', reason: 'first of its key is dead', detail: '0', attempts: 0 },
    ])
    expect((await listDeadLetters(world.db, one.name, { cursor: nextCursor })).items).toMatchObject([{ recordId: '3' }])
    mended = true
    expect(await replayDeadLetters(world.db, one.name, { ids: ['2'] }, { distinct: true })).toEqual({
      replayed: 3,
      remaining: 0,
      notDead: [],
    })
    await world.runToRest(one.definition)
    expect(one.fetched).toEqual([0, 1, 0, 0])
    expect(await outcomes(one.name)).toEqual(['written', 'written', 'duplicate', 'duplicate'])
    expect((await world.documents(one.name))[0]!.body).toEqual({ id: 'of-down', sources: [0, 2, 3] })
    expect(await totals(world.db, one.name)).toMatchObject({
      received: 4,
      written: 2,
      duplicate: 2,
      dead: 0,
      pending: 0,
    })
  })

  it('lets a refresh through: the document merges, or a new one is written, and later repeats follow it', async () => {
    let version = 1
    const one = pictureStream((line) => (line.url === 'gone' && version > 1 ? undefined : `${line.url}-${version}`))
    await world.make(one.definition)
    await world.publishValues(one.name, urls('a', 'gone'))
    await world.runToRest(one.definition)
    await world.publishValues(one.name, [{ n: 2, url: 'a', refresh: true }])
    await world.runToRest(one.definition)
    version = 2
    await world.publishValues(one.name, [
      { n: 3, url: 'a', refresh: true },
      { n: 4, url: 'a' },
      { n: 5, url: 'gone', refresh: true },
      { n: 6, url: 'gone' },
    ])
    await world.runToRest(one.definition)
    expect(one.fetched).toEqual([0, 1, 2, 3, 5])
    expect(await outcomes(one.name)).toEqual([
      ...['written', 'written', 'duplicate', 'written', 'duplicate', 'rejected', 'duplicate'],
    ])
    expect((await world.documents(one.name)).map(({ body }) => body)).toEqual([
      { id: 'a-1', sources: [0, 2] },
      { id: 'a-2', sources: [3, 4] },
      { id: 'gone-1', sources: [1, 6] },
    ])
  })

  it('does not fetch again when the first ends while the database is asked for the repeat', async () => {
    const fetched = Promise.withResolvers<void>()
    const asked = Promise.withResolvers<void>()
    const answered = Promise.withResolvers<void>()
    const one = pictureStream(async (line) => {
      await fetched.promise
      return `of-${line.url}`
    })
    let questions = 0
    const database: Database = {
      ...world.db,
      query: async (statement, values) => {
        const rows = await world.db.query(statement, values)
        if (statement.name !== 'distinct-keys.look-up' || ++questions !== 2) return rows
        asked.resolve()
        await answered.promise
        return rows
      },
    }
    await world.make(one.definition)
    await world.publishValues(one.name, [{ n: 0, url: 'a' }])
    const [shard] = await world.openShards(one.definition, { database })
    while (one.fetched.length === 0) await new Promise((resolve) => setTimeout(resolve, 2))
    await world.publishValues(one.name, [{ n: 1, url: 'a' }])
    shard!.wake()
    await asked.promise
    fetched.resolve()
    while (shard!.inFlight > 0 || (await world.documents(one.name)).length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    answered.resolve()
    await shard!.settled()
    expect(one.fetched).toEqual([0])
    expect(await outcomes(one.name)).toEqual(['written', 'duplicate'])
    await shard!.drain(1_000)
  })

  it('is exact when one key is in two partitions at once', async () => {
    const gate = Promise.withResolvers<void>()
    const one = pictureStream(async (line) => {
      await gate.promise
      return `of-${line.n}`
    }, 8)
    await world.make(one.definition)
    await world.publish(
      one.name,
      Array.from({ length: 40 }, (_, n) => ({
        id: `id-${n}`,
        key: `spread-${n}`,
        value: JSON.stringify({ n, url: `u${n % 5}` }),
      })),
    )
    const shards = await world.openShards(one.definition)
    while (one.fetched.length < 5) await new Promise((resolve) => setTimeout(resolve, 2))
    gate.resolve()
    await Promise.all(shards.map((shard) => shard.settled()))
    expect(await totals(world.db, one.name)).toMatchObject({ received: 40, written: 5, duplicate: 35, pending: 0 })
    const found = await world.documents(one.name)
    expect(found).toHaveLength(5)
    expect(found.flatMap(({ body }) => body.sources as number[]).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 40 }, (_, n) => n),
    )
    for (const shard of shards) await shard.drain(1_000)
  })

  it('keeps what the sample catalog needs: 650 lines are 500 written, 99 duplicate, 51 rejected', async () => {
    const one = pictureStream((line) =>
      line.url.startsWith('error') || line.url.startsWith('huge') ? undefined : line.url,
    )
    await world.make(one.definition)
    const lines = [
      ...Array.from({ length: 500 }, (_, n) => `picture-${n}`),
      ...Array.from({ length: 50 }, (_, n) => `picture-${n * 7}`),
      ...Array.from({ length: 50 }, () => 'error/100'),
      ...Array.from({ length: 50 }, (_, n) => `huge-${n}`),
    ]
    await world.publishValues(one.name, urls(...lines))
    await world.runToRest(one.definition)
    expect(await totals(world.db, one.name)).toMatchObject({
      received: 650,
      written: 500,
      duplicate: 99,
      rejected: 51,
      dead: 0,
      pending: 0,
    })
    expect(one.fetched).toHaveLength(551)
  })
})
