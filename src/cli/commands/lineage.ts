import type { Command } from 'commander'
import { isUuid } from '../../core/ids.ts'
import type { Cli } from '../cli.ts'
import { type Client, listAll } from '../client.ts'
import { type CommandContext, type CommonOptions, does, withCommonOptions } from '../session.ts'
import { table } from '../table.ts'
import { labelOf } from './show.ts'

interface Entry {
  readonly task: string
  readonly index: number | null
  readonly attempt: number
  readonly kind: string
  readonly what: string
  readonly name: string
  readonly version: number | null
  readonly sha256: string | null
}
interface Thing {
  readonly what: string
  readonly name: string
}
interface Edge {
  readonly from: Thing
  readonly to: Thing
  readonly workflow: string
  readonly lastRunId: string
}
interface Graph {
  readonly name: string
  readonly upstream: readonly Edge[]
  readonly downstream: readonly Edge[]
  readonly truncated: boolean
}
interface Version {
  readonly version: number
  readonly sha256: string | null
  readonly rows: number | null
  readonly runId: string
  readonly at: string
}

const mostEntries = 10_000
const mostVersions = 10

export function addLineage(program: Command, context: CommandContext): void {
  const command = program
    .command('lineage <run-or-dataset>')
    .description('what a run read and wrote; or what a dataset is made of, and what is made of it')
    .option('--depth <steps>', 'of a dataset: so many steps in each direction, 1 to 10', '3')
  does(
    withCommonOptions(command, 'reading'),
    context,
    async ({ cli, client }, { depth = '3' }: CommonOptions & { depth?: string }, name: string) => {
      const api = await client()
      if (isUuid(name.toLowerCase())) await showRun(api, cli, name.toLowerCase())
      else await showDataset(api, cli, name, depth)
    },
  )
}

async function showRun(api: Client, cli: Cli, id: string): Promise<void> {
  const items = await listAll<Entry>(api, `/api/v1/runs/${id}/lineage`, mostEntries)
  const rows = items.map((entry) => [
    ...[labelOf({ name: entry.task, index: entry.index }), entry.attempt, entry.kind, entry.what],
    ...[entry.name, entry.version, entry.sha256?.slice(0, 12)],
  ])
  const text = table(['TASK', 'ATTEMPT', 'KIND', 'WHAT', 'NAME', 'VERSION', 'SHA256'], rows)
  const more = items.length === mostEntries ? `\nThe first ${mostEntries} entries; the API has the others.` : ''
  cli.print(text === '' ? 'Nothing is noted of this run.' : text + more, { items })
}

async function showDataset(api: Client, cli: Cli, name: string, depth: string): Promise<void> {
  const path = `/api/v1/datasets/${encodeURIComponent(name)}`
  const graph = await api.request<Graph>('GET', `${path}/lineage?depth=${encodeURIComponent(depth)}`)
  const versions = name.includes(':') ? [] : await listAll<Version>(api, `${path}/versions`, mostVersions)
  const edges = (list: readonly Edge[]) =>
    table(
      ['FROM', 'TO', 'BY WORKFLOW', 'LAST RUN'],
      list.map(({ from, to, workflow, lastRunId }) => [keyOf(from), keyOf(to), workflow, lastRunId]),
    )
  const latest = table(
    ['VERSION', 'SHA256', 'ROWS', 'RUN', 'AT'],
    versions.map(({ version, sha256, rows, runId, at }) => [version, sha256?.slice(0, 12), rows, runId, at]),
  )
  const parts = [
    latest,
    `made of:\n${edges(graph.upstream) || '-'}`,
    `made into:\n${edges(graph.downstream) || '-'}`,
    graph.truncated ? 'There is more: ask with a greater --depth.' : '',
  ]
  cli.print(parts.filter((part) => part !== '').join('\n\n'), { ...graph, versions })
}

function keyOf({ what, name }: Thing): string {
  return what === 'dataset' ? name : `${what}:${name}`
}
