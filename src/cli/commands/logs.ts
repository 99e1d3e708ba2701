import type { Command } from 'commander'
import { isUuid } from '../../core/ids.ts'
import { nearest } from '../../core/nearest.ts'
import { SluiceError } from '../../errors.ts'
import type { Cli } from '../cli.ts'
import { type Client, listAll } from '../client.ts'
import { type CommandContext, type CommonOptions, does, withCommonOptions } from '../session.ts'
import { labelOf, pathOf, type Task } from './show.ts'

interface LogLine {
  readonly source: string
  readonly attempt: number
  readonly time?: string
  readonly level?: string
  readonly message?: string
  readonly [field: string]: unknown
}

interface LogPage {
  readonly items: readonly LogLine[]
  readonly nextCursor: string | null
  /** Passed as `after`, it gives what comes later. */
  readonly position: string
  readonly ended: boolean
}

interface LogsOptions extends CommonOptions {
  readonly follow?: boolean
}

export function addLogs(program: Command, context: CommandContext): void {
  const command = program
    .command('logs <run> [task]')
    .description('print the log of a run, or of its tasks of a name (or name[index], or id); as JSON a line each')
    .option('-f, --follow', 'go on as lines come, until it has ended')
  const work = async (cli: Cli, api: Client, { follow }: LogsOptions, run: string, task?: string) => {
    const paths =
      task === undefined
        ? [`${pathOf(run)}/logs`]
        : (await taskIds(api, run, task)).map((id) => `/api/v1/tasks/${encodeURIComponent(id)}/logs`)
    for (const path of paths)
      for await (const { items } of pages(api, path, follow === true))
        for (const line of items) cli.print(textOf(line), line)
  }
  does(
    withCommonOptions(command, 'reading'),
    context,
    async ({ cli, client }, options: LogsOptions, run: string, task?: string) =>
      work(cli, await client(), options, run, task),
  )
}

async function* pages(api: Client, path: string, follow: boolean): AsyncGenerator<LogPage> {
  const query = new URLSearchParams({ limit: '1000', ...(follow ? { wait: '20s' } : {}) })
  for (;;) {
    const page = await api.request<LogPage>('GET', `${path}?${query}`)
    yield page
    if (page.ended || (!follow && page.nextCursor === null)) return
    query.set('after', page.position)
  }
}

function textOf({ source, attempt, time, level, message, ...fields }: LogLine): string {
  const rest = Object.keys(fields).length === 0 ? '' : JSON.stringify(fields)
  return [time, level?.toUpperCase().padEnd(5), message, rest].filter(Boolean).join(' ')
}

/** One for a label or an id; for the name of a mapped task all of its tasks, in their order. */
async function taskIds(api: Client, run: string, task: string): Promise<string[]> {
  if (isUuid(task)) return [task]
  const tasks = await listAll<Task>(api, `${pathOf(run)}/tasks`, 100_000)
  const found = tasks.filter((one) => one.name === task || labelOf(one) === task)
  if (found.length > 0) return found.map(({ id }) => id)
  const labels = tasks.map(labelOf)
  const meant = nearest(task, labels)
  const some = labels.slice(0, 20).join(', ')
  throw new SluiceError(
    'NOT_FOUND',
    `The run has no task ${task}; ${meant === undefined ? `it has ${some}` : `did you mean ${meant}?`}`,
  )
}
