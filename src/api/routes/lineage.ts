import { walkLineage } from '../../core/lineage-graph.ts'
import { SluiceError } from '../../errors.ts'
import { z } from '../../sdk/schema.ts'
import {
  environmentsOfRun,
  isDataset,
  isInLineage,
  type LineageEdge,
  type LineageEntry,
  type LineagePlace,
  lineageOfRun,
  lineageStep,
  listDatasets,
  listVersions,
  type NamedThing,
  type VersionSummary,
} from '../../store/reading/lineage.ts'
import { type ApiContext, idParams, runOf } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { pageOf, pageQuery, type Route, route } from '../route.ts'

const time = z.iso.datetime()
const sha256 = z.string().nullable().meta({ description: 'Lower-case hex; null where nobody gave one' })

const datasetSummary = z.object({
  name: z.string(),
  doc: z.string().nullable(),
  version: z.int().meta({ description: 'The latest' }),
  sha256,
  rows: z.int().nullable(),
  runId: z.uuid(),
  at: time,
})
const versionSummary = z.object({
  version: z.int(),
  sha256,
  objects: z.array(z.string()).meta({ description: 'The objects that hold it, in their order' }),
  rows: z.int().nullable(),
  metadata: z.unknown(),
  runId: z.uuid(),
  task: z.string(),
  index: z.int().nullable(),
  attempt: z.int(),
  at: time,
})
const kinds = ['dataset', 'documents', 'topic', 'file'] as const
const thing = z.object({ what: z.enum(kinds), name: z.string() })
const edge = z.object({ from: thing, to: thing, workflow: z.string(), lastRunId: z.uuid() })
const lineageEntry = z.object({
  task: z.string(),
  index: z.int().nullable(),
  attempt: z.int(),
  kind: z.enum(['read', 'write']),
  what: z.string().meta({
    description:
      'dataset, object, documents, topic, file; connection, secret, step, program, clock, random; more: so many things beyond the limit',
  }),
  name: z.string(),
  version: z.int().nullable(),
  sha256,
})

const nameParams = z.object({
  name: z.string().max(200).meta({
    description: 'Of a dataset; in its lineage also `documents:`, `topic:` or `file:` and a name',
  }),
})
const mostEdges = 1_000

export function lineageRoutes(context: ApiContext): Route[] {
  return [datasetsRoute(context), versionsRoute(context), datasetLineageRoute(context), runLineageRoute(context)]
}

function datasetsRoute({ db }: ApiContext): Route {
  return route<unknown, { limit: number; cursor?: string | undefined }>({
    method: 'GET',
    path: '/api/v1/datasets',
    tag: 'lineage',
    summary: 'Datasets by name, with their latest version',
    query: z.strictObject(pageQuery),
    answers: { 200: { description: 'A page', schema: pageOf(datasetSummary, 'datasets') } },
    errors: ['INVALID_CURSOR'],
    async handle({ query: { limit, cursor } }) {
      const after = cursor === undefined ? '' : decodeCursor('datasets', z.string(), cursor)
      const rows = await listDatasets(db, after, limit + 1)
      const items = rows.slice(0, limit)
      return { items, nextCursor: rows.length > limit ? encodeCursor('datasets', items.at(-1)!.name) : null }
    },
  })
}

function versionsRoute(context: ApiContext): Route {
  const { db } = context
  return route<{ name: string }, { limit: number; cursor?: string | undefined }>({
    method: 'GET',
    path: '/api/v1/datasets/:name/versions',
    tag: 'lineage',
    summary: 'Versions of a dataset, newest first, as far as they are kept',
    params: nameParams,
    query: z.strictObject(pageQuery),
    answers: { 200: { description: 'A page', schema: pageOf(versionSummary, 'versions') } },
    errors: ['INVALID_CURSOR'],
    async handle({ params: { name }, query: { limit, cursor } }) {
      if (!(await isDataset(db, name))) throw unknown(`dataset ${JSON.stringify(name.slice(0, 80))}`)
      const list = `versions of ${name}`
      const before = cursor === undefined ? Number.MAX_SAFE_INTEGER : decodeCursor(list, z.int(), cursor)
      const rows = await listVersions(db, name, before, limit + 1)
      const items = await Promise.all(rows.slice(0, limit).map((row) => versionOf(context, row)))
      return { items, nextCursor: rows.length > limit ? encodeCursor(list, items.at(-1)!.version) : null }
    },
  })
}

