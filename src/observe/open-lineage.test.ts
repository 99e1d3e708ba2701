/** OpenLineage events: what they say, and that none is lost, whatever becomes of the receiver. */
import { randomUUID } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { until } from '../../test/engine-world.ts'
import { endRun, insertRun, insertTask, testManifest } from '../../test/test-api.ts'
import { taskIdOf } from '../core/ids.ts'
import { statement } from '../ports/database.ts'
import { noteLineage } from '../store/lineage.ts'
import { deployVersion } from '../store/versions.ts'
import { OpenLineage, type OpenLineageParts } from './open-lineage.ts'
import type { OpenLineageEvent } from './open-lineage-events.ts'

const uri = z.string().regex(/^(https:\/\/openlineage\.io\/spec\/|urn:sluice:)/)
const facets = z.record(z.string(), z.looseObject({ _producer: uri, _schemaURL: uri }))
const dataset = z.strictObject({
  namespace: z.string().min(1),
  name: z.string().min(1),
  facets,
  outputFacets: facets.optional(),
})
/** What the specification asks of a run event, and that we send nothing that it does not know. */
const eventSchema = z.strictObject({
  eventType: z.enum(['START', 'RUNNING', 'COMPLETE', 'ABORT', 'FAIL', 'OTHER']),
  eventTime: z.iso.datetime({ offset: true }),
  producer: uri,
  schemaURL: z.literal('https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent'),
  run: z.strictObject({ runId: z.uuid(), facets }),
  job: z.strictObject({ namespace: z.string().min(1), name: z.string().min(1), facets }),
  inputs: z.array(dataset),
  outputs: z.array(dataset),
})

/** A receiver on this machine that answers as it is told. */
class Receiver {
  readonly posts: { events: OpenLineageEvent[]; authorization: string | undefined }[] = []
  answer: (events: readonly OpenLineageEvent[]) => number = () => 201
  private server: Server | undefined
  private port = 0

  async open(): Promise<void> {
    this.server = createServer((request, response) => {
      let text = ''
      request.setEncoding('utf8')
      request.on('data', (piece: string) => {
        text += piece
      })
      request.on('end', () => {
        const body = JSON.parse(text) as OpenLineageEvent | OpenLineageEvent[]
        const events = [body].flat()
        const status = this.answer(events)
        if (status < 300) this.posts.push({ events, authorization: request.headers.authorization })
        response.writeHead(status).end()
      })
    })
    const listening = Promise.withResolvers<void>()
    this.server.listen(this.port, '127.0.0.1', listening.resolve)
    await listening.promise
    this.port = (this.server.address() as AddressInfo).port
  }

  async close(): Promise<void> {
    const closed = Promise.withResolvers<void>()
    this.server?.close(() => closed.resolve())
    this.server?.closeAllConnections()
    await closed.promise
  }

  url(path = '/api/v1/lineage'): string {
    return `http://127.0.0.1:${this.port}${path}`
  }

  get events(): OpenLineageEvent[] {
    return this.posts.flatMap(({ events }) => events)
  }

  /** Each once, in the order of the first time. */
  get distinct(): string[] {
    return [...new Set(this.events.map(nameOf))]
  }
}

const nameOf = ({ job, eventType, run }: OpenLineageEvent) => `${job.name} ${eventType} ${run.runId}`
const short = (events: readonly OpenLineageEvent[]) => events.map(({ job, eventType }) => `${job.name} ${eventType}`)

let test: TestDatabase
let receiver: Receiver
const open = new Set<OpenLineage>()
beforeEach(async () => {
  test = await testDatabase()
  await deployVersion(test.db, testManifest)
  receiver = new Receiver()
  await receiver.open()
})
afterEach(async () => {
  await Promise.all([...open].map((sender) => sender.stop()))
  open.clear()
  await receiver.close()
  await test.drop()
})

function start(more: Partial<OpenLineageParts> & { path?: string; token?: string } = {}): OpenLineage {
  const { path, token, ...rest } = more
  const settings = { url: receiver.url(path), namespace: 'test', token }
  const sender = new OpenLineage({
    ...{ db: test.db, nodeId: randomUUID(), settings, version: '1.2.3', note: () => {}, restMs: 5, retryMs: 5 },
    ...rest,
  })
  open.add(sender)
  sender.start()
  return sender
}
/** What was sent and is not noted when its sender stops is sent again by whoever goes on. */
const noted = (events: number, refused = 0) =>
  until('all to be noted', async () => {
    const [row] = await test.db.query(sent)
    return row?.sent === events && row.refused === refused && !row.failing
  })

async function stop(sender: OpenLineage): Promise<void> {
  open.delete(sender)
  await sender.stop()
}

