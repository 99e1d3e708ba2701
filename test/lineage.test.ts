/** Lineage, datasets and reproduction through an engine with real runners. */
import { randomUUID } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ReproduceParts, reproduceRun } from '../src/app/reproduce/reproduce.ts'
import { SluiceError } from '../src/errors.ts'
import { openFiles } from '../src/objects/files.ts'
import { statement } from '../src/ports/database.ts'
import { dropVainWrites, publishDatasets } from '../src/store/lineage.ts'
import { EngineWorld, testEnvironment, until } from './engine-world.ts'

let world: EngineWorld
beforeAll(async () => {
  world = await EngineWorld.open('lineage-project')
  await writeFile(join(world.dir, 'orders.csv'), 'a,1\nb,2\n')
})
afterAll(() => world.close())

const lineage = statement<{
  node: number
  attempt: number
  kind: string
  what: string
  dataset: string
  version: number | null
  hash: string | null
}>(
  'test.lineage-of-run',
  'select node, attempt, kind, what, dataset, version, hash from sluice.lineage where run_id = $1 order by node, map_index, attempt, nth',
)
const versions = statement<{ version: number; run_id: string; attempt: number; metadata: { name?: string } | null }>(
  'test.versions-of',
  'select version, run_id, attempt, metadata from sluice.dataset_versions where dataset = $1 order by version',
)
const ran = statement<{ environment: string }>(
  'test.ran',
  'select environment from sluice.run_environments where run_id = $1',
)
const waiting = statement<{ count: number }>('test.waiting-writes', 'select count(*) from sluice.dataset_writes')
const everything = statement<{ text: string }>(
  'test.all-but-nodes',
  `select concat(
     (select json_agg(t order by run_id, node, map_index)::text from sluice.tasks t), (select count(*) from sluice.objects),
     (select count(*) from sluice.documents), (select sum(next_offset) from sluice.topic_partitions), (select count(*) from sluice.lineage),
     (select count(*) from sluice.dataset_versions), (select count(*) from sluice.dataset_writes),
     (select count(*) from sluice.checkpoints)) as text`,
)

const writing = (name: string) => ({ ...world.place(name), fail: false })
const ordersFile = () => join(world.dir, 'orders.csv')
const nobody = new AbortController().signal
const parts = (more: Partial<ReproduceParts> = {}): ReproduceParts => ({
  database: world.db,
  config: { home: join(world.dir, 'home'), projectDir: world.dir, logLevel: 'info', runners: 1 },
  note: () => {},
  onProgress: () => {},
  signal: nobody,
  environment: testEnvironment,
  ...more,
})
const noted = (id: string) =>
  until('the environment to be noted', async () => (await world.db.query(ran, [id])).length > 0)
async function ended(workflow: string, params: object = {}): Promise<string> {
  const id = await world.start(workflow, params)
  await world.ended(id)
  await noted(id)
  return id
}
async function whyNot(id: string, more: Partial<ReproduceParts> = {}): Promise<string[]> {
  const error = await reproduceRun(id, parts(more)).then(
    () => undefined,
    (thrown: unknown) => thrown as SluiceError,
  )
  expect(error).toBeInstanceOf(SluiceError)
  expect(error!.code).toBe('NOT_REPRODUCIBLE')
  return error!.faults.map(({ where, message }) => `${where}: ${message}`)
}

