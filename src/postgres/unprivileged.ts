/**
 * Under which user the server runs. PostgreSQL refuses to run as root, so root starts it as another user and keeps the
 * files in place: nothing needs to be reachable for that user but the program itself (see `binaries.ts`).
 *
 * The data folder is handed over as the current folder of the new process, entered while it is still root, and named
 * `/proc/self/cwd` from then on. So it may lie below folders that its owner cannot pass, such as a clone under `/root`.
 * The server and its children never leave that folder, and no capability or mount is needed. Where there is no `/proc`
 * (macOS) the user must be able to reach the folder.
 */
import { existsSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { SluiceError } from '../errors.ts'

export interface ServerUser {
  readonly uid: number
  readonly gid: number
}

/**
 * Undefined when the server runs as who we are. As root: the owner of the data that is there, else `nobody`, else the first
 * user that is not root (initdb insists on a user that /etc/passwd knows).
 * @throws SluiceError EMBEDDED_UNAVAILABLE when there is no such user.
 */
export async function chooseServerUser(dataDir: string): Promise<ServerUser | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const present = await stat(dataDir).catch(() => undefined)
  if (present !== undefined && present.uid !== 0) return { uid: present.uid, gid: present.gid }
  const user = pickUser(await readFile('/etc/passwd', 'utf8').catch(() => ''))
  if (user === undefined) {
    throw new SluiceError(
      'EMBEDDED_UNAVAILABLE',
      'PostgreSQL does not run as root and /etc/passwd names no other user to run it as; start Sluice as an ordinary user or set SLUICE_DATABASE_URL',
    )
  }
  return user
}

/** `nobody`, else the first that is not root, of the text of /etc/passwd. */
export function pickUser(passwd: string): ServerUser | undefined {
  const users = passwd
    .split('\n')
    .map((line) => line.split(':'))
    .map(([name, , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }))
    .filter(({ uid, gid }) => Number.isInteger(uid) && uid > 0 && Number.isInteger(gid))
  const chosen = users.find(({ name }) => name === 'nobody') ?? users[0]
  return chosen && { uid: chosen.uid, gid: chosen.gid }
}

/** How a process that was started with `dataDir` as its current folder names it. */
export function nameOfDataDir(dataDir: string, user: ServerUser | undefined): string {
  return user !== undefined && existsSync('/proc/self/cwd') ? '/proc/self/cwd' : dataDir
}
