import { type Command, InvalidArgumentError } from 'commander'
import { type NextTick, ticksOf } from '../../core/plan-preview.ts'
import { parseCron } from '../../core/schedule.ts'
import { SluiceError } from '../../errors.ts'
import { systemClock } from '../../time.ts'
import type { Cli } from '../cli.ts'
import { type Client, listAll } from '../client.ts'
import { type CommandContext, type CommonOptions, does, withCommonOptions } from '../session.ts'
import { table } from '../table.ts'

interface PlansOptions extends CommonOptions {
  readonly next?: number
  readonly preview?: string
  readonly timezone?: string
  readonly ticks?: boolean
}

interface Plan {
  readonly workflow: string
  readonly name: string
  readonly description: string
  readonly paused: boolean
  readonly next: readonly NextTick[]
}

interface Tick {
  readonly plan: string
  readonly workflow: string
  readonly logicalTime: string
  readonly event: string
  readonly outcome: string
  readonly reason: string | null
  readonly runId: string | null
}

const mostPlans = 10_000
/** Of the ledger: the newest. */
const mostTicks = 100

export function addPlans(program: Command, context: CommandContext): void {
  const command = program
    .command('plans [workflow]')
    .description('list plans and when they start runs; of one workflow, its next ticks')
    .option('--next <count>', 'how many ticks of each plan (default: 10 of one workflow, else 1)', parseCount)
    .option('--ticks', 'what became of the last ticks and events instead')
    .option('--preview <pattern>', 'the ticks of a cron pattern that is no plan yet')
    .option('--timezone <zone>', 'the zone of --preview (default: UTC)')
  does(
    withCommonOptions(command, 'reading'),
    context,
    async ({ cli, client }, options: PlansOptions, workflow?: string) => {
      if (options.preview !== undefined) return preview(cli, options.preview, options)
      if (options.timezone !== undefined) throw new SluiceError('USAGE', '--timezone goes with --preview')
      const api = await client()
      if (options.ticks) return printTicks(cli, api, workflow)
      return workflow === undefined ? printAll(cli, api) : printOne(cli, api, workflow, options.next ?? 10)
    },
  )
}

function preview(cli: Cli, pattern: string, { timezone = 'UTC', next = 10 }: PlansOptions): void {
  const ticks = ticksOf(parseCron(pattern, timezone), systemClock.now(), next)
  cli.print(tickTable(ticks), { pattern, timezone, next: ticks })
}

async function printAll(cli: Cli, api: Client): Promise<void> {
  const items = await listAll<Plan>(api, '/api/v1/plans', mostPlans)
  const rows = items.map((plan) => [plan.workflow, plan.name, nextOf(plan), plan.description])
  cli.print(table(['WORKFLOW', 'PLAN', 'NEXT', 'STARTS A RUN'], rows), { items })
  if (items.length === 0) cli.note('There are no plans; every workflow can be started by hand: sluice run')
}

async function printOne(cli: Cli, api: Client, workflow: string, next: number): Promise<void> {
  const path = `/api/v1/workflows/${encodeURIComponent(workflow)}/plans?next=${next}`
  const { items, params } = await api.request<{ items: Plan[]; params: unknown }>('GET', path)
  const parts = items.map((plan) =>
    [`${plan.name}${plan.paused ? ' (paused)' : ''}: ${plan.description}`, tickTable(plan.next)]
      .filter((text) => text !== '')
      .join('\n'),
  )
  const byHand = `by hand, with parameters of ${JSON.stringify(params)}`
  cli.print([...parts, byHand].join('\n\n'), { workflow, items, params })
}

async function printTicks(cli: Cli, api: Client, workflow: string | undefined): Promise<void> {
  const query = new URLSearchParams(workflow === undefined ? {} : { workflow })
  const items = await listAll<Tick>(api, `/api/v1/plans/ticks?${query}`, mostTicks)
  const rows = items.map((tick) => [
    ...[tick.logicalTime, tick.workflow, tick.plan, tick.outcome, tick.runId],
    tick.reason?.replace(/\s+/g, ' ').slice(0, 160),
  ])
  cli.print(table(['TIME', 'WORKFLOW', 'PLAN', 'OUTCOME', 'RUN', 'REASON'], rows), { items })
  if (items.length === 0) cli.note('No tick has come yet')
}

const nextOf = ({ paused, next }: Plan): string => (paused ? 'paused' : (next[0]?.time ?? 'by events'))

const tickTable = (ticks: readonly NextTick[]): string =>
  table(
    ['UTC', 'LOCAL'],
    ticks.map(({ time, local }) => [time, local]),
  )

function parseCount(text: string): number {
  if (/^\d{1,3}$/.test(text) && Number(text) >= 1 && Number(text) <= 100) return Number(text)
  throw new InvalidArgumentError('Allowed is a whole number from 1 to 100.')
}