const log = statement(
  'test.log-transition',
  `with next as (update sluice.runs set seq = seq + 1 where id = $1 returning seq)
   insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state, detail)
   select $1, seq, sluice.sluice_now(), $2, $3, $4, $5, $6, $7 from next`,
)
const giveToken = statement(
  'test.give-token',
  'update sluice.tasks set token = $4 where run_id = $1 and node = $2 and map_index = $3',
)
const sent = statement<{ sent: number; refused: number; error: string | null; failing: boolean }>(
  'test.receivers',
  'select sent, refused, error, failing_since is not null as failing from sluice.lineage_receivers',
)
const kept = statement<{ count: number }>('test.sent-rows', 'select count(*) from sluice.lineage_sent')

const say = (
  id: string,
  node: number,
  from: string,
  to: string,
  attempt = 1,
  detail: string | null = null,
  mapIndex = -1,
) => test.db.execute(log, [id, node, mapIndex, attempt, from, to, detail])

/** A run of one task, from its start to its end. */
async function run(outcome: 'success' | 'failed' | 'cancelled' = 'success'): Promise<string> {
  const id = await insertRun(test.db)
  await say(id, -1, 'queued', 'running')
  await say(id, 0, 'none', 'running')
  await say(id, 0, 'running', outcome, 1, outcome === 'failed' ? 'ACTION_FAILED: no' : null)
  await say(id, -1, 'running', outcome, 1, outcome === 'failed' ? 'keep failed' : null)
  await endRun(test.db, id, outcome)
  return id
}
const all = (count: number) =>
  until(
    () => `${count} events: ${receiver.distinct.length}`,
    () => receiver.distinct.length >= count,
  )

describe('events', () => {
  it('say what happened, to whom, with what it read and wrote', async () => {
    const sender = start({ token: 'correct-horse' })
    await until('it to begin', async () => (await test.db.query(sent)).length === 1)
    const id = await insertRun(test.db)
    await insertTask(test.db, id, [1, 2], 'running')
    await test.db.execute(giveToken, [id, 1, 2, 5])
    await noteLineage(test.db, [
      {
        key: { runId: id, node: 1, mapIndex: 2, token: 5 },
        notes: [
          { kind: 'read', what: 'dataset', name: 'prim.orders', version: 7, hash: 'a'.repeat(64) },
          { kind: 'read', what: 'connection', name: 'web', version: null, hash: null },
          { kind: 'write', what: 'object', name: '', version: null, hash: 'b'.repeat(64) },
          { kind: 'write', what: 'topic', name: 'urls', version: 3, hash: 'c'.repeat(64) },
        ],
      },
    ])
    await say(id, -1, 'queued', 'running')
    await say(id, 1, 'none', 'running', 1, null, 2)
    await say(id, 1, 'running', 'failed', 1, 'ACTION_FAILED: no', 2)
    await say(id, -1, 'running', 'failed', 1, 'fetch failed')
    await endRun(test.db, id, 'failed')
    await all(4)
    await stop(sender)
    const events = receiver.events
    for (const event of events) expect(eventSchema.parse(event)).toEqual(event)
    expect(short(events)).toEqual(['catalog START', 'catalog.fetch START', 'catalog.fetch FAIL', 'catalog FAIL'])
    expect(receiver.posts.map(({ authorization }) => authorization)).toEqual(events.map(() => 'Bearer correct-horse'))
    const [begun, task, failed, over] = events as [
      OpenLineageEvent,
      OpenLineageEvent,
      OpenLineageEvent,
      OpenLineageEvent,
    ]
    expect([begun.run.runId, over.run.runId]).toEqual([id, id])
    expect([task.run.runId, failed.run.runId]).toEqual([taskIdOf(id, 1, 2), taskIdOf(id, 1, 2)])
    expect(failed.run.facets).toMatchObject({
      parent: { run: { runId: id }, job: { namespace: 'test', name: 'catalog' } },
      errorMessage: { message: 'ACTION_FAILED: no', programmingLanguage: 'TypeScript' },
      processing_engine: { name: 'Sluice', version: '1.2.3' },
      sluice_attempt: { number: 1, mapIndex: 2 },
    })
    expect(failed.inputs).toMatchObject([{ name: 'prim.orders', facets: { version: { datasetVersion: '7' } } }])
    expect(failed.inputs[0]!.facets.sluice_hash).toMatchObject({ sha256: 'a'.repeat(64) })
    expect(failed.outputs.map(({ name }) => name)).toEqual([`object:${'b'.repeat(64)}`, 'topic:urls'])
    expect([begun.inputs, task.inputs]).toEqual([[], []])
    expect(begun.job.facets.jobType).toMatchObject({
      jobType: 'WORKFLOW',
      processingType: 'BATCH',
      integration: 'SLUICE',
    })
  })
})

