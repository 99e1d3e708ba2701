/** What a bad network does to the replacement of a document: it takes place once, whatever became of the answer. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { attemptEvents } from '../../src/app/attempt-events.ts'
import { capabilitiesOver, OpenConnections } from '../../src/app/capabilities/capabilities.ts'
import { RemoteCalls } from '../../src/app/capabilities/remote-calls.ts'
import { parseConnections } from '../../src/connectors/connections.ts'
import { parseSecrets } from '../../src/connectors/secrets.ts'
import { openFiles } from '../../src/objects/files.ts'
import { statement } from '../../src/ports/database.ts'
import { openDatabase, type PooledDatabase } from '../../src/postgres/pool.ts'
import type { Documents } from '../../src/sdk/context.ts'
import { openDocuments, type Tried } from '../../src/store/documents.ts'
import { deployVersion } from '../../src/store/versions.ts'
import { type TestDatabase, testDatabase } from '../database.ts'
import { noObjects, plainCapabilities } from '../stream-world.ts'
import { insertRun, insertTask, testManifest } from '../test-api.ts'
import { proxyFor, type TcpProxy } from './tcp-proxy.ts'

interface Counted extends Record<string, unknown> {
  readonly n: number
}

let own: TestDatabase
let proxy: TcpProxy
/** Behind the proxy. */
let faulty: PooledDatabase
let folder: string
const unreachable = { code: 'DATABASE_UNREACHABLE' }
const plusOne = ({ n }: Counted): Counted => ({ n: n + 1 })

beforeAll(async () => {
  own = await testDatabase()
  await deployVersion(own.db, testManifest)
  folder = await mkdtemp(join(tmpdir(), 'sluice-documents-'))
})
afterAll(async () => {
  await own?.drop()
  await rm(folder, { recursive: true })
})
beforeEach(async () => {
  const through = await proxyFor(own.url)
  proxy = through.proxy
  faulty = openDatabase({ url: through.url, applicationName: 'faulty', max: 1 })
})
afterEach(async () => {
  await faulty.close()
  await proxy.close()
})

const giveToken = statement('test.give-token', `update sluice.tasks set token = 7 where run_id = $1`)

/** Documents as an action has them: its calls are answered by the engine's side, which outlasts what the database does. */
async function ofAnAction(): Promise<Documents<Counted>> {
  const runId = await insertRun(own.db)
  await insertTask(own.db, runId, [0, -1], 'running')
  await own.db.execute(giveToken, [runId])
  const nothing = () => {}
  const store = openFiles(join(folder, 'objects'))
  const direct = { db: faulty, store, connections: parseConnections({}), secrets: parseSecrets({}), claimant: 'test' }
  const unused = { logs: undefined as never, progress: undefined as never, lineage: undefined as never }
  const { call } = attemptEvents(
    { direct, ...unused, redact: (text) => text, note: nothing },
    { ended: nothing, batchEnded: nothing },
  )
  const attempt = {
    ...{ runId, node: 0, mapIndex: -1, attempt: 1, nodeId: 'load', args: '{}', timeoutMs: 60_000, logicalTime: null },
    ...{ workflow: 'catalog', version: testManifest.hash },
  }
  const remote = new RemoteCalls((message) => {
    if (message.t !== 'call') return
    const { id, token, name, args } = message
    call({ ...attempt, token }, name, args).then(
      (value) => remote.hear({ t: 'answer', id, value }),
      (error) => remote.hear({ t: 'refuse', id, error: { code: error.code, message: String(error) } as never }),
    )
  })
  const calls = remote.of(7)
  const { log } = plainCapabilities(new AbortController().signal)
  const connections = new OpenConnections(calls.connectionSettings)
  const parts = { calls, store, connections, projectDir: folder, log }
  return capabilitiesOver(parts, new AbortController().signal).documents<Counted>('of-action')
}

it('a change whose COMMIT was not answered is made once', async () => {
  const documents = await ofAnAction()
  await documents.put('k', { n: 0 })
  for (let done = 1; done <= 5; done += 1) {
    proxy.cut({ at: 'commit', number: 1 })
    let asked = 0
    const changed = await documents.change('k', (document) => {
      asked += 1
      return plusOne(document)
    })
    expect([changed, asked, await documents.get('k')]).toEqual([{ n: done }, 1, { n: done }])
  }
  expect(proxy.accepted).toBe(6)
})

it('a try that was done is known as done whatever others wrote since, also what was there before', async () => {
  const [documents, others] = [
    openDocuments<Counted>(faulty, noObjects, 'c'),
    openDocuments<Counted>(own.db, noObjects, 'c'),
  ]
  for (const since of [5, 0, 1]) {
    await others.put('k', { n: 0 })
    const { revision } = (await documents.revised('k'))!
    const tried: Tried = {}
    proxy.cut({ at: 'commit', number: 1 })
    await expect(documents.replace('k', revision, { n: 1 }, {}, tried)).rejects.toMatchObject(unreachable)
    expect(await others.get('k')).toEqual({ n: 1 })
    await others.put('k', { n: since })
    expect(await documents.replace('k', revision, { n: 1 }, {}, tried)).toBe(true)
    expect(await others.get('k')).toEqual({ n: since })
  }
})

it('a try that was not done is made again, and what another wrote is not taken for it though it is the same', async () => {
  const [documents, others] = [
    openDocuments<Counted>(faulty, noObjects, 'd'),
    openDocuments<Counted>(own.db, noObjects, 'd'),
  ]
  await others.put('k', { n: 0 })
  const { revision } = (await documents.revised('k'))!
  // An object that is not there rolls the transaction back behind the update.
  for (const theirs of [undefined, { n: 1 }]) {
    await others.put('k', { n: 0 })
    const tried: Tried = {}
    const work = documents.replace('k', revision, { n: 1 }, { objects: ['0'.repeat(64)] }, tried)
    await expect(work).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' })
    expect(tried.transaction).toMatch(/^\d+$/)
    if (theirs !== undefined) await others.put('k', theirs)
    expect(await documents.replace('k', revision, { n: 1 }, {}, tried)).toBe(theirs === undefined)
    expect(await others.get('k')).toEqual({ n: 1 })
  }
})
