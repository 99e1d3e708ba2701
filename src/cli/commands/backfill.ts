import { userInfo } from 'node:os'
import { type Command, InvalidArgumentError, Option } from 'commander'
import {
  backfillLimits,
  backfillOrders,
  backfillReasons,
  type Estimate,
  type Verdict,
  verdicts,
} from '../../core/backfill.ts'
import { type RunState, runStates } from '../../core/run-state.ts'
import { SluiceError } from '../../errors.ts'
import { listAll } from '../client.ts'
import { readParams } from '../parameters.ts'
import {
  type CommandContext,
  type CommonOptions,
  does,
  parseLimit,
  type Session,
  withCommonOptions,
} from '../session.ts'
import { span, table } from '../table.ts'
import { explain, schemaOf } from './run.ts'

/** As the API shows it; times are RFC 3339. */
interface Backfill {
  readonly id: string
  readonly workflow: string
  readonly plan: string
  readonly from: string
  readonly to: string
  readonly reasons: readonly string[]
  readonly order: string
  readonly maxActive: number
  readonly by: string
  readonly note: string | null
  readonly state: string
  readonly paused: boolean
  readonly error: string | null
  readonly ticks: { readonly total: number; readonly examined: number }
  readonly total: number
  readonly runs: Readonly<Record<RunState, number>>
}

interface Planned {
  readonly plan: string
  readonly from: string
  readonly to: string
  readonly ticks: number
  readonly counts: Readonly<Record<Verdict, number>>
  readonly chosen: number
  readonly first: string | null
  readonly last: string | null
  readonly codeUnknown: number
  readonly maxActive: number
  readonly estimate: Estimate | null
}

const acts = ['pause', 'resume', 'cancel'] as const

interface BackfillOptions extends CommonOptions {
  readonly from?: string
  readonly to?: string
  readonly plan?: string
  readonly reason?: readonly string[]
  readonly all?: true
  readonly dryRun?: true
  readonly maxActive?: number
  readonly order?: string
  readonly param: readonly string[]
  readonly note?: string
  readonly key?: string
  readonly show?: string
  readonly pause?: string
  readonly resume?: string
  readonly cancel?: string
}

export function addBackfill(program: Command, context: CommandContext): void {
  const command = program
    .command('backfill [workflow]')
    .description('run ticks of a plan that were missed, failed, or are out of date; look at it, pause it, cancel it')
    .option('--from <time>', "the first tick: 2026-03-01T06:00:00Z, or the day 2026-03-01 in the plan's time zone")
    .option('--to <time>', 'as --from, excluded')
    .option('--plan <name>', 'whose ticks; may be left out where one plan is by the clock')
    .option('--reason <reasons>', `which: ${backfillReasons.join(',')} (default: missing,failed)`, parseReasons)
    .option('--all', 'all of them but those that run or are due')
    .option('--dry-run', 'only say which there are and how long that may take')
    .option('--max-active <count>', `runs at once, 1 to ${backfillLimits.maxActive} (default: 8)`, parseMaxActive)
    .addOption(new Option('--order <order>', 'which start first (default: oldest)').choices([...backfillOrders]))
    .option('-p, --param <name=value>', 'a parameter of all its runs; JSON, or text as it is', gather, [])
    .option('--note <text>', 'why')
    .option('--key <key>', 'idempotency key: the same key starts one backfill')
    .option('--show <id>', 'show one')
    .option('--pause <id>', 'start no more of its runs; those that run go on')
    .option('--resume <id>', 'go on with it')
    .option('--cancel <id>', 'cancel it and all its runs that have not ended')
  does(
    withCommonOptions(command, 'reading'),
    context,
    async (session, options: BackfillOptions, workflow: string | undefined) => {
      const id = options.show ?? options.pause ?? options.resume ?? options.cancel
      refuseMixed(options, workflow)
      if (id === undefined) return start(session, options, workflow!)
      const path = `/api/v1/backfills/${encodeURIComponent(id)}`
      const api = await session.client()
      const act = acts.find((name) => options[name] !== undefined)
      const shown =
        act === undefined
          ? await api.request<Backfill>('GET', path)
          : await api.request<Backfill>('POST', `${path}/${act}`, { by: userInfo().username })
      session.cli.print(textOf(shown), shown)
    },
  )
}

const gather = (text: string, all: string[]) => [...all, text]

function refuseMixed(options: BackfillOptions, workflow: string | undefined): void {
  const given = (['show', ...acts] as const).filter((name) => options[name] !== undefined)
  const others = (
    ['from', 'to', 'plan', 'reason', 'all', 'dryRun', 'maxActive', 'order', 'note', 'key'] as const
  ).filter((name) => options[name] !== undefined)
  const [act] = given
  if (act !== undefined && (given.length > 1 || others.length > 0 || workflow !== undefined)) {
    throw new SluiceError('USAGE', `--${act} takes the id of a backfill and nothing else`)
  }
  if (act !== undefined) return
  if (workflow === undefined) {
    throw new SluiceError(
      'USAGE',
      `Name a workflow, or use --show, --pause, --resume or --cancel with the id of a backfill`,
    )
  }
  if (options.from === undefined || options.to === undefined) {
    throw new SluiceError('USAGE', 'A backfill needs --from and --to, such as --from 2026-03-01 --to 2026-04-01')
  }
  if (options.all && options.reason) throw new SluiceError('USAGE', 'Give one of --all and --reason')
}

