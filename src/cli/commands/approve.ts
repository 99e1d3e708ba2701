import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { nearest } from '../../core/nearest.ts'
import { SluiceError } from '../../errors.ts'
import { type Client, listAll } from '../client.ts'
import { readParams } from '../parameters.ts'
import { type CommandContext, type CommonOptions, does, withCommonOptions } from '../session.ts'
import type { Approval } from './approvals.ts'
import { pathOf, type Task } from './show.ts'

interface ApproveOptions extends CommonOptions {
  readonly param: readonly string[]
  readonly refuse?: boolean
  readonly note?: string
  readonly by?: string
}

const mostTasks = 100_000

export function addApprove(program: Command, context: CommandContext): void {
  const command = program
    .command('approve <run> <task>')
    .description('answer an approval')
    .option(
      '-p, --param <field=value>',
      'a field of its form; JSON, or text as it is',
      (text, all: string[]) => [...all, text],
      [],
    )
    .option('--refuse', 'refuse it')
    .option('--note <text>', 'a word to it')
    .option('--by <name>', 'who answers (default: the user of this machine)')
  does(
    withCommonOptions(command, 'reading'),
    context,
    async ({ cli, client }, options: ApproveOptions, run: string, task: string) => {
      const { param, refuse = false, note, by = userInfo().username } = options
      if (refuse && param.length > 0) throw new SluiceError('USAGE', 'A refusal takes no fields; say why with --note')
      const api = await client()
      const { id, form } = await find(api, run, task)
      const filled = param.length === 0 ? {} : { form: readParams(param, form ?? { properties: {} }) }
      const body = { approved: !refuse, by, note, ...filled }
      const answer = await api.request('POST', `/api/v1/tasks/${id}/approval`, body)
      cli.print(`${task} of ${run} is ${refuse ? 'refused' : 'approved'} by ${by}`, answer)
    },
  )
}

/** The task, also when it does not wait any more: what became of it is told by the answer then. */
async function find(api: Client, run: string, name: string): Promise<{ id: string; form: Approval['form'] }> {
  const waiting = await listAll<Approval>(api, `/api/v1/approvals?run=${encodeURIComponent(run)}`, 1_000)
  const found = waiting.find(({ task, taskId }) => task === name || taskId === name)
  if (found) return { id: found.taskId, form: found.form }
  const tasks = await listAll<Task>(api, `${pathOf(run)}/tasks`, mostTasks)
  const other = tasks.find(({ name: own, id }) => own === name || id === name)
  if (other) return { id: other.id, form: {} }
  const names = tasks.filter(({ kind }) => kind === 'approval').map(({ name: own }) => own)
  const meant = nearest(name, names)
  const advice = meant === undefined ? `its approvals are ${names.join(', ') || 'none'}` : `did you mean ${meant}?`
  throw new SluiceError('NOT_FOUND', `Run ${run} has no task ${name}; ${advice}`)
}
