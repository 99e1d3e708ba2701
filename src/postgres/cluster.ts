import { randomBytes } from 'node:crypto'
import { chown, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { SluiceError } from '../errors.ts'
import type { Binaries } from './binaries.ts'
import { saysFull } from './postmaster.ts'
import { runProgram } from './run-program.ts'
import { nameOfDataDir, type ServerUser } from './unprivileged.ts'

/**
 * Makes the data folder when there is none: beside its place, on disk, then renamed, so that one that is there is whole.
 * Only for callers that hold the starting lock.
 * @throws SluiceError EMBEDDED_UNAVAILABLE with what initdb said; STORAGE_FULL
 */
export async function ensureCluster(dataDir: string, binaries: Binaries, user: ServerUser | undefined): Promise<void> {
  const present = await stat(join(dataDir, 'PG_VERSION')).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === 'ENOENT' || thrown.code === 'ENOTDIR') return undefined
    throw new SluiceError('CONFIGURATION', `The data folder ${dataDir} belongs to another user (${thrown.code})`)
  })
  if (present !== undefined) return
  await removeUnfinished(dataDir)
  // A name of its own: an initdb whose parent was killed may still be writing to the last one.
  const fresh = `${dataDir}.new-${randomBytes(4).toString('hex')}`
  await mkdir(fresh, { mode: 0o700 })
  if (user !== undefined) await chown(fresh, user.uid, user.gid)
  const initdb = async (...args: string[]) => {
    const done = await runProgram(binaries.initdb, ['-D', nameOfDataDir(fresh, user), ...args], {
      cwd: fresh,
      env: binaries.env,
      user,
    })
    if (done.ok) return
    await rm(fresh, { recursive: true, force: true }).catch(() => {})
    throw initFailed(dataDir, done.output)
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

/** What starts that were killed have left. What cannot be removed now, since it is still written to, the next one removes. */
async function removeUnfinished(dataDir: string): Promise<void> {
  const folder = dirname(dataDir)
  for (const name of await readdir(folder)) {
    if (!name.startsWith(`${basename(dataDir)}.new`)) continue
    await rm(join(folder, name), { recursive: true, force: true }).catch(() => {})
  }
}

function initFailed(dataDir: string, output: string): SluiceError {
  if (saysFull(output)) {
    const detail = `There is no room for a new database in ${dataDir}: it takes 60 MB and grows; make room, or set SLUICE_HOME`
    return new SluiceError('STORAGE_FULL', detail)
  }
  const hint = output.includes('could not look up effective user')
    ? ' (PostgreSQL needs an entry in /etc/passwd for the user that it runs as)'
    : ''
  return new SluiceError('EMBEDDED_UNAVAILABLE', `initdb failed: ${output}${hint}. Or set SLUICE_DATABASE_URL`)
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  await handle.sync().finally(() => handle.close())
}
