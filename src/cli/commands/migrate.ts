import type { Command } from 'commander'
import { openPlatformDatabase } from '../platform-database.ts'
import { type CommandContext, does, withCommonOptions } from '../session.ts'

export function addMigrate(program: Command, context: CommandContext): void {
  const command = program.command('migrate').description('bring the tables of the database up to this version')
  does(withCommonOptions(command, 'reading'), context, async ({ cli, config }) => {
    const { migrate } = await import('../../store/migrate.ts')
    const { database, close } = await openPlatformDatabase(await config())
    try {
      const applied = await migrate(database)
      cli.print(applied.map(({ scope, name }) => `${scope}/${name}`).join('\n'), { applied })
      cli.note(
        applied.length === 0 ? 'Nothing to do: the tables are those of this version' : `${applied.length} applied`,
      )
    } finally {
      await close()
    }
  })
}