describe('datasets', () => {
  it('a task sees what the task before it has written, and the same at each look', async () => {
    const engine = await world.engine()
    const before = (await world.db.query(versions, ['prim.orders'])).length
    await world.go('seen')
    const id = await world.start('writing', writing('seen'))
    expect(await world.ended(id)).toBe('success')
    const [, reads] = await world.tasks(id)
    const metadata = { attempt: 1, name: 'seen' }
    expect(JSON.parse(reads!.result!)).toEqual({ version: before + 1, same: true, metadata })
    await engine.stop()
  })

  it('an attempt that fails leaves no version; the one that succeeds leaves one', async () => {
    const engine = await world.engine()
    const id = await world.start('writing', { ...writing('fails-first'), fail: true })
    await world.started('fails-first')
    expect(await publishDatasets(world.db)).toEqual([])
    await world.go('fails-first')
    expect(await world.ended(id)).toBe('success')
    const own = (await world.db.query(versions, ['prim.orders'])).filter(({ run_id }) => run_id === id)
    expect(own).toMatchObject([{ attempt: 2 }])
    await engine.stop()
  })

  it('are published without anybody reading them, soon after the success', async () => {
    const engine = await world.engine()
    const id = await ended('pure', { file: ordersFile() })
    await until('mart.sales to be published', async () =>
      (await world.db.query(versions, ['mart.sales'])).some(({ run_id }) => run_id === id),
    )
    await engine.stop()
  })

  it('are published exactly once, though runners and engines are killed in between', async () => {
    const names = Array.from({ length: 6 }, () => randomUUID())
    const ids: string[] = []
    let engine = await world.engine({ leaseMs: 1_000 })
    for (const name of names) ids.push(await world.start('writing', writing(name)))
    await Promise.all(names.map((name) => world.started(name)))
    // The runner dies with all that are under way.
    engine.forked[0]!.kill('SIGKILL')
    await Promise.all(names.map((name) => world.started(name, 2)))
    // Half of them end; the engine dies at whatever point it has reached with them.
    for (const name of names.slice(0, 3)) await world.go(name)
    await until('one to have ended', async () => (await world.run(ids[0]!)).state !== 'running')
    await engine.crash()
    engine = await world.engine({ leaseMs: 1_000 })
    for (const name of names.slice(3)) await world.go(name)
    for (const id of ids) expect(await world.ended(id)).toBe('success')
    await engine.stop()
    await publishDatasets(world.db)
    while ((await world.db.transaction(dropVainWrites)) > 0);
    const all = await world.db.query(versions, ['prim.orders'])
    expect(all.map(({ version }) => version)).toEqual(all.map((_, index) => index + 1))
    expect(
      all
        .filter(({ run_id }) => ids.includes(run_id))
        .map(({ run_id }) => run_id)
        .sort(),
    ).toEqual([...ids].sort())
    expect((await world.db.query(waiting))[0]!.count).toBe(0)
  })

  it('mistakes are told by what is wrong and what is allowed', async () => {
    const engine = await world.engine()
    const whats = ['step', 'hash', 'rows', 'metadata', 'object', 'version', 'missing', 'name']
    const id = await world.start('mistakes', { whats })
    expect(await world.ended(id)).toBe('success')
    const told = (await world.tasks(id)).map(({ result }) => JSON.parse(result!) as string)
    expect(told).toEqual([
      expect.stringMatching(/^USAGE: dataset prim.orders is written inside a durable step.*write it after the step/),
      expect.stringMatching(/^INVALID_INPUT: .*64 lower-case hex digits/),
      expect.stringMatching(/^INVALID_INPUT: .*rows must be a whole number that is not negative/),
      expect.stringMatching(/^INVALID_INPUT: .*70002 bytes.*at most 65536/),
      expect.stringMatching(/^OBJECT_NOT_FOUND: .*put it again/),
      expect.stringMatching(/^INVALID_INPUT: .*from 1 on/),
      expect.stringMatching(/^NOT_FOUND: dataset prim.orders has no version 999/),
      expect.stringMatching(/^DEFINITION_INVALID: "No Name" is not a name for a dataset/),
    ])
    await engine.stop()
  })
})

describe('lineage', () => {
  it('notes what tasks read and wrote without their doing, each once', async () => {
    const engine = await world.engine()
    const id = await ended('pure', { file: ordersFile() })
    await publishDatasets(world.db)
    const rows = await world.db.query(lineage, [id])
    const load = rows.filter(({ node }) => node === 0).map(({ kind, what, dataset }) => `${kind} ${what} ${dataset}`)
    expect(load).toEqual([`read file ${ordersFile()}`, 'write object ', 'write dataset prim.orders'])
    const sum = rows.filter(({ node }) => node === 1).map(({ kind, what, dataset }) => `${kind} ${what} ${dataset}`)
    expect(sum).toEqual([
      ...['read dataset prim.orders', 'read latest prim.orders', 'read object ', 'write object '],
      ...['read clock ', 'read random ', 'write topic things', 'write documents sums', 'write dataset mart.sales'],
    ])
    expect(rows.filter(({ node }) => node > 1)).toEqual([])
    await engine.stop()
  })

  it('is bounded, and says how much is left out', async () => {
    const engine = await world.engine()
    const id = await ended('crowded')
    const rows = await world.db.query(lineage, [id])
    expect(rows).toHaveLength(1_001)
    expect(rows.at(-1)).toMatchObject({ what: 'more', version: 5 })
    await engine.stop()
  })
})

