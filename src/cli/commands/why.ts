import type { Command } from 'commander'
import { SluiceError } from '../../errors.ts'
import { type Client, listAll } from '../client.ts'
import { type CommandContext, does, withCommonOptions } from '../session.ts'
import { labelOf, pathOf, type Task } from './show.ts'

interface Why {
  readonly reasons: readonly { readonly code: string; readonly text: string; readonly until: string | null }[]
}

/** Of a run: so many of its tasks that have not ended are asked about. */
const mostTasks = 20

export function addWhy(program: Command, context: CommandContext): void {
  const command = program
    .command('why <id> [task]')
    .description(
      'say why a task, or a run and its tasks, have not ended; a task is named by its id, or by run and name',
    )
  does(withCommonOptions(command, 'reading'), context, async ({ cli, client }, _, id: string, name?: string) => {
    const api = await client()
    if (name !== undefined) return cli.print(...(await ofTask(api, (await taskNamed(api, id, name)).id)))
    if (isTaskId(id)) return cli.print(...(await ofTask(api, id)))
    const [why, tasks] = await Promise.all([
      api.request<Why>('GET', `${pathOf(id)}/why`),
      listAll<Task>(api, `${pathOf(id)}/tasks`, 1_000),
    ])
    const open = tasks.filter(({ state }) => !ended.has(state))
    const shown = open.slice(0, mostTasks)
    const whys = await Promise.all(shown.map((task) => api.request<Why>('GET', `${taskPath(task.id)}/why`)))
    const known = new Set(why.reasons.map(({ text }) => text))
    const lines = shown.map((task, index) => {
      const own = whys[index]!.reasons.filter(({ text }) => !known.has(text)).map(({ text }) => text)
      return `${labelOf(task)}: ${own.length > 0 ? own.join('; ') : 'waits with its run'}`
    })
    if (open.length > mostTasks) lines.push(`and ${open.length - mostTasks} tasks more`)
    const items = shown.map((task, index) => ({ id: task.id, task: labelOf(task), ...whys[index]! }))
    cli.print([textOf(why), ...lines].join('\n'), { ...why, tasks: items })
  })
}

const ended: ReadonlySet<string> = new Set(['success', 'failed', 'skipped', 'upstream_failed', 'cancelled', 'removed'])

/** The ids of runs end in 35 bits that are zero. */
const isTaskId = (id: string): boolean => /^[0-9a-f-]{36}$/i.test(id) && !/[08]00000000$/.test(id)

const taskPath = (id: string): string => `/api/v1/tasks/${encodeURIComponent(id)}`
const textOf = ({ reasons }: Why): string => reasons.map(({ text }) => text).join('\n')

async function ofTask(api: Client, id: string): Promise<[string, object]> {
  const why = await api.request<Why>('GET', `${taskPath(id)}/why`)
  return [textOf(why), why]
}

async function taskNamed(api: Client, run: string, name: string): Promise<Task> {
  const tasks = await listAll<Task>(api, `${pathOf(run)}/tasks`, 100_000)
  const found = tasks.find((task) => labelOf(task) === name)
  if (found) return found
  const few = [...new Set(tasks.map((task) => task.name))].slice(0, 10).join(', ')
  throw new SluiceError('NOT_FOUND', `Run ${run} has no task named ${JSON.stringify(name)}; it has ${few}`)
}
