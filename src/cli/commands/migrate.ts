import type { Command } from 'commander'
import { openPlatformDatabase } from '../platform-database.ts'
import { type CommandContext, does, withCommonOptions } from '../session.ts'

export function addMigrate(program: Command, context: CommandContext): void {
  const command = program
    .command('migrate')
    .description('bring the tables of the platform and of apps up to this version')
  does(withCommonOptions(command, 'reading'), context, async ({ cli, config }) => {
    const { migrateAll, migrationFolders } = await import('../../app/app-migrations.ts')
    const { projectSettings } = await import('../../app/build/build.ts')
    const settings = await config()
    const folders = migrationFolders(settings.projectDir, await projectSettings(settings))
    const { database, close } = await openPlatformDatabase(settings)
    try {
      const applied = await migrateAll(database, folders)
      cli.print(applied.map(({ scope, name }) => `${scope}/${name}`).join('\n'), { applied })
      cli.note(
        applied.length === 0 ? 'Nothing to do: the tables are those of this version' : `${applied.length} applied`,
      )
    } finally {
      await close()
    }
  })
}
