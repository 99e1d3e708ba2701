import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { until } from '../../test/engine-world.ts'
import type { Manifest } from '../core/manifest.ts'
import { type Database, type Session, statement } from '../ports/database.ts'
import type { Plan } from '../sdk/plan.ts'
import { append, ensureTopic, trim } from '../store/topics.ts'
import { deployVersion } from '../store/versions.ts'
import { datasetPlans } from './dataset-plans.ts'
import { EventPlans } from './event-plans.ts'
import { recordPlans } from './record-plans.ts'

let test: TestDatabase
/** Added to the clock of the machine. */
let ahead = 0
const clock = { now: () => Date.now() + ahead }
const opened: { stop(): Promise<void> }[] = []
const notes: string[] = []
beforeEach(async () => {
  test = await testDatabase({ max: 8 })
  ahead = 0
})
afterEach(async () => {
  await Promise.all(opened.splice(0).map((plans) => plans.stop()))
  await test.drop()
  notes.length = 0
})

type Planned = Plan & { readonly name: string }
const anything = { type: 'object', properties: {}, additionalProperties: {} }

function manifestOf(plans: readonly Planned[], params: object = anything, faults: Manifest['faults'] = []): Manifest {
  const workflow = { name: 'w', file: 'w.ts', params, plans, stages: [], nodes: [] }
  const topics = [{ name: 'orders', partitions: 3, schema: {} }]
  return {
    format: 1,
    hash: 'h',
    workflows: [workflow],
    entries: [],
    topics,
    streams: [],
    endpoints: [],
    commands: [],
    faults,
  }
}

async function following(manifest: Manifest, db: Database = test.db) {
  const parts = { db, clock, random: Math.random, note: (line: string) => notes.push(line) }
  const both = [new EventPlans(parts, recordPlans), new EventPlans(parts, datasetPlans)]
  opened.push(...both)
  await deployVersion(test.db, manifest)
  for (const plans of both) await plans.follow(manifest)
  return both
}

const runRows = statement<{ params: Record<string, unknown>; plan: string; id: string }>(
  'test.event-runs',
  'select params, plan, id from sluice.runs order by id',
)
const tickRows = statement<{ outcome: string; reason: string; event: string; run_id: string | null }>(
  'test.event-ticks',
  'select outcome, reason, event, run_id from sluice.ticks order by seq',
)
const pause = statement('test.pause-events', 'update sluice.workflows set paused = $1')
const runs = () => test.db.query(runRows)
const ticks = () => test.db.query(tickRows)
const publish = (session: Session, values: readonly object[], start = 0) =>
  append(
    session,
    'orders',
    values.map((value, index) => ({ id: `r${start + index}`, key: null, value: JSON.stringify(value) })),
  )

