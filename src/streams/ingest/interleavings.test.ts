/** Requests of several processes in random order, with commits that fail or whose end is not known, shards taken away, and processes that die. */
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { IngestWorld, post, sample } from '../../../test/ingest-world.ts'
import { SluiceError } from '../../errors.ts'
import type { PipelinedDatabase } from '../../ports/database.ts'
import type { IngestPoint } from '../../ports/ingest.ts'

const processes = 2
const streams = ['stats-events', 'keyed-events'] as const

const move = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('post' as const),
      by: fc.nat(processes - 1),
      ids: fc.array(fc.nat(12), { minLength: 1, maxLength: 4 }),
      to: fc.constantFrom(...streams),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom('lost before' as const, 'lost after' as const),
      by: fc.nat(processes - 1),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('steal' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('kill' as const), by: fc.nat(processes - 1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('settle' as const) }) },
)

let world: IngestWorld
beforeAll(async () => {
  world = await IngestWorld.open()
})
afterAll(() => world.close())

/** A process whose commits can be made to fail, and that can die: then nothing of it reaches the database any more. */
class Process {
  #fate: 'lost before' | 'lost after' | undefined
  #dead = false
  #point: ((stream: string) => IngestPoint) | undefined

  static async start(): Promise<Process> {
    const process = new Process()
    const ingest = await world.serve({ through: process.#through })
    process.#point = (stream) => ingest.point(stream)
    return process
  }

  readonly #through = (database: PipelinedDatabase): PipelinedDatabase => ({
    ...database,
    query: (statement, values) => this.#alive(() => database.query(statement, values)),
    execute: (statement, values) => this.#alive(() => database.execute(statement, values)),
    pipeline: (steps) => this.#commit(() => database.pipeline(steps)),
    transaction: (work) => this.#commit(() => database.transaction(work)),
  })

  point(stream: string): IngestPoint {
    return this.#point!(stream)
  }
  fail(fate: 'lost before' | 'lost after'): void {
    this.#fate = fate
  }
  die(): void {
    this.#dead = true
  }

  #alive<T>(work: () => Promise<T>): Promise<T> {
    return this.#dead ? Promise.reject(new SluiceError('DATABASE_UNREACHABLE', 'it is dead')) : work()
  }

  async #commit<T>(work: () => Promise<T>): Promise<T> {
    const fate = this.#fate
    this.#fate = undefined
    if (fate === 'lost before') throw new SluiceError('DATABASE_UNREACHABLE', 'it is gone')
    const result = await this.#alive(work)
    if (fate === 'lost after') throw new SluiceError('DATABASE_UNREACHABLE', 'it is gone')
    return this.#alive(async () => result)
  }
}

const eventOf = (id: string) => ({ ...sample, id, token: id })

describe('whatever happens between', () => {
  it('what is acknowledged is stored, each id once, and the ledger tells it', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(move, { minLength: 5, maxLength: 30 }), async (moves) => {
        await world.clear()
        const running = await Promise.all(Array.from({ length: processes }, Process.start))
        const sent = new Map(streams.map((stream) => [stream, new Set<string>()]))
        const acknowledged = new Map(streams.map((stream) => [stream, new Set<string>()]))
        let open: Promise<unknown>[] = []
        for (const one of moves) {
          if (one.kind === 'post') {
            const ids = one.ids.map((id) => `i${id}`)
            for (const id of ids) sent.get(one.to)!.add(id)
            const answer = post(running[one.by]!.point(one.to), ids.map(eventOf)).then(
              () => {
                for (const id of ids) acknowledged.get(one.to)!.add(id)
              },
              (thrown: unknown) => expect(thrown).toMatchObject({ code: 'UNAVAILABLE' }),
            )
            open.push(answer)
          } else if (one.kind === 'steal') for (const stream of streams) await world.lapse(stream)
          else if (one.kind === 'kill') {
            running[one.by]!.die()
            running[one.by] = await Process.start()
          } else if (one.kind === 'settle') {
            await Promise.all(open)
            open = []
          } else running[one.by]!.fail(one.kind)
        }
        await Promise.all(open)
        for (const stream of streams) {
          const stored = await world.ids(stream)
          expect(new Set(stored).size).toBe(stored.length)
          expect(stored.filter((id) => !sent.get(stream)!.has(id))).toEqual([])
          expect([...acknowledged.get(stream)!].filter((id) => !stored.includes(id))).toEqual([])
          for (const id of sent.get(stream)!) await insist(running[0]!.point(stream), id)
          expect(await world.ids(stream)).toEqual([...sent.get(stream)!].sort())
          const { received, written, duplicate, rejected } = await world.totals(stream)
          expect([written, rejected, received]).toEqual([sent.get(stream)!.size, 0, written + duplicate])
        }
        expect(await world.breaches()).toEqual([])
        await world.stopAll()
      }),
      {
        numRuns: Number(process.env.INGEST_RUNS ?? 12),
        ...(process.env.INGEST_SEED && { seed: Number(process.env.INGEST_SEED) }),
      },
    )
  })
})

async function insist(point: IngestPoint, id: string): Promise<void> {
  for (;;) {
    const done = await post(point, eventOf(id)).then(
      () => true,
      () => new Promise<false>((resolve) => setTimeout(resolve, 5, false)),
    )
    if (done) return
  }
}
