import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { Config } from '../../app/config.ts'
import { SluiceError } from '../../errors.ts'
import { exitCodes } from '../cli.ts'
import { openPlatformDatabase } from '../platform-database.ts'
import { type CommandContext, does, withCommonOptions } from '../session.ts'
import { size } from '../table.ts'

/** A table may take long until its first row comes, and a snapshot waits meanwhile. */
export const patient = { max: 2, idleInTransactionMs: 0, answerTimeoutMs: 3_600_000 }

export function addBackup(program: Command, context: CommandContext): void {
  const command = program
    .command('backup <file>')
    .description('write all data of this Sluice into one file, while everything goes on')
  does(
    withCommonOptions(command, 'reading'),
    context,
    async ({ cli, config, signal }, _options: object, file: string) => {
      const settings = await config()
      refuseNothing(settings)
      const { takeBackup } = await import('../../app/backup/take.ts')
      const { openFiles } = await import('../../objects/files.ts')
      const { migrationState } = await import('../../store/migrate.ts')
      const { database, close } = await openPlatformDatabase(settings, patient)
      const bar = cli.progress('backup')
      try {
        // A database that is newer than this Sluice has tables that it does not know.
        const { applied } = await migrationState(database)
        if (applied === 0) throw nothing(settings)
        const taken = await takeBackup({
          database,
          store: openFiles(join(settings.home, 'objects')),
          versionsFolder: join(settings.home, 'versions'),
          file,
          now: new Date(),
          signal,
          onProgress: (done, total, what) => bar.update(done, total, what),
        })
        bar.stop()
        const { missing, damaged, versionsMissing } = taken
        cli.print(`${file}: ${taken.rows} rows, ${taken.objects} objects, ${size(taken.bytes)}`, taken)
        const faults = [
          ...missing.map((sha256) => ({ where: `object ${sha256}`, message: 'is not in the store' })),
          ...damaged.map((sha256) => ({ where: `object ${sha256}`, message: 'no longer has its hash' })),
          ...versionsMissing.map((hash) => ({ where: `version ${hash}`, message: 'has no code on this machine' })),
        ]
        if (faults.length === 0) return exitCodes.done
        cli.complain(
          new SluiceError(
            'OBJECT_CORRUPT',
            `The backup is whole, but ${faults.length} things were not sound when it was taken:`,
            {
              faults: faults.slice(0, 20),
            },
          ),
        )
        return exitCodes.failed
      } finally {
        bar.stop()
        await close()
      }
    },
  )
}

/** Looking must not make an embedded server. */
function refuseNothing(settings: Config): void {
  const { home, databaseUrl } = settings
  if (databaseUrl === undefined && !existsSync(join(home, 'postgres', 'data', 'PG_VERSION'))) throw nothing(settings)
}

function nothing({ home, databaseUrl }: Config): SluiceError {
  return new SluiceError('NOT_FOUND', `There is no Sluice in ${databaseUrl === undefined ? home : 'this database'}`)
}