describe('records of a topic', () => {
  const each: Planned = { kind: 'topic-record', name: 'each', topic: 'orders' }

  it('start a run each, with the record as its parameters', async () => {
    await following(manifestOf([each]))
    await publish(test.db, [{ n: 1 }, { n: 2 }, { n: 3 }])
    await until('three runs', async () => (await runs()).length === 3)
    expect((await runs()).map(({ params }) => params.n).sort()).toEqual([1, 2, 3])
    const told = await ticks()
    expect(told.map(({ outcome }) => outcome)).toEqual(['fired', 'fired', 'fired'])
    expect(told.map(({ run_id }) => run_id).sort()).toEqual((await runs()).map(({ id }) => id))
    expect(told[0]).toMatchObject({
      event: expect.stringMatching(/^orders:\d:0$/),
      reason: expect.stringMatching(/^record \d:0 of orders$/),
    })
  })

  it('that were there before the plan start none, and those of a while without an engine start theirs', async () => {
    await ensureTopic(test.db, 'orders', 3)
    await publish(test.db, [{ n: 0 }])
    const plans = await following(manifestOf([each]))
    await Promise.all(plans.map((some) => some.stop()))
    await publish(test.db, [{ n: 1 }], 10)
    ahead = 120_000
    await following(manifestOf([each]))
    await until('a run', async () => (await runs()).length > 0)
    expect((await runs()).map(({ params }) => params.n)).toEqual([1])
    expect(await ticks()).toMatchObject([{ outcome: 'late' }])
  })

  it('start one run each though several engines follow, and fail in between', async () => {
    let left = 4
    const failing: Database = {
      ...test.db,
      transaction: (work) =>
        test.db.transaction(async (session) => {
          const done = await work(session)
          left -= 1
          if (left >= 0) throw new Error('cut off before the commit')
          return done
        }),
    }
    await Promise.all([
      following(manifestOf([each]), failing),
      following(manifestOf([each])),
      following(manifestOf([each])),
    ])
    for (let round = 0; round < 10; round += 1) {
      await publish(
        test.db,
        Array.from({ length: 30 }, (_, index) => ({ n: round * 30 + index })),
        round * 30,
      )
    }
    await until('all runs', async () => (await runs()).length >= 300)
    const numbers = (await runs()).map(({ params }) => params.n as number).sort((a, b) => a - b)
    expect(numbers).toEqual(Array.from({ length: 300 }, (_, index) => index))
    expect(await ticks()).toHaveLength(300)
  })

  it('that do not match are passed', async () => {
    await following(manifestOf([{ ...each, match: { country: ['FR', 'DE'] } }]))
    await publish(test.db, [{ country: 'FR' }, { country: 'US' }, { country: 'DE' }, {}])
    await until('two runs', async () => (await runs()).length === 2)
    expect((await runs()).map(({ params }) => params.country).sort()).toEqual(['DE', 'FR'])
  })

  it('start a run per batch, and what is left when its oldest has waited', async () => {
    await following(manifestOf([{ ...each, batch: { records: 4, withinMs: 60_000 } }]))
    await publish(
      test.db,
      Array.from({ length: 10 }, (_, n) => ({ n })),
    )
    await until('two batches', async () => (await runs()).length === 2)
    ahead = 60_000
    await publish(test.db, [{ n: 10 }], 100)
    await until('the rest', async () => (await runs()).length === 3)
    const batches = (await runs()).map(({ params }) => params.records as { n: number }[])
    expect(batches.map(({ length }) => length).sort()).toEqual([3, 4, 4])
    expect(
      batches
        .flat()
        .map(({ n }) => n)
        .sort((a, b) => a - b),
    ).toEqual(Array.from({ length: 11 }, (_, n) => n))
  })

  it('a batch that waits starts without anything else happening', async () => {
    await following(manifestOf([{ ...each, batch: { records: 4, withinMs: 200 } }]))
    await publish(test.db, [{ n: 1 }])
    await until('the batch', async () => (await runs()).length === 1)
  })

  it('whose parameters do not fit leave a skipped tick that says why, and hold up no other', async () => {
    const params = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }
    await following(manifestOf([each], params))
    await publish(test.db, [{ n: 'one' }, { n: 2, more: 3 }, { n: 3 }])
    await until('three ticks', async () => (await ticks()).length === 3)
    expect((await runs()).map(({ params: { n } }) => n)).toEqual([3])
    const reasons = (await ticks())
      .filter(({ run_id }) => run_id === null)
      .map(({ outcome, reason }) => `${outcome}: ${reason}`)
    expect(reasons.sort()).toEqual([
      expect.stringMatching(/^skipped: its parameters do not fit: \/params\/more: is not known here; record/),
      expect.stringMatching(
        /^skipped: its parameters do not fit: \/params\/n: Invalid input: expected number.*; record/,
      ),
    ])
  })

  it('of a paused workflow are skipped, with a row each', async () => {
    await following(manifestOf([each]))
    await test.db.execute(pause, [true])
    await publish(test.db, [{ n: 1 }])
    await until('a tick', async () => (await ticks()).length === 1)
    expect(await ticks()).toMatchObject([
      { outcome: 'skipped', reason: expect.stringMatching(/^the workflow is paused; record/) },
    ])
    await test.db.execute(pause, [false])
    await publish(test.db, [{ n: 2 }], 10)
    await until('a run', async () => (await runs()).length === 1)
    expect((await runs())[0]!.params).toEqual({ n: 2 })
  })

  it('are not trimmed before the plan has taken them, nor for a plan that is gone', async () => {
    const future = new Date(Date.now() + 3_600_000)
    const plans = await following(manifestOf([each]))
    await Promise.all(plans.map((some) => some.stop()))
    await publish(test.db, [{ n: 1 }])
    expect(await trim(test.db, 'orders', future)).toBe(0)
    // A file that is wrong for a while keeps its plan's place.
    await following(manifestOf([], anything, [{ where: 'w.ts', message: 'wrong' }]))
    expect(await trim(test.db, 'orders', future)).toBe(0)
    await following(manifestOf([]))
    expect(await trim(test.db, 'orders', future)).toBe(1)
  })

  it('of partitions that are new start runs from the first', async () => {
    const plans = await following(manifestOf([each]))
    await Promise.all(plans.map((some) => some.stop()))
    await ensureTopic(test.db, 'orders', 8)
    await publish(
      test.db,
      Array.from({ length: 40 }, (_, n) => ({ n })),
    )
    await following(manifestOf([each]))
    await until('forty runs', async () => (await runs()).length === 40)
  })
})

