import { SluiceError } from '../../errors.ts'
import { reply } from '../../sdk/endpoint.ts'
import { z } from '../../sdk/schema.ts'
import { readEngines, readShardHolders } from '../../store/reading/readiness.ts'
import type { ApiContext } from '../context.ts'
import type { Check } from '../parts.ts'
import { errorOf } from '../problem.ts'
import { type Route, route } from '../route.ts'

const readiness = z.object({
  status: z.enum(['ready', 'not_ready']),
  checks: z.array(z.object({ name: z.string(), ok: z.boolean(), detail: z.string() })),
})

export function healthRoutes(context: ApiContext): Route[] {
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
          schema: readiness,
          example: { status: 'ready', checks: [{ name: 'database', ok: true, detail: 'answers' }] },
        },
        503: { description: 'Not ready; the checks say why', schema: readiness },
      },
      async handle() {
        const checks = await readinessChecks(context)
        const ready = checks.every((check) => check.ok)
        return reply(ready ? 200 : 503, { status: ready ? 'ready' : 'not_ready', checks })
      },
    }),
  ]
}

/** Each check answers for itself: one that cannot be made is not ok. */
async function readinessChecks(context: ApiContext): Promise<Check[]> {
  const own = Promise.all([
    checked('database', () => databaseCheck(context)),
    checked('shards', () => shardCheck(context)),
    checked('definitions', async () => definitionCheck(context)),
  ])
  const others = context.ready?.().catch(() => [{ name: 'others', ok: false, detail: 'could not be checked' }])
  return [...(await own).flat(), ...((await others) ?? [])]
}

async function checked(name: string, make: () => Promise<Check[]>): Promise<Check[]> {
  try {
    return await make()
  } catch (thrown) {
    // The message may name places; who asks learns the kind.
    return [{ name, ok: false, detail: new SluiceError(errorOf(thrown).code, '').code }]
  }
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
  const names = manifest().streams.map((stream) => stream.name)
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
  const detail = `${workflows.length} workflows, ${streams.length} streams, ${faults.length} faults`
  return [{ name: 'definitions', ok: true, detail }]
}
