import { howMany } from '../../core/how-many.ts'
import { SluiceError } from '../../errors.ts'
import { reply } from '../../sdk/endpoint.ts'
import { z } from '../../sdk/schema.ts'
import { readEngines, readShardHolders } from '../../store/reading/readiness.ts'
import { streamModes } from '../../store/stream-controls.ts'
import type { ApiContext } from '../context.ts'
import type { Check } from '../parts.ts'
import { errorOf, problemOf, problemSchema, problemType } from '../problem.ts'
import { type Route, route } from '../route.ts'

const checks = z.array(z.object({ name: z.string(), ok: z.boolean(), detail: z.string() }))
const ready = z.object({ status: z.literal('ready'), checks })
const notReady = problemSchema.extend({ checks })

/** Who asks learns within this whether the server is ready, however long the database takes to answer. */
const limitMs = 3_000
/** When to look again. */
const retryAfterMs = 5_000

export function healthRoutes(context: ApiContext): Route[] {
  const examine = shared(() => readinessChecks(context))
  return [
    route({
      method: 'GET',
      path: '/healthz',
      tag: 'health',
      summary: 'Whether the server answers',
      answers: { 200: { description: 'It does', schema: z.object({ status: z.literal('ok') }) } },
      handle: () => ({ status: 'ok' }),
    }),
    route({
      method: 'GET',
      path: '/readyz',
      tag: 'health',
      summary: 'Whether work would be taken and done now',
      answers: {
        200: {
          description: 'Ready',
          schema: ready,
          example: { status: 'ready', checks: [{ name: 'database', ok: true, detail: 'answers' }] },
        },
        503: { description: 'Not ready; the checks say why', type: problemType, schema: notReady },
      },
      async handle() {
        const found = await examine()
        const faults = found.filter((check) => !check.ok)
        if (faults.length === 0) return reply(200, { status: 'ready', checks: found })
        const detail = faults.map((check) => `${check.name}: ${check.detail}`).join('; ')
        const problem = problemOf(new SluiceError('NOT_READY', detail), '/readyz')
        const headers = { 'content-type': problemType, 'retry-after': String(retryAfterMs / 1_000) }
        return reply(503, Buffer.from(JSON.stringify({ ...problem, checks: found })), headers)
      },
    }),
  ]
}

/** Many who ask at once are told the same: a database that hangs is not asked by each of them. */
function shared<T>(work: () => Promise<T>): () => Promise<T> {
  let underWay: Promise<T> | undefined
  return () => {
    underWay ??= work().finally(() => {
      underWay = undefined
    })
    return underWay
  }
}

/** Each check answers for itself: one that cannot be made is not ok. */
async function readinessChecks(context: ApiContext): Promise<Check[]> {
  const own = Promise.all([
    checked('database', () => databaseCheck(context)),
    checked('shards', () => shardCheck(context)),
    checked('definitions', async () => definitionCheck(context)),
  ])
  const others = within(limitMs, context.ready?.() ?? Promise.resolve([])).catch(() => [
    { name: 'others', ok: false, detail: 'could not be checked' },
  ])
  return [...(await own).flat(), ...(await others)]
}

async function checked(name: string, make: () => Promise<Check[]>): Promise<Check[]> {
  try {
    return await within(limitMs, make())
  } catch (thrown) {
    // The message may name places; who asks learns the kind.
    return [{ name, ok: false, detail: new SluiceError(errorOf(thrown).code, '').code }]
  }
}

async function within<T>(ms: number, answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new SluiceError('DATABASE_UNREACHABLE', `no answer within ${ms} ms`)), ms)
  })
  return Promise.race([answer, late]).finally(() => clearTimeout(timer))
}

async function databaseCheck({ db }: ApiContext): Promise<Check[]> {
  const { live, heartbeat } = await readEngines(db)
  const last = heartbeat === null ? 'none has started' : `the last heartbeat was at ${heartbeat.toISOString()}`
  return [
    { name: 'database', ok: true, detail: 'answers' },
    { name: 'engine', ok: live > 0, detail: live > 0 ? `${live} live` : last },
  ]
}

async function shardCheck({ db, manifest }: ApiContext): Promise<Check[]> {
  const modes = await streamModes(db)
  // Nobody is to hold the shards of a paused stream.
  const names = manifest().streams.flatMap(({ name }) => (modes.get(name) === 'paused' ? [] : [name]))
  if (names.length === 0) return [{ name: 'shards', ok: true, detail: 'no streams' }]
  const rows = await readShardHolders(db, names)
  const short = names.flatMap((name) => {
    const row = rows.find(({ stream }) => stream === name)
    if (row && row.held === row.shards) return []
    return [row ? `${name}: ${row.held} of ${row.shards} held` : `${name}: no shards yet`]
  })
  const total = rows.reduce((sum, row) => sum + row.shards, 0)
  return [{ name: 'shards', ok: short.length === 0, detail: short.slice(0, 10).join('; ') || `${total} held` }]
}

/** Faults of files do not make the server unready: the other definitions go on. */
function definitionCheck({ manifest }: ApiContext): Check[] {
  const { workflows, streams, faults } = manifest()
  const detail = [
    howMany(workflows.length, 'workflow'),
    howMany(streams.length, 'stream'),
    howMany(faults.length, 'fault'),
  ].join(', ')
  return [{ name: 'definitions', ok: true, detail }]
}
