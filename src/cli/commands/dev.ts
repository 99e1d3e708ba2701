import type { Command } from 'commander'
import { type CommandContext, does, withCommonOptions } from '../session.ts'
import { serve } from './serve.ts'

export function addDev(program: Command, context: CommandContext): void {
  const command = program
    .command('dev')
    .description('run all of Sluice here, and follow changes of the definition files')
  does(withCommonOptions(command), context, (session) => serve(session, { watch: true }))
}