describe('reproduction', () => {
  it('of a run whose inputs are objects and versions gives the same, and writes nothing', async () => {
    const engine = await world.engine()
    const id = await ended('pure', { file: ordersFile() })
    await publishDatasets(world.db)
    // What the run read has changed since: another file, another version.
    await writeFile(ordersFile(), 'c,3\n')
    await ended('pure', { file: ordersFile() })
    await publishDatasets(world.db)
    await engine.stop()
    const before = (await world.db.query(everything))[0]!.text
    const progress: string[] = []
    const reproduction = await reproduceRun(
      id,
      parts({ onProgress: (done, total) => progress.push(`${done} of ${total}`) }),
    )
    expect(reproduction.tasks.filter(({ same }) => !same)).toEqual([])
    expect(reproduction).toMatchObject({ same: true, workflow: 'pure' })
    expect(reproduction.tasks.map(({ task }) => task)).toEqual([
      ...['load', 'sum', 'big', 'measure', 'list', 'square[0]', 'square[1]', 'square[2]', 'square[3]', 'square[4]'],
    ])
    expect(progress.at(-1)).toBe('10 of 10')
    expect((await world.db.query(everything))[0]!.text).toBe(before)
  })

  it('tells what differs', async () => {
    const engine = await world.engine()
    const id = await ended('impure')
    await engine.stop()
    const { same, tasks } = await reproduceRun(id, parts())
    expect(same).toBe(false)
    expect(tasks).toEqual([
      {
        task: 'clocked',
        attempt: 1,
        same: false,
        differences: [expect.stringMatching(/^its result was \w{64} and is \w{64}$/)],
      },
    ])
  })

  it('is refused for all that does not come again, each named', async () => {
    const engine = await world.engine()
    const [reaching, failing, retried] = [await ended('reaching'), await ended('failing'), await ended('retried')]
    const pure = await ended('pure', { file: ordersFile() })
    await publishDatasets(world.db)
    const running = await world.start('writing', writing('still-running'))
    await world.started('still-running')
    expect(await whyNot(running)).toEqual([
      'run: it has not ended: it is running',
      'run: in what it was executed was not noted: nothing ran, or it ran before that was noted',
      'gated: it ended running; only what succeeded has results to compare',
    ])
    await world.cancel(running)
    await world.ended(running)
    await engine.stop()
    expect(await whyNot(reaching)).toEqual([
      'outside: it used the connection web: what a network answers does not come again',
      'outside: it read the secret api, of which nothing is kept',
      'outside: it read the documents sums, which may have changed since',
    ])
    expect(await whyNot(failing)).toEqual([
      'run: it ended failed; only what succeeded has results to compare',
      'fails: it ended failed; only what succeeded has results to compare',
    ])
    expect(await whyNot(retried)).toEqual([
      'steps: it took the result of the durable step make from an earlier attempt',
      'republish: it learnt that 1 records of topic things had been published before',
    ])
    expect(await whyNot(pure, { environment: '{"node":"other","arch":"arm64"}' })).toEqual([
      'run: it was executed in another environment: node was test and is other; arch was null and is arm64',
    ])
    await expect(reproduceRun(randomUUID(), parts())).rejects.toMatchObject({ code: 'NOT_FOUND' })
    expect(await world.breaches()).toEqual([])
    // What is gone: objects, a version, the code.
    const rows = await world.db.query(lineage, [pure])
    const store = openFiles(join(world.dir, 'home/objects'))
    const file = rows.find(({ what }) => what === 'file')!
    await store.remove(file.hash!)
    const stored = (await world.tasks(pure)).find(({ result }) => result?.startsWith('{"$object"'))!
    const result = JSON.parse(stored.result!) as { $object: string }
    await store.remove(result.$object)
    const read = rows.find(({ what, kind }) => what === 'dataset' && kind === 'read')!
    await world.db.execute(
      statement('test.lose-version', 'delete from sluice.dataset_versions where dataset = $1 and version = $2'),
      [read.dataset, read.version],
    )
    await rm(join(world.dir, 'home/versions', world.version.manifest.hash, 'manifest.json'))
    expect(await whyNot(pure)).toEqual([
      'run: the code of its version is not on this machine any more',
      `load: the object ${file.hash} that it read as the file ${ordersFile()} is gone`,
      `sum: version ${read.version} of dataset prim.orders is gone`,
      `sum: the object ${file.hash} that it read is gone`,
      `big: its result is the object ${result.$object}, which is gone`,
    ])
  })
})
