import type { Command } from 'commander'
import { type Client, listAll } from '../client.ts'
import { type CommandContext, does, withCommonOptions } from '../session.ts'
import { table } from '../table.ts'
import { type Wait, waitText } from '../wait-text.ts'
import { durationOf, type Run } from './runs.ts'

export interface RunDetail extends Run {
  readonly params: unknown
  readonly error: string | null
  readonly progress: { readonly done: number; readonly total: number }
  readonly result: unknown
  readonly parent: { readonly runId: string; readonly taskId: string } | null
  readonly retryOf: string | null
  readonly retries: readonly string[]
}

export interface Task {
  readonly id: string
  readonly name: string
  readonly index: number | null
  readonly state: string
  readonly attempt: number
  readonly kind: string | null
  readonly error: string | null
  readonly retryAt: string | null
  readonly startedAt: string | null
  readonly finishedAt: string | null
  readonly progress: { readonly done: number; readonly total: number | null } | null
  readonly wait: Wait | null
  readonly run: { readonly id: string; readonly state: string } | null
}

const mostTasks = 1_000
/** So many errors say what is wrong; the others are in the table, and all that they say is in the log. */
const mostErrors = 5
const longestError = 500
const longestResult = 2_000
const headings = ['TASK', 'STATE', 'ATTEMPT', 'TOOK', 'PROGRESS', 'WAITS FOR', 'ERROR']
/** Of runs that retry one another. */
const longestChain = 10

export function addShow(program: Command, context: CommandContext): void {
  const command = program.command('show <run>').description('show a run and its tasks')
  does(withCommonOptions(command, 'reading'), context, async ({ cli, client }, _, run: string) => {
    const api = await client()
    const [detail, tasks] = await Promise.all([
      readRun(api, run),
      listAll<Task>(api, `${pathOf(run)}/tasks`, mostTasks),
    ])
    const facts = [
      `run       ${detail.id}`,
      `workflow  ${detail.workflow} (${detail.version.slice(0, 12)})`,
      `state     ${stateOf(detail)}`,
      ...errorLines(tasks).map((line) => `error     ${line}`),
      `plan      ${detail.plan}`,
      `params    ${JSON.stringify(detail.params)}`,
      `tasks     ${detail.progress.done} of ${detail.progress.total} ended`,
      `took      ${durationOf(detail) ?? '-'}`,
      ...(detail.result === null ? [] : [`result    ${JSON.stringify(detail.result).slice(0, longestResult)}`]),
      ...(detail.parent === null ? [] : [`part of   ${detail.parent.runId}`]),
      ...(detail.retryOf === null ? [] : [`retry of  ${await chainOf(api, detail.retryOf)}`]),
      ...detail.retries.map((later) => `retried   ${later}`),
    ]
    const rows = tasks.map((task) => [
      ...[labelOf(task), task.state, task.attempt, durationOf(task)],
      ...[progressOf(task), waitsFor(task), firstLine(task.error, 100)],
    ])
    cli.print([...facts, '', table(headings, rows)].join('\n').trimEnd(), {
      ...detail,
      items: tasks,
    })
  })
}

export function readRun(api: Client, run: string): Promise<RunDetail> {
  return api.request<RunDetail>('GET', pathOf(run))
}

/** Of a run that has failed: what its tasks say, one line each. */
export async function readErrors(api: Client, run: string): Promise<string[]> {
  return errorLines(await listAll<Task>(api, `${pathOf(run)}/tasks`, mostTasks))
}

function errorLines(tasks: readonly Task[]): string[] {
  const failed = tasks.filter(({ state, error }) => state === 'failed' && error !== null)
  const lines = failed.slice(0, mostErrors).map((task) => `${labelOf(task)}: ${firstLine(task.error, longestError)}`)
  return failed.length > mostErrors ? [...lines, `and ${failed.length - mostErrors} more`] : lines
}

export function pathOf(run: string): string {
  return `/api/v1/runs/${encodeURIComponent(run)}`
}

/** With the reason, which may begin with the state itself. */
export function stateOf({ state, error }: Pick<RunDetail, 'state' | 'error'>): string {
  if (error === null) return state
  return error.startsWith(`${state}: `) ? error : `${state}: ${error}`
}

export function labelOf({ name, index }: Pick<Task, 'name' | 'index'>): string {
  return index === null ? name : `${name}[${index}]`
}

/** A run and those that it retries, the newest first. */
async function chainOf(api: Client, run: string): Promise<string> {
  const chain = [run]
  for (let at: string | null = run; at !== null && chain.length < longestChain; ) {
    at = (await readRun(api, at).catch(() => undefined))?.retryOf ?? null
    if (at !== null) chain.push(at)
  }
  return chain.join(', of ')
}

/** What a task waits for without a runner; of one that runs another workflow also the run that it started. */
function waitsFor({ state, wait, run, retryAt }: Task): string {
  if (run !== null) return `run ${run.id} (${run.state})`
  if (state === 'up_for_retry') return `its next attempt at ${retryAt}`
  return wait === null ? '' : waitText(wait)
}

function progressOf({ progress }: Pick<Task, 'progress'>): string {
  if (progress === null) return ''
  return progress.total === null ? String(progress.done) : `${progress.done} of ${progress.total}`
}

function firstLine(text: string | null, longest: number): string {
  return text?.split('\n')[0]?.slice(0, longest) ?? ''
}
