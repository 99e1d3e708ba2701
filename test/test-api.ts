/** The API over a database of its own, with a small set of definitions, and rows as the engine would write them. */
import { onTestFinished } from 'vitest'
import type { ApiParts, Identity } from '../src/api/parts.ts'
import { type Api, openApi } from '../src/api/server.ts'
import { newRunId } from '../src/core/ids.ts'
import type { Manifest, NodeManifest, WorkflowManifest } from '../src/core/manifest.ts'
import { SluiceError } from '../src/errors.ts'
import { type Database, type Session, statement } from '../src/ports/database.ts'
import type { Capabilities, Log } from '../src/sdk/context.ts'
import type { Endpoint } from '../src/sdk/endpoint.ts'
import { z } from '../src/sdk/schema.ts'
import { findRunByKey, insertNewRuns } from '../src/store/runs.ts'
import { deployVersion } from '../src/store/versions.ts'
import { systemClock } from '../src/time.ts'
import { testDatabase } from './database.ts'

export function testNode(id: string, upstream: readonly number[] = [], over?: unknown): NodeManifest {
  return {
    id,
    action: id,
    args: {},
    ...(over !== undefined && { over: over as null }),
    upstream,
    rule: 'all_success',
    retry: { attempts: 1, baseMs: 1_000, maxMs: 300_000 },
    timeoutMs: 3_600_000,
    isolation: 'shared',
  }
}

export const testWorkflow: WorkflowManifest = {
  name: 'catalog',
  file: 'workflows/catalog.ts',
  params: z.toJSONSchema(z.object({ file: z.string().min(1).max(100), lines: z.int().min(0).default(10) }), {
    io: 'input',
  }),
  plans: [{ kind: 'cron', name: 'cron-1', pattern: '0 * * * *', timezone: 'UTC', catchUp: 'last' }],
  stages: [],
  nodes: [testNode('keep'), testNode('fetch', [0], []), testNode('publish', [1])],
}

export const testManifest: Manifest = {
  format: 1,
  hash: 'a'.repeat(64),
  entries: [],
  workflows: [
    testWorkflow,
    { ...testWorkflow, name: 'empty', params: { type: 'object', properties: {} }, nodes: [], plans: [] },
  ],
  topics: [{ name: 'urls', partitions: 2, schema: {} }],
  streams: [
    {
      name: 'images',
      file: 'workflows/images.ts',
      topic: 'urls',
      source: { kind: 'topic', name: 'urls' },
      steps: ['fetch'],
      sink: { kind: 'documents', collection: 'images', key: 'sha256' },
    },
  ],
  endpoints: [],
  commands: [],
  faults: [{ where: 'workflows/broken.ts:3:7', message: 'unexpected }' }],
}

export interface Logged {
  readonly message: string
  readonly fields: Record<string, unknown> | undefined
}

export interface TestApi extends Api {
  readonly db: Database
  /** What was logged as an error. */
  readonly logged: Logged[]
}

export interface TestApiWishes extends Partial<Omit<ApiParts, 'db' | 'endpoints'>> {
  readonly endpoints?: readonly Endpoint[]
}

/** Closed, and its database dropped, when the test has finished. */
export async function testApi(wishes: TestApiWishes = {}): Promise<TestApi> {
  const { db, drop } = await testDatabase({ max: 4 })
  const opened = await openTestApi(db, wishes)
  onTestFinished(async () => {
    await opened.close()
    await drop()
  })
  return opened
}

export async function openTestApi(db: Database, wishes: TestApiWishes = {}): Promise<TestApi> {
  const logged: Logged[] = []
  const log: Log = {
    debug: () => {},
    info: () => {},
    warn: () => {},
    error: (message, fields) => logged.push({ message, fields }),
  }
  const manifest = wishes.manifest?.() ?? testManifest
  await deployVersion(db, manifest)
  const api = await openApi({
    manifest: () => manifest,
    capabilities: (signal) => ({ log, signal }) as unknown as Capabilities,
    startRun: ({ name }, params, options) => startRun(db, manifest, name, params, options.idempotencyKey),
    identify: (_, value) => identityOf(value),
    clock: systemClock,
    random: Math.random,
    version: '0.0.0-test',
    allowedHosts: [],
    log,
    ...wishes,
    db,
    endpoints: (wishes.endpoints ?? []).map((endpoint) => ({ endpoint, file: 'workflows/endpoints.ts' })),
  })
  return { ...api, db, logged }
}

/** The stream of the tests takes objects; `id` is their identity, `url` their key. */
export function identityOf(text: string): Identity {
  const value: unknown = JSON.parse(text)
  if (typeof value !== 'object' || value === null) return { fault: 'malformed: it is no object' }
  const { id = 'r0', url = null } = value as { id?: string; url?: string | null }
  return { recordId: String(id), key: url === null ? null : String(url) }
}

let made = 0

/** Ids in the order in which they are asked for. */
export function testRunId(): string {
  made += 1
  return newRunId(1_770_000_000_000 + made, () => 0.5)
}

async function startRun(db: Database, manifest: Manifest, workflow: string, params: unknown, key: string | undefined) {
  const hash = JSON.stringify([workflow, params])
  const known = key === undefined ? undefined : await findRunByKey(db, key)
  if (known && known.requestHash !== hash)
    throw new SluiceError('IDEMPOTENCY_KEY_REUSED', 'another request has this key')
  if (known) return { runId: known.id, created: false }
  const runId = await insertRun(db, { workflow, version: manifest.hash, params, key: key ?? null, hash })
  return { runId, created: true }
}

export async function insertRun(
  db: Session,
  wishes: { workflow?: string; version?: string; params?: unknown; key?: string | null; hash?: string } = {},
): Promise<string> {
  const id = testRunId()
  const run = {
    id,
    workflow: wishes.workflow ?? 'catalog',
    version: wishes.version ?? testManifest.hash,
    plan: 'manual',
    logicalTime: null,
    params: JSON.stringify(wishes.params ?? { file: 'a.txt' }),
    idempotencyKey: wishes.key ?? null,
    requestHash: wishes.key ? (wishes.hash ?? null) : null,
  }
  await insertNewRuns(db, [run])
  return id
}

const setRunState = statement(
  'test.set-run-state',
  `update sluice.runs set state = $2, finished_at = case when $2 in ('success', 'failed', 'cancelled') then sluice.sluice_now() end
   where id = $1`,
)
const tellRunEnded = statement('test.tell-run-ended', `select pg_notify('sluice_run_ended', $1)`)

export async function endRun(
  db: Database,
  id: string,
  state: 'success' | 'failed' | 'cancelled' | 'running',
): Promise<void> {
  await db.execute(setRunState, [id, state])
  await db.execute(tellRunEnded, [id])
}

const putTask = statement(
  'test.put-task',
  `insert into sluice.tasks (run_id, node, map_index, state, attempt, result, error, started_at)
   values ($1, $2, $3, $4, 1, $5, $6, sluice.sluice_now())`,
)

export async function insertTask(
  db: Database,
  runId: string,
  [node, mapIndex]: readonly [number, number],
  state: string,
  { result, error }: { result?: unknown; error?: string } = {},
): Promise<void> {
  const json = result === undefined ? null : JSON.stringify(result)
  await db.execute(putTask, [runId, node, mapIndex, state, json, error ?? null])
}

const putWidth = statement('test.put-width', 'insert into sluice.map_ranges (run_id, node, width) values ($1, $2, $3)')

export async function insertWidth(db: Database, runId: string, node: number, width: number): Promise<void> {
  await db.execute(putWidth, [runId, node, width])
}