/** Its task goes by its number when the run is no longer kept. */
async function versionOf(context: ApiContext, row: VersionSummary) {
  const { node, mapIndex, workflow, codeVersion, ...shown } = row
  const pinned = workflow === null || codeVersion === null ? undefined : await context.pinned(codeVersion, workflow)
  return { ...shown, task: pinned?.nodes[node]?.id ?? String(node), index: mapIndex < 0 ? null : mapIndex }
}

function datasetLineageRoute({ db }: ApiContext): Route {
  return route<{ name: string }, { depth: number }>({
    method: 'GET',
    path: '/api/v1/datasets/:name/lineage',
    tag: 'lineage',
    summary: 'What a dataset is made of, and what is made of it',
    description:
      'An edge says that runs of a workflow have read the one and written the other; of each thing the 200 latest runs are looked at.',
    params: nameParams,
    query: z.strictObject({
      depth: z.coerce.number().int().min(1).max(10).default(3).meta({ description: 'Steps in each direction' }),
    }),
    answers: {
      200: {
        description: `Edges, nearer ones first, at most ${mostEdges} in each direction`,
        schema: z.object({
          name: z.string(),
          upstream: z.array(edge),
          downstream: z.array(edge),
          truncated: z.boolean().meta({ description: 'There is more, farther away or beyond the limit' }),
        }),
      },
    },
    async handle({ params: { name }, query: { depth } }) {
      const start = thingOf(name)
      if (!(await isInLineage(db, start)) && !(start.what === 'dataset' && (await isDataset(db, name)))) {
        throw unknown(`lineage of ${JSON.stringify(name.slice(0, 80))}`)
      }
      const walk = (direction: 'up' | 'down') =>
        walkLineage<LineageEdge>(
          keyOf(start),
          { depth, limit: mostEdges },
          (things, limit) => lineageStep(db, direction, things.map(thingOf), limit),
          (found) => keyOf(direction === 'up' ? found.from : found.to),
        )
      const [upstream, downstream] = await Promise.all([walk('up'), walk('down')])
      const truncated = upstream.truncated || downstream.truncated
      return { name, upstream: upstream.edges, downstream: downstream.edges, truncated }
    },
  })
}

function keyOf({ what, name }: NamedThing): string {
  return what === 'dataset' ? name : `${what}:${name}`
}

/** `topic:things` is a topic; a dataset has no colon in its name. */
function thingOf(key: string): NamedThing {
  const [, what, name] = /^(documents|topic|file):(.+)$/s.exec(key) ?? []
  return what === undefined ? { what: 'dataset', name: key } : ({ what, name } as NamedThing)
}

const place = z.tuple([z.int(), z.int(), z.int(), z.int()])

function runLineageRoute(context: ApiContext): Route {
  return route<{ id: string }, { limit: number; cursor?: string | undefined }>({
    method: 'GET',
    path: '/api/v1/runs/:id/lineage',
    tag: 'lineage',
    summary: 'What the tasks of a run read and wrote, by task and attempt',
    params: idParams,
    query: z.strictObject(pageQuery),
    answers: {
      200: {
        description: 'A page, with what the run was executed in',
        schema: pageOf(lineageEntry, 'lineage').extend({ environments: z.array(z.unknown()) }),
      },
    },
    errors: ['INVALID_CURSOR'],
    async handle({ params, query: { limit, cursor } }) {
      const run = await runOf(context, params.id)
      const workflow = await context.pinned(run.version, run.workflow)
      const list = `lineage of ${run.id}`
      const after: LineagePlace = cursor === undefined ? [-1, -2, 0, 0] : decodeCursor(list, place, cursor)
      const [rows, environments] = await Promise.all([
        lineageOfRun(context.db, run.id, after, limit + 1),
        environmentsOfRun(context.db, run.id),
      ])
      const items = rows.slice(0, limit)
      const last = items.at(-1)
      return {
        items: items.map((row) => shown(row, workflow?.nodes[row.node]?.id)),
        nextCursor:
          rows.length > limit && last ? encodeCursor(list, [last.node, last.mapIndex, last.attempt, last.nth]) : null,
        environments: environments.map((text) => JSON.parse(text) as unknown),
      }
    },
  })
}

function shown({ node, mapIndex, attempt, kind, what, name, version, hash }: LineageEntry, task: string | undefined) {
  const index = mapIndex < 0 ? null : mapIndex
  return { task: task ?? String(node), index, attempt, kind, what, name, version, sha256: hash }
}

function unknown(what: string): SluiceError {
  return new SluiceError('NOT_FOUND', `There is no ${what}`)
}