describe('the sender', () => {
  it('tells each event in its order, of many runs', async () => {
    const sender = start()
    await until('it to begin', async () => (await test.db.query(sent)).length === 1)
    const ids = await Promise.all(Array.from({ length: 30 }, () => run()))
    await all(120)
    await noted(120)
    await stop(sender)
    expect(receiver.events).toHaveLength(120)
    for (const id of ids) {
      const own = receiver.events.filter(
        ({ run: { runId, facets: f } }) => runId === id || JSON.stringify(f).includes(id),
      )
      expect(short(own)).toEqual(['catalog START', 'catalog.keep START', 'catalog.keep COMPLETE', 'catalog COMPLETE'])
    }
    expect((await test.db.query(sent))[0]).toMatchObject({ sent: 120, refused: 0, error: null, failing: false })
  })

  it('loses nothing while the receiver is away, and tells the same once it is back', async () => {
    const notes: string[] = []
    const sender = start({ note: (line) => notes.push(line) })
    await until('it to begin', async () => (await test.db.query(sent)).length === 1)
    await run()
    await all(4)
    await receiver.close()
    const away = await run()
    await until('it to be known to fail', async () => (await test.db.query(sent))[0]!.failing)
    await run('cancelled')
    receiver.answer = () => 503
    await receiver.open()
    await until('503 to be heard', async () => (await test.db.query(sent))[0]!.error?.includes('503') === true)
    receiver.answer = () => 201
    await all(12)
    await noted(12)
    await stop(sender)
    expect(receiver.events.some(({ run: { runId } }) => runId === away)).toBe(true)
    expect(notes).toEqual([expect.stringContaining('events wait'), 'OpenLineage events are taken again'])
    expect(notes.join()).toContain('cannot be reached')
  })

  it('goes on where it was after a restart, and what it sent and did not note is sent again, the same', async () => {
    // The first sender dies after its posts, before it has noted them: its database does not take the note.
    const broken = {
      ...test.db,
      execute: (...given: Parameters<typeof test.db.execute>) =>
        given[0].name === 'lineage_feed.sent' ? Promise.reject(new Error('killed')) : test.db.execute(...given),
    }
    const known = start()
    await until('it to begin', async () => (await test.db.query(sent)).length === 1)
    await stop(known)
    await run()
    const first = start({ db: broken, retryMs: 60_000 })
    await all(4)
    await stop(first)
    const before = receiver.events.map((event) => JSON.stringify(event))
    const second = start()
    await until('the second to send', () => receiver.events.length >= 8)
    await run('failed')
    await all(8)
    await stop(second)
    expect(receiver.events.slice(4, 8).map((event) => JSON.stringify(event))).toEqual(before)
    expect(receiver.events).toHaveLength(12)
  })

  it('leaves out what is refused for good, and counts it', async () => {
    receiver.answer = ([event]) => (event!.eventType === 'START' ? 422 : 201)
    const sender = start()
    await until('it to begin', async () => (await test.db.query(sent)).length === 1)
    await run()
    await noted(2, 2)
    await stop(sender)
    expect(short(receiver.events)).toEqual(['catalog.keep COMPLETE', 'catalog COMPLETE'])
    expect((await test.db.query(sent))[0]!.error).toContain('422')
  })

  it('sends arrays where the address says so, and of one that is refused those that are taken', async () => {
    receiver.answer = (events) => (events.some(({ eventType }) => eventType === 'FAIL') ? 400 : 201)
    const sender = start({ path: '/api/v1/lineage/batch' })
    await until('it to begin', async () => (await test.db.query(sent)).length === 1)
    await run()
    await all(4)
    await run('failed')
    await noted(6, 2)
    await stop(sender)
    expect(receiver.posts.some(({ events }) => events.length > 1)).toBe(true)
    expect(receiver.distinct).toHaveLength(6)
  })

  it('is one at a time: another waits until the first lets go', async () => {
    const first = start()
    await until('it to begin', async () => (await test.db.query(sent)).length === 1)
    const second = start()
    await run()
    await all(4)
    await noted(4)
    await stop(first)
    await run()
    await all(8)
    await stop(second)
    expect(receiver.events).toHaveLength(8)
  })

  it('tells a new receiver what happens from now on, and forgets what is long over', async () => {
    await run()
    const sender = start()
    await until('it to begin', async () => (await test.db.query(sent)).length === 1)
    const id = await run()
    await all(4)
    await until('it to be noted', async () => (await test.db.query(kept))[0]!.count === 1)
    expect(
      receiver.events.every(({ run: { runId, facets: f } }) => runId === id || JSON.stringify(f).includes(id)),
    ).toBe(true)
    await test.db.execute(
      statement('test.age', `update sluice.runs set finished_at = finished_at - interval '10 minutes'`),
    )
    await until('it to be forgotten', async () => (await test.db.query(kept))[0]!.count === 0)
    await stop(sender)
    expect(receiver.events).toHaveLength(4)
  })
})
