/** Runs again: clears tasks of a run, or starts a new run of the latest version that takes over what has not changed. */
import { userInfo } from 'node:os'
import { type Command, Option } from 'commander'
import { SluiceError } from '../../errors.ts'
import { exitCodes } from '../cli.ts'
import type { Client } from '../client.ts'
import { type CommandContext, type CommonOptions, does, type Session, withCommonOptions } from '../session.ts'
import { table } from '../table.ts'
import { waitForRun } from './run.ts'
import { pathOf } from './show.ts'

interface RetryOptions extends CommonOptions {
  readonly from: readonly string[]
  readonly failed?: boolean
  readonly fresh?: boolean
  readonly version?: 'latest'
  readonly note?: string
  readonly dryRun?: boolean
  readonly wait?: boolean
  readonly key?: string
}

interface Cleared {
  readonly state: string
  readonly applied: boolean
  readonly total: number
  readonly tasks: readonly { readonly task: string; readonly states: Readonly<Record<string, number>> }[]
}

interface Retried {
  readonly id: string | null
  readonly sameParams: boolean
  readonly total: number
  readonly takenOver: readonly { readonly task: string; readonly count: number }[]
}

export function addRetry(program: Command, context: CommandContext): void {
  const command = program
    .command('retry <run>')
    .description('run what failed again, or a task and all that is behind it')
    .option(
      '--from <task>',
      'a task, such as load or load[3], or a group; may be repeated',
      (text, all: string[]) => [...all, text],
      [],
    )
    .option('--failed', 'all that did not succeed (default without --from)')
    .option('--fresh', 'make durable steps again')
    .addOption(
      new Option('--version <version>', 'a new run of this version, which takes over what has not changed').choices([
        'latest',
      ]),
    )
    .option('--note <text>', 'why, for the audit')
    .option('--dry-run', 'only say what would run again')
    .option('--wait', 'wait for its end; exit code 1 unless it succeeds')
    .option('--key <key>', 'idempotency key: the same key retries once')
  does(withCommonOptions(command, 'reading'), context, async (session, options: RetryOptions, run: string) => {
    const api = await session.client()
    const id =
      options.version === undefined ? await clear(session, api, run, options) : await again(session, api, run, options)
    if (options.wait && id !== null && !options.dryRun) return waitForRun(session, api, id)
    return exitCodes.done
  })
}

const headersOf = ({ key }: RetryOptions): Record<string, string> =>
  key === undefined ? {} : { 'idempotency-key': key }

async function clear({ cli }: Session, api: Client, run: string, options: RetryOptions): Promise<string> {
  const { from, failed, fresh = false, note, dryRun = false } = options
  const body = { tasks: from, ...(failed ? { failed } : {}), fresh, note, dryRun, by: userInfo().username }
  const answer = await api.send<Cleared>('POST', `${pathOf(run)}/clear`, body, headersOf(options))
  const rows = answer.tasks.map(({ task, states }) => [
    task,
    Object.entries(states)
      .map(([state, count]) => (count === 1 ? state : `${count} ${state}`))
      .join(', '),
  ])
  const said = dryRun
    ? `${answer.total} tasks would be cleared`
    : `${run} ${answer.applied ? `is ${answer.state}` : 'will be cleared by its engine'}: ${answer.total} ${answer.total === 1 ? 'task runs' : 'tasks run'} again`
  if (!options.wait || dryRun) cli.print([said, table(['TASK', 'WAS'], rows)].join('\n').trimEnd(), answer)
  return run
}

async function again({ cli }: Session, api: Client, run: string, options: RetryOptions): Promise<string | null> {
  const { from, fresh, failed, note, dryRun = false } = options
  if (fresh || failed) throw new SluiceError('USAGE', '--version goes without --fresh and --failed: it is a new run')
  const body = { version: 'latest', tasks: from, note, dryRun, by: userInfo().username }
  const answer = await api.send<Retried>('POST', `${pathOf(run)}/retry`, body, headersOf(options))
  const rows = answer.takenOver.map(({ task, count }) => [task, count])
  const why = answer.sameParams ? '' : ': the latest version fills in other parameters'
  const said = `${answer.id ?? 'A new run'} ${dryRun ? 'would take' : 'takes'} over ${answer.total} tasks of ${run}${why}`
  if (!options.wait || dryRun) cli.print([said, table(['TASK', 'TASKS'], rows)].join('\n').trimEnd(), answer)
  return answer.id
}
