/**
 * The folder of the Unix socket: private (0700) to the user that the server runs as, with a path of at most 103 bytes
 * together with the socket's name (the system's limit is 107 on Linux, 103 on macOS).
 *
 * It is `socket` beside the data where that is short enough. Else, and for a server that runs as another user than we (who
 * may not reach our folders), it is a folder `sluice-<random>` in the temporary folder. `socket-folder` beside the data
 * names it, and its file `used-by` names the data in turn: a folder whose two ends do not agree any more is removed.
 */
import { randomBytes } from 'node:crypto'
import { chown, lstat, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ServerUser } from './unprivileged.ts'

const socketName = '/.s.PGSQL.5432'
const longestPath = 103
const besideName = 'socket'
const record = 'socket-folder'
const owner = 'used-by'
const prefix = 'sluice-'

const fits = (folder: string) => Buffer.byteLength(folder + socketName) <= longestPath

/**
 * An empty one: that of a server that was killed, whose users look for it there, or else a new one. The files of that server
 * must go: when nobody buries its process, as in many containers, PostgreSQL takes it for alive by the lock file beside the
 * socket.
 * Only for callers that hold the starting lock and know that no server runs.
 */
export async function openSocketFolder(postgresDir: string, user: ServerUser | undefined): Promise<string> {
  const former = await formerFolder(postgresDir, user)
  if (former !== undefined) return former
  await closeSocketFolder(postgresDir)
  const beside = join(postgresDir, besideName)
  if (user === undefined && fits(beside)) {
    await mkdir(beside, { mode: 0o700 })
    return beside
  }
  const parent = fits(join(tmpdir(), `${prefix}12345678`)) ? tmpdir() : '/tmp'
  await removeStale(parent)
  const folder = join(parent, prefix + randomBytes(4).toString('hex'))
  // The record comes first: a folder without one is taken for stale by anybody who cleans.
  await writeFile(join(postgresDir, record), folder)
  await mkdir(folder, { mode: 0o700 })
  await writeFile(join(folder, owner), postgresDir)
  if (user !== undefined) await chown(folder, user.uid, user.gid)
  return folder
}

/** The folder that the record names, without the socket; undefined unless it is still the private folder that we made. */
async function formerFolder(postgresDir: string, user: ServerUser | undefined): Promise<string | undefined> {
  try {
    const folder = await readFile(join(postgresDir, record), 'utf8')
    const { uid, mode } = await lstat(folder)
    const isPrivate = uid === (user?.uid ?? process.getuid?.()) && (mode & 0o170077) === 0o040000
    if (!isPrivate || (await readFile(join(folder, owner), 'utf8')) !== postgresDir) return undefined
    for (const name of await readdir(folder)) if (name !== owner) await rm(join(folder, name), { force: true })
    return folder
  } catch {
    return undefined
  }
}

export async function closeSocketFolder(postgresDir: string): Promise<void> {
  await rm(join(postgresDir, besideName), { recursive: true, force: true })
  const known = await readFile(join(postgresDir, record), 'utf8').catch(() => undefined)
  if (known === undefined) return
  await rm(known, { recursive: true, force: true })
  await rm(join(postgresDir, record), { force: true })
}

async function removeStale(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (!/^sluice-[0-9a-f]{8}$/.test(name)) continue
    const folder = join(parent, name)
    const usedBy = await readFile(join(folder, owner), 'utf8').catch(() => undefined)
    if (usedBy === undefined) continue
    const recorded = await readFile(join(usedBy, record), 'utf8').catch((thrown: NodeJS.ErrnoException) =>
      thrown.code === 'ENOENT' ? undefined : folder,
    )
    if (recorded !== folder) await rm(folder, { recursive: true, force: true }).catch(() => {})
  }
}
