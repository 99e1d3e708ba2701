import { statSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { SluiceError } from '../../errors.ts'
import { openPlatformDatabase } from '../platform-database.ts'
import { type CommandContext, does, withCommonOptions } from '../session.ts'
import { patient } from './backup.ts'

export function addRestore(program: Command, context: CommandContext): void {
  const command = program.command('restore <file>').description('put a backup into an empty home and an empty database')
  does(
    withCommonOptions(command, 'reading'),
    context,
    async ({ cli, config, signal }, _options: object, file: string) => {
      const settings = await config()
      const { home } = settings
      const { verifyBackup } = await import('../../app/backup/verify.ts')
      const { restoreBackup } = await import('../../app/backup/restore.ts')
      const { openFiles } = await import('../../objects/files.ts')
      const { tryLock } = await import('../../postgres/kernel-lock.ts')
      const { migrationFolders } = await import('../../app/app-migrations.ts')
      const { projectSettings } = await import('../../app/build/build.ts')
      const bytes = statSync(file, { throwIfNoEntry: false })?.size ?? 0
      const bar = cli.progress('restore')
      let read = 0
      // It is read three times: to verify it, for the files, and for the rows.
      const onRead = (what: string) => (some: number) => {
        read += some
        bar.update(read, bytes * 3, what)
      }
      try {
        const { head, manifest } = await verifyBackup(file, onRead('verifying'))
        await mkdir(home, { recursive: true, mode: 0o700 })
        const unlock = tryLock(join(home, 'supervisor.lock'), 'exclusive')
        if (unlock === undefined) throw new SluiceError('CONFLICT', `Sluice runs on ${home}; stop it first`)
        try {
          // They are read by a build, which leaves its traces in the home.
          const folders = migrationFolders(settings.projectDir, await projectSettings(settings))
          const { database, close } = await openPlatformDatabase(settings, patient)
          try {
            const store = openFiles(join(home, 'objects'))
            const versionsFolder = join(home, 'versions')
            await restoreBackup({
              file,
              head,
              manifest,
              database,
              folders,
              store,
              versionsFolder,
              signal,
              onRead: onRead('restoring'),
            })
          } finally {
            await close()
          }
        } finally {
          unlock()
        }
        bar.stop()
        const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0)
        const { count: objects, missing, damaged } = manifest.objects
        const { takenAt, sluice } = head
        cli.print(
          `${rows} rows and ${objects - damaged.length} objects of ${takenAt} are in ${home}; start it with: sluice dev`,
          {
            takenAt,
            sluice,
            rows,
            objects: objects - damaged.length,
            missing,
            damaged,
            versionsMissing: manifest.versionsMissing,
          },
        )
        const lacking = missing.length + damaged.length
        if (lacking > 0) cli.log(`sluice: ${lacking} objects were missing or damaged when the backup was taken`)
      } finally {
        bar.stop()
      }
    },
  )
}
