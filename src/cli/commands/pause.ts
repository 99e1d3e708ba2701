import type { Command } from 'commander'
import { type CommandContext, does, withCommonOptions } from '../session.ts'
import { explain } from './run.ts'

export function addPause(program: Command, context: CommandContext): void {
  add(program, context, 'pause', 'start no runs and no tasks of a workflow until it is resumed')
}

export function addResume(program: Command, context: CommandContext): void {
  add(program, context, 'resume', 'let a paused workflow go on')
}

function add(program: Command, context: CommandContext, act: 'pause' | 'resume', description: string): void {
  const command = program.command(`${act} <workflow>`).description(description)
  does(withCommonOptions(command, 'reading'), context, async ({ cli, client }, _, workflow: string) => {
    const api = await client()
    const path = `/api/v1/workflows/${encodeURIComponent(workflow)}/${act}`
    const answer = await api
      .request<{ changed: boolean }>('POST', path)
      .catch((thrown) => explain(api, workflow, thrown))
    const state = act === 'pause' ? 'paused' : 'not paused'
    cli.print(`${workflow} ${answer.changed ? `is ${act}d now` : `was ${state} already`}`, answer)
  })
}
