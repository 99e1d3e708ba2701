/** Events of the OpenLineage standard (specification 2-0-2), made of the transition log: the same rows give the same events. */
import { taskIdOf } from '../core/ids.ts'
import type { WorkflowManifest } from '../core/manifest.ts'
import type { LineageRow, RunNews } from '../store/lineage-feed.ts'
import type { TransitionRow } from '../store/reading/transitions.ts'

export type EventType = 'START' | 'RUNNING' | 'COMPLETE' | 'FAIL' | 'ABORT'

interface Facet {
  readonly _producer: string
  readonly _schemaURL: string
}
type Facets = Readonly<Record<string, Facet & Readonly<Record<string, unknown>>>>

export interface OpenLineageDataset {
  readonly namespace: string
  readonly name: string
  readonly facets: Facets
  readonly outputFacets?: Facets
}

export interface OpenLineageEvent {
  readonly eventType: EventType
  readonly eventTime: string
  readonly producer: string
  readonly schemaURL: string
  readonly run: { readonly runId: string; readonly facets: Facets }
  readonly job: { readonly namespace: string; readonly name: string; readonly facets: Facets }
  readonly inputs: readonly OpenLineageDataset[]
  readonly outputs: readonly OpenLineageDataset[]
}

const specification = 'https://openlineage.io/spec'
const core = `${specification}/2-0-2/OpenLineage.json#/$defs`
const schemas = {
  parent: `${specification}/facets/1-0-1/ParentRunFacet.json#/$defs/ParentRunFacet`,
  nominalTime: `${specification}/facets/1-0-1/NominalTimeRunFacet.json#/$defs/NominalTimeRunFacet`,
  errorMessage: `${specification}/facets/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet`,
  processing_engine: `${specification}/facets/1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet`,
  jobType: `${specification}/facets/2-0-3/JobTypeJobFacet.json#/$defs/JobTypeJobFacet`,
  version: `${specification}/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet`,
  outputStatistics: `${specification}/facets/1-0-2/OutputStatisticsOutputDatasetFacet.json#/$defs/OutputStatisticsOutputDatasetFacet`,
  // Of our own: what the specification asks of any facet.
  sluice_hash: `${core}/DatasetFacet`,
  sluice_attempt: `${core}/RunFacet`,
} as const

/** Longer error texts are cut. */
const longestError = 8_192

/** A dataset of another kind than our own is named with what it is. Connections, secrets and the clock are none. */
const namedAs: Readonly<Record<string, (row: LineageRow) => string>> = {
  dataset: ({ name }) => name,
  topic: ({ name }) => `topic:${name}`,
  documents: ({ name }) => `documents:${name}`,
  file: ({ name }) => `file:${name}`,
  object: ({ hash }) => `object:${hash}`,
}

export interface EventParts {
  readonly namespace: string
  /** Of Sluice. */
  readonly version: string
}

const ended: Readonly<Record<string, EventType>> = {
  success: 'COMPLETE',
  skipped: 'COMPLETE',
  failed: 'FAIL',
  upstream_failed: 'FAIL',
  cancelled: 'ABORT',
  removed: 'ABORT',
}
/** From these a task may go without having begun. */
const notBegun: ReadonlySet<string> = new Set(['none', 'scheduled', 'queued'])

/**
 * What a transition is to OpenLineage. A task begins with its first attempt, or when it first waits, and runs on with each
 * further one; what never began has no event, since a run that ends must have started.
 */
export function eventTypeOf({ node, from, to, attempt }: TransitionRow): EventType | undefined {
  if (node < 0) return to === 'running' ? 'START' : ended[to]
  if (to === 'running' || to === 'deferred') {
    if (from === 'none') return 'START'
    if (notBegun.has(from)) return attempt <= 1 ? 'START' : 'RUNNING'
    return to === 'running' ? 'RUNNING' : undefined
  }
  return notBegun.has(from) ? undefined : ended[to]
}

export function eventOf(
  run: RunNews,
  workflow: WorkflowManifest | undefined,
  transition: TransitionRow,
  lineage: readonly LineageRow[],
  { namespace, version }: EventParts,
): OpenLineageEvent | undefined {
  const eventType = eventTypeOf(transition)
  if (!eventType) return undefined
  const producer = `urn:sluice:${version}`
  const facet = (name: keyof typeof schemas, fields: Readonly<Record<string, unknown>>): Facets => ({
    [name]: { _producer: producer, _schemaURL: schemas[name], ...fields },
  })
  const { node, mapIndex, attempt, detail, at } = transition
  const isTask = node >= 0
  const isEnd = eventType !== 'START' && eventType !== 'RUNNING'
  const runId = isTask ? taskIdOf(run.id, node, mapIndex) : run.id
  const job = isTask ? `${run.workflow}.${workflow?.nodes[node]?.id ?? node}` : run.workflow
  const datasetOf = (row: LineageRow): OpenLineageDataset => ({
    namespace,
    name: namedAs[row.what]!(row),
    facets: {
      ...(row.what === 'dataset' && row.version !== null
        ? facet('version', { datasetVersion: String(row.version) })
        : {}),
      ...(row.hash === null ? {} : facet('sluice_hash', { sha256: row.hash })),
    },
    ...(row.rows === null ? {} : { outputFacets: facet('outputStatistics', { rowCount: row.rows }) }),
  })
  const of = (kind: LineageRow['kind']) =>
    isTask && isEnd ? lineage.filter((row) => row.kind === kind && row.what in namedAs).map(datasetOf) : []
  return {
    eventType,
    eventTime: at.toISOString(),
    producer,
    schemaURL: `${core}/RunEvent`,
    run: {
      runId,
      facets: {
        ...facet('processing_engine', { version, name: 'Sluice', openlineageAdapterVersion: version }),
        ...(isTask
          ? {
              ...facet('parent', { run: { runId: run.id }, job: { namespace, name: run.workflow } }),
              ...facet('sluice_attempt', { number: attempt, ...(mapIndex < 0 ? {} : { mapIndex }) }),
            }
          : {}),
        ...(!isTask && run.logicalTime !== null
          ? facet('nominalTime', { nominalStartTime: run.logicalTime.toISOString() })
          : {}),
        ...(eventType === 'FAIL'
          ? facet('errorMessage', { message: (detail ?? '').slice(0, longestError), programmingLanguage: 'TypeScript' })
          : {}),
      },
    },
    job: {
      namespace,
      name: job,
      facets: facet('jobType', {
        processingType: 'BATCH',
        integration: 'SLUICE',
        jobType: isTask ? 'TASK' : 'WORKFLOW',
      }),
    },
    inputs: of('read'),
    outputs: of('write'),
  }
}
