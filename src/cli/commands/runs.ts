import type { Command } from 'commander'
import type { RunState } from '../../core/run-state.ts'
import { listAll } from '../client.ts'
import { type CommandContext, type CommonOptions, does, parseLimit, withCommonOptions } from '../session.ts'
import { span, table } from '../table.ts'

/** A run as the API lists it; times are RFC 3339. */
export interface Run {
  readonly id: string
  readonly workflow: string
  readonly version: string
  readonly plan: string
  readonly state: RunState
  readonly createdAt: string
  readonly startedAt: string | null
  readonly finishedAt: string | null
}

interface RunsOptions extends CommonOptions {
  readonly workflow?: string
  readonly state?: string
  readonly limit: number
}

export function addRuns(program: Command, context: CommandContext): void {
  const command = program
    .command('runs')
    .description('list runs, newest first')
    .option('--workflow <name>', 'only of this workflow')
    .option('--state <state>', 'only in this state: queued, running, success, failed, cancelled')
    .option('--limit <count>', 'how many at most', parseLimit, 20)
  does(
    withCommonOptions(command, 'reading'),
    context,
    async ({ cli, client }, { workflow, state, limit }: RunsOptions) => {
      const query = new URLSearchParams({ ...(workflow ? { workflow } : {}), ...(state ? { state } : {}) })
      const items = await listAll<Run>(await client(), `/api/v1/runs?${query}`, limit)
      const rows = items.map((run) => [run.id, run.workflow, run.state, run.plan, run.createdAt, durationOf(run)])
      cli.print(table(['RUN', 'WORKFLOW', 'STATE', 'PLAN', 'CREATED', 'TOOK'], rows), { items })
      if (items.length === 0) cli.note('There are no such runs')
    },
  )
}

export function durationOf({
  startedAt,
  finishedAt,
}: {
  startedAt: string | null
  finishedAt: string | null
}): string | null {
  return startedAt !== null && finishedAt !== null ? span(Date.parse(finishedAt) - Date.parse(startedAt)) : null
}
