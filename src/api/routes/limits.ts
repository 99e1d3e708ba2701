import { type LimitKind, limitKinds } from '../../core/limit-names.ts'
import { nearest } from '../../core/nearest.ts'
import { SluiceError } from '../../errors.ts'
import { checkName } from '../../sdk/name.ts'
import { z } from '../../sdk/schema.ts'
import { setLimit } from '../../store/limits.ts'
import { findLimit, type LimitRow, limitNames, listLimits } from '../../store/reading/limits.ts'
import { parseDuration } from '../../time.ts'
import type { ApiContext } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { pageOf, pageQuery, type Route, route } from '../route.ts'

const kind = z.enum(limitKinds).meta({
  description: 'workers: tasks of a workflow at once; runs: its active runs; key, pool: attempts at once; rate: starts',
})

const limit = z.object({
  kind,
  name: z.string(),
  slots: z
    .int()
    .nullable()
    .meta({ description: 'What holds now; 0: closed; null: nobody has said. Of a rate: per `per`' }),
  perMs: z.number().nullable(),
  burst: z.int().nullable(),
  declared: z.int().nullable().meta({ description: 'By the definitions' }),
  deployed: z.boolean().meta({ description: 'The present deployment declares it' }),
  setBy: z.string().nullable().meta({ description: 'Who set it, where that goes before what is declared' }),
  setAt: z.iso.datetime().nullable(),
  inUse: z.int().meta({ description: 'As the engines showed it last' }),
  waiting: z.int().meta({ description: 'Tasks in line for it' }),
})

const most = 1_000_000
const setting = z.strictObject({
  slots: z.int().min(0).max(most).meta({ description: '0: closed' }),
  per: z.string().max(50).optional().meta({ description: 'Of a rate: the time in which so many start, such as 1m' }),
  burst: z.int().min(1).max(most).optional().meta({ description: 'Of a rate: starts at once after a pause' }),
  by: z.string().min(1).max(200).default('the API').meta({ description: 'Who says so' }),
})
type Setting = z.infer<typeof setting>

const params = z.object({ kind, name: z.string().max(200) })
type Named = { readonly kind: LimitKind; readonly name: string }
const place = z.tuple([z.string(), z.string()])

export function limitRoutes(context: ApiContext): Route[] {
  const { db } = context
  return [
    route<unknown, { limit: number; cursor?: string; kind?: LimitKind }>({
      method: 'GET',
      path: '/api/v1/limits',
      tag: 'limits',
      summary: 'Limits, what is in use of them, and how many tasks wait',
      query: z.strictObject({ ...pageQuery, kind: kind.optional() }) as never,
      answers: { 200: { description: 'A page', schema: pageOf(limit, 'limits') } },
      errors: ['INVALID_CURSOR'],
      async handle({ query: { limit: count, cursor, kind: only = null } }) {
        const after = cursor === undefined ? (['', ''] as const) : decodeCursor('limits', place, cursor)
        const found = await listLimits(db, { kind: only, after, limit: count + 1 })
        const items = found.slice(0, count)
        const last = items.at(-1)
        const more = last !== undefined && found.length > count
        return { items, nextCursor: more ? encodeCursor('limits', [last.kind, last.name]) : null }
      },
    }),
    route<Named>({
      method: 'GET',
      path: '/api/v1/limits/:kind/:name',
      tag: 'limits',
      summary: 'A limit',
      params,
      answers: { 200: { description: 'The limit', schema: limit } },
      handle: ({ params: named }) => limitOf(context, named),
    }),
    route<Named, unknown, Setting>({
      method: 'PUT',
      path: '/api/v1/limits/:kind/:name',
      tag: 'limits',
      summary: 'Set a limit',
      description:
        'It holds at once on all engines, and goes before what definitions say, also of later deployments. Nothing that runs is ended; nothing starts until less is in use. A pool may be set before a definition has it.',
      params,
      body: setting,
      bodyExample: { slots: 3, by: 'ann' },
      answers: { 200: { description: 'The limit', schema: limit } },
      async handle({ params: named, body }) {
        if (named.kind === 'pool') checkedName(named.name)
        else await limitOf(context, named)
        await setLimit(db, { ...named, slots: body.slots, rate: rateOf(named.kind, body) }, body.by)
        return limitOf(context, named)
      },
    }),
    route<Named>({
      method: 'DELETE',
      path: '/api/v1/limits/:kind/:name',
      tag: 'limits',
      summary: 'Let what the definitions say of a limit hold again',
      params,
      answers: { 200: { description: 'The limit', schema: limit } },
      async handle({ params: named }) {
        await limitOf(context, named)
        await setLimit(db, { ...named, slots: null }, 'the API')
        return limitOf(context, named)
      },
    }),
  ]
}

async function limitOf({ db }: ApiContext, { kind: of, name }: Named): Promise<LimitRow> {
  const found = await findLimit(db, of, name)
  if (found) return found
  const meant = nearest(name, await limitNames(db, of))
  const hint = meant === undefined ? '' : `; did you mean ${meant}?`
  throw new SluiceError('NOT_FOUND', `There is no ${spoken[of]} named ${JSON.stringify(name)}${hint}`)
}

const spoken: Readonly<Record<LimitKind, string>> = {
  pool: 'pool',
  key: 'key',
  rate: 'rate',
  workers: 'limit of workers',
  runs: 'limit of active runs',
}

function checkedName(name: string): void {
  try {
    checkName('pool', name)
  } catch (thrown) {
    throw new SluiceError('INVALID_INPUT', (thrown as Error).message, {
      faults: [{ where: '/name', message: (thrown as Error).message }],
    })
  }
}

function rateOf(of: LimitKind, { slots, per, burst }: Setting): { perMs: number; burst: number } | undefined {
  const wrong = (where: string, message: string) =>
    new SluiceError('INVALID_INPUT', message, { faults: [{ where, message }] })
  if (of !== 'rate') {
    if (per !== undefined) throw wrong('/per', 'per belongs to a rate')
    if (burst !== undefined) throw wrong('/burst', 'burst belongs to a rate')
    return undefined
  }
  if (per === undefined) throw wrong('/per', 'per is the time in which so many start, such as 1m; a rate needs it')
  let perMs: number
  try {
    perMs = parseDuration(per)
  } catch (thrown) {
    throw wrong('/per', (thrown as Error).message)
  }
  if (slots === 0) return { perMs, burst: 0 }
  return { perMs, burst: burst ?? Math.max(1, Math.ceil((slots * 1_000) / perMs)) }
}