describe('datasets that are written', () => {
  const write = statement(
    'test.write-version',
    `with written as (
       insert into sluice.dataset_versions (dataset, version, hash, run_id, node, map_index, attempt, position, objects)
       values ($1, $2, 'h', coalesce($3, gen_random_uuid()), 0, -1, 1, 0, '[]')
     ) select pg_notify('sluice_datasets', $1)`,
  )
  const written = (dataset: string, version: number, run: string | null = null) =>
    test.db.execute(write, [dataset, version, run])
  const plan = (datasets: string[], when: 'all' | 'any', params?: Planned['params']): Planned => ({
    ...{ kind: 'dataset-written', name: 'data', datasets, when, ...(params !== undefined && { params }) },
  })
  const versions = { datasets: { $event: ['datasets'] } }

  it('start a run for each version, of one or any of several', async () => {
    await written('a', 1)
    await following(manifestOf([plan(['a', 'b'], 'any', versions)]))
    await written('a', 2)
    await written('b', 1)
    await written('c', 1)
    await written('a', 3)
    await until('three runs', async () => (await runs()).length === 3)
    const told = (await runs()).map(({ params }) => params.datasets)
    expect(told).toEqual(expect.arrayContaining([{ a: 2 }, { b: 1 }, { a: 3 }]))
    expect((await ticks()).map(({ event, outcome }) => `${event} ${outcome}`).sort()).toEqual([
      'a@2 fired',
      'a@3 fired',
      'b@1 fired',
    ])
  })

  it('start a run once all of several have a version that is new', async () => {
    await following(manifestOf([plan(['a', 'b'], 'all', versions)]))
    await written('a', 1)
    await written('a', 2)
    await written('b', 1)
    await until('a run', async () => (await runs()).length === 1)
    await written('b', 2)
    await written('a', 3)
    await until('another', async () => (await runs()).length === 2)
    expect((await runs()).map(({ params }) => params.datasets)).toEqual([
      { a: 2, b: 1 },
      { a: 3, b: 2 },
    ])
  })

  it('by their own runs start none', async () => {
    await following(manifestOf([plan(['a'], 'all')]))
    await written('a', 1)
    await until('a run', async () => (await runs()).length === 1)
    await written('a', 2, (await runs())[0]!.id)
    await written('a', 3)
    await until('another run', async () => (await runs()).length === 2)
    expect((await ticks()).map(({ event }) => event)).toEqual(['a@1', 'a@3'])
  })
})
