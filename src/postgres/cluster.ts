import { chown, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { SluiceError } from '../errors.ts'
import type { Binaries } from './binaries.ts'
import { runProgram } from './run-program.ts'
import { nameOfDataDir, type ServerUser } from './unprivileged.ts'

/**
 * Makes the data folder when there is none: beside its place, on disk, then renamed, so that one that is there is whole.
 * Only for callers that hold the starting lock.
 * @throws SluiceError EMBEDDED_UNAVAILABLE with what initdb said.
 */
export async function ensureCluster(dataDir: string, binaries: Binaries, user: ServerUser | undefined): Promise<void> {
  const present = await stat(join(dataDir, 'PG_VERSION')).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === 'ENOENT' || thrown.code === 'ENOTDIR') return undefined
    throw new SluiceError('CONFIGURATION', `The data folder ${dataDir} belongs to another user (${thrown.code})`)
  })
  if (present !== undefined) return
  const fresh = `${dataDir}.new`
  await rm(fresh, { recursive: true, force: true })
  await mkdir(fresh, { mode: 0o700 })
  if (user !== undefined) await chown(fresh, user.uid, user.gid)
  const initdb = async (...args: string[]) => {
    const done = await runProgram(binaries.initdb, ['-D', nameOfDataDir(fresh, user), ...args], {
      cwd: fresh,
      env: binaries.env,
      user,
    })
    if (!done.ok) throw initFailed(done.output)
  }
  // Syncing once at the end; initdb alone would do it anyway, but then not tell a failed sync from a failed start.
  await initdb(
    '--username=sluice',
    '--auth=trust',
    '--encoding=UTF8',
    '--locale=C',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--no-sync',
    '--no-instructions',
  )
  await initdb('--sync-only')
  await rename(fresh, dataDir)
  await syncFolder(dirname(dataDir))
}

function initFailed(output: string): SluiceError {
  const hint = output.includes('could not look up effective user')
    ? ' (PostgreSQL needs an entry in /etc/passwd for the user that it runs as)'
    : ''
  return new SluiceError('EMBEDDED_UNAVAILABLE', `initdb failed: ${output}${hint}. Or set SLUICE_DATABASE_URL`)
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  await handle.sync().finally(() => handle.close())
}
