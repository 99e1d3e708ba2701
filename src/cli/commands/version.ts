import type { Command } from 'commander'
import { version } from '../../app/version.ts'
import { type CommandContext, does } from '../session.ts'

export function addVersion(program: Command, context: CommandContext): void {
  const command = program.command('version').description('print the version').option('--json', 'as JSON')
  does(command, context, ({ cli }) => {
    cli.print(version, { sluice: version, node: process.versions.node, platform: process.platform, arch: process.arch })
  })
}
