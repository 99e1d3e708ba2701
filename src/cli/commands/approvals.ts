import type { Command } from 'commander'
import { listAll } from '../client.ts'
import type { JsonSchema } from '../parameters.ts'
import { type CommandContext, type CommonOptions, does, parseLimit, withCommonOptions } from '../session.ts'
import { table } from '../table.ts'

/** An approval that waits, as the API lists it; times are RFC 3339. */
export interface Approval {
  readonly taskId: string
  readonly runId: string
  readonly workflow: string
  readonly task: string
  readonly title: string
  readonly shown: unknown
  readonly form: JsonSchema | null
  readonly askedAt: string | null
  readonly deadline: string | null
}

interface ApprovalsOptions extends CommonOptions {
  readonly run?: string
  readonly limit: number
}

export function addApprovals(program: Command, context: CommandContext): void {
  const command = program
    .command('approvals')
    .description('list approvals that wait for an answer')
    .option('--run <run>', 'only of this run')
    .option('--limit <count>', 'how many at most', parseLimit, 50)
  does(withCommonOptions(command, 'reading'), context, async ({ cli, client }, { run, limit }: ApprovalsOptions) => {
    const query = run === undefined ? '' : `?run=${encodeURIComponent(run)}`
    const items = await listAll<Approval>(await client(), `/api/v1/approvals${query}`, limit)
    const rows = items.map((one) => [one.runId, one.task, one.workflow, one.deadline, fieldsOf(one.form), one.title])
    cli.print(table(['RUN', 'TASK', 'WORKFLOW', 'DEADLINE', 'FIELDS', 'TITLE'], rows), { items })
    if (items.length === 0) cli.note('No approval waits')
  })
}

const fieldsOf = (form: JsonSchema | null) => Object.keys(form?.properties ?? {}).join(', ') || '-'
