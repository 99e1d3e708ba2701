import type { Command } from 'commander'
import { type CommandContext, does, withCommonOptions } from '../session.ts'
import { pathOf } from './show.ts'

export function addCancel(program: Command, context: CommandContext): void {
  const command = program.command('cancel <run>').description('cancel a run')
  does(withCommonOptions(command, 'reading'), context, async ({ cli, client }, _, run: string) => {
    const answer = await (await client()).request('POST', `${pathOf(run)}/cancel`)
    cli.print(`${run} is being cancelled`, answer)
  })
}