async function start({ cli, client }: Session, options: BackfillOptions, workflow: string): Promise<void> {
  const api = await client()
  const { from, to, plan, reason: reasons, all, dryRun, maxActive, order, note, param, key } = options
  const params = param.length === 0 ? {} : readParams(param, await schemaOf(api, workflow))
  const body = { from, to, plan, reasons, all, dryRun, maxActive, order, note, params, by: userInfo().username }
  const headers: Record<string, string> = key === undefined ? {} : { 'idempotency-key': key }
  const path = `/api/v1/workflows/${encodeURIComponent(workflow)}/backfills`
  const answer = await api
    .send<Backfill | Planned>('POST', path, body, headers)
    .catch((thrown) => explain(api, workflow, thrown))
  if ('id' in answer) {
    cli.print(answer.id, answer)
    cli.note(`${answer.ticks.total} ticks are looked at; sluice backfill --show ${answer.id}`)
  } else cli.print(textOfPlan(answer), answer)
}

const told: Readonly<Record<Verdict, string>> = {
  missing: 'has no run',
  failed: 'its last run failed or was cancelled',
  'code-changed': 'its last run was of other code',
  stale: 'its last run read a dataset that is newer now',
  ok: 'nothing is the matter with it',
  running: 'its run has not ended; left alone',
  due: 'its plan comes to it by itself; left alone',
}

function textOfPlan(planned: Planned): string {
  const { plan, from, to, ticks, counts, chosen, first, last, codeUnknown, maxActive, estimate } = planned
  const rows = verdicts.map((verdict) => [verdict, counts[verdict], told[verdict]])
  return [
    `plan      ${plan}, ${ticks} ticks from ${from} to ${to}`,
    '',
    table(['TICK IS', 'COUNT', ''], rows),
    '',
    `would run ${chosen}${chosen === 0 ? '' : `, from ${first} to ${last}`}, ${maxActive} at once`,
    ...(codeUnknown > 0
      ? [`note      of ${codeUnknown} it is not known whether the code has changed; taken as not`]
      : []),
    `estimate  ${estimate === null ? 'no history' : textOfEstimate(estimate)}`,
  ].join('\n')
}

function textOfEstimate({ history, medianMs, p90Ms, totalMedianMs, totalP90Ms }: Estimate): string {
  const of = history === 1 ? 'the last successful run' : `the last ${history} successful runs`
  return `${span(totalMedianMs)} to ${span(totalP90Ms)} (median ${span(medianMs)}, p90 ${span(p90Ms)} of ${of})`
}

function textOf(shown: Backfill): string {
  const { id, workflow, plan, from, to, reasons, order, maxActive, by, note, error, ticks, total, runs } = shown
  return [
    `backfill  ${id}`,
    `workflow  ${workflow}, plan ${plan}, from ${from} to ${to}`,
    `state     ${stateOf(shown)}`,
    ...(error === null ? [] : [`reason    ${error}`]),
    `which     ${reasons.join(', ')}; ${order} first, ${maxActive} at once`,
    `by        ${by}${note === null ? '' : `: ${note}`}`,
    `ticks     ${ticks.examined} of ${ticks.total} looked at`,
    `runs      ${total}: ${runStates.map((state) => `${runs[state]} ${state}`).join(', ')}`,
  ].join('\n')
}

const stateOf = ({ state, paused }: Backfill) => (paused && state !== 'done' ? `${state}, paused` : state)

interface BackfillsOptions extends CommonOptions {
  readonly workflow?: string
  readonly limit: number
}

export function addBackfills(program: Command, context: CommandContext): void {
  const command = program
    .command('backfills')
    .description('list backfills, newest first')
    .option('--workflow <name>', 'only of this workflow')
    .option('--limit <count>', 'how many at most', parseLimit, 20)
  does(
    withCommonOptions(command, 'reading'),
    context,
    async ({ cli, client }, { workflow, limit }: BackfillsOptions) => {
      const query = new URLSearchParams(workflow === undefined ? {} : { workflow })
      const items = await listAll<Backfill>(await client(), `/api/v1/backfills?${query}`, limit)
      const rows = items.map((one) => [
        ...[one.id, one.workflow, one.plan, stateOf(one), one.total],
        ...runStates.map((state) => one.runs[state]),
      ])
      const states = runStates.map((state) => state.toUpperCase())
      cli.print(table(['BACKFILL', 'WORKFLOW', 'PLAN', 'STATE', 'RUNS', ...states], rows), { items })
      if (items.length === 0) cli.note('There are no such backfills')
    },
  )
}

function parseReasons(text: string): string[] {
  const reasons = text.split(',')
  if (reasons.every((reason) => (backfillReasons as readonly string[]).includes(reason))) return reasons
  throw new InvalidArgumentError(`Allowed are ${backfillReasons.join(', ')}, joined by commas.`)
}

function parseMaxActive(text: string): number {
  if (/^\d{1,4}$/.test(text) && Number(text) >= 1 && Number(text) <= backfillLimits.maxActive) return Number(text)
  throw new InvalidArgumentError(`Allowed is a whole number from 1 to ${backfillLimits.maxActive}.`)
}
