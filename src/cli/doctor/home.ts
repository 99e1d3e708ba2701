/** Folders, disks, locks and limits of this machine. */
import { constants, existsSync } from 'node:fs'
import { access, readdir, readFile, stat, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { messageOf } from '../../errors.ts'
import { isAlive, readServerRecord } from '../client.ts'
import { size } from '../table.ts'
import { fail, ok, type Subject, type Told, warn } from './finding.ts'

const gibibyte = 1024 ** 3
const littleRoom = gibibyte
const tooLittleRoom = 100 * 1024 ** 2

/** Numbers of file systems over a network (statfs): locks and syncs on them are not to be relied on. */
const networkFileSystems: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB'],
  [0x01021997, '9p'],
  [0x00c36400, 'Ceph'],
  [0x5346414f, 'AFS'],
])

/** Looking makes nothing: of a home that is not there the folder that it will be made in is judged. */
export async function lookAtHome({ config: { home } }: Subject): Promise<Told[]> {
  const place = await existing(home)
  const found = await stat(place).catch(() => undefined)
  const fix = 'set SLUICE_HOME to a folder of this user on a local disk'
  if (found !== undefined && !found.isDirectory()) return [fail(`${place} is a file`, 'SLUICE_HOME is a folder', fix)]
  try {
    await access(place, constants.W_OK | constants.X_OK | constants.R_OK)
  } catch (thrown) {
    const readOnly = (thrown as NodeJS.ErrnoException).code === 'EROFS'
    const why = readOnly ? 'the disk is mounted read-only' : 'this user may not write there'
    return [
      fail(`${home} cannot be written: ${messageOf(thrown)}`, why, `let this user write there (chown), or ${fix}`),
    ]
  }
  return [...(await unwritableParts(home)), ...fileSystemOf(home, await statfs(place))]
}

async function existing(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) if (existsSync(at) || at === dirname(at)) return at
}

/** Folders that another user, or root, has made in the home. */
async function unwritableParts(home: string): Promise<Told[]> {
  const told: Told[] = []
  for (const name of ['objects', 'versions', 'postgres']) {
    const folder = join(home, name)
    if (!existsSync(folder)) continue
    await access(folder, constants.W_OK | constants.X_OK).catch((thrown: unknown) => {
      const fix = `give it back: chown -R $(id -u) ${folder}`
      told.push(fail(`${folder} cannot be written: ${messageOf(thrown)}`, 'another user made it', fix))
    })
  }
  return told
}

export function fileSystemOf(home: string, fs: { type: number; bavail: number; bsize: number }): Told[] {
  const free = fs.bavail * fs.bsize
  const detail = `${home}, ${size(free)} free`
  const network = networkFileSystems.get(fs.type)
  const told: Told[] = []
  if (network !== undefined) {
    const why = 'locks and syncs are not to be relied on there: data may be lost or torn'
    told.push(warn(`${home} is on a network (${network})`, why, 'set SLUICE_HOME to a local disk'))
  }
  if (free < tooLittleRoom)
    told.push(
      fail(
        detail,
        'the disk is nearly full: runs fail and the database stops',
        'make room, or set SLUICE_HOME to another disk',
      ),
    )
  else if (free < littleRoom) told.push(warn(detail, 'the disk is filling up', 'make room soon'))
  else told.push(ok(detail))
  return told
}

/** What a killed Sluice leaves: the next one takes it over; until then it holds memory and a port. */
export async function lookAtLeftovers({ config: { home, databaseUrl } }: Subject): Promise<Told[]> {
  const { tryLock } = await import('../../postgres/kernel-lock.ts')
  const { readPidFile } = await import('../../postgres/postmaster.ts')
  const lock = join(home, 'supervisor.lock')
  const unlock = existsSync(lock) ? tryLock(lock, 'exclusive') : undefined
  unlock?.()
  const running = existsSync(lock) && unlock === undefined
  const record = readServerRecord(home)
  if (running && record === undefined)
    return [
      warn(
        'a Sluice holds this home and does not answer yet',
        'it is starting or stopping',
        'wait for it; or: sluice stop',
      ),
    ]
  if (running) return [ok(`Sluice runs here (process ${record!.pid})`)]
  const told: Told[] = []
  const pidFile = await readFile(join(home, 'postgres/data/postmaster.pid'), 'utf8').catch(() => '')
  const postmaster = readPidFile(pidFile)
  if (databaseUrl === undefined && postmaster !== undefined && isAlive(postmaster.pid)) {
    const detail = `a PostgreSQL runs here (process ${postmaster.pid}), and no Sluice`
    told.push(
      warn(detail, 'a Sluice was killed, or a command of it runs', 'the next start takes it over; or: sluice stop'),
    )
  }
  if (existsSync(join(home, 'server.json'))) {
    told.push(
      warn(
        'a Sluice ended here without saying so',
        'it was killed, or the machine went down',
        'nothing: the next start recovers its work',
      ),
    )
  }
  return told.length > 0 ? told : [ok('nothing is left over')]
}

const wantedFiles = 1_024
const neededFiles = 256

export async function lookAtLimits(): Promise<Told[]> {
  const text = await readFile('/proc/self/limits', 'utf8').catch(() => '')
  return openFilesLimit(Number(/^Max open files +(\d+)/m.exec(text)?.[1] ?? Number.NaN))
}

export function openFilesLimit(limit: number): Told[] {
  if (Number.isNaN(limit) || limit >= wantedFiles)
    return [ok(Number.isNaN(limit) ? 'no limits are known here' : `${limit} open files`)]
  const fix = 'raise it: ulimit -n 4096, or LimitNOFILE=4096 of the service'
  const why = 'connections, objects and sockets take one each; beyond the limit they fail'
  const detail = `a process may have ${limit} files open`
  return [limit < neededFiles ? fail(detail, why, fix) : warn(detail, why, fix)]
}

/** Longest path of a socket, with the name that PostgreSQL gives it. */
const longestSocket = 103

export async function lookAtSocket({ config: { home, databaseUrl } }: Subject): Promise<Told[]> {
  const folder = databaseUrl === undefined ? join(home, 'postgres', 'socket') : socketFolderOf(databaseUrl)
  if (folder === undefined) return []
  const bytes = Buffer.byteLength(`${folder}/.s.PGSQL.5432`)
  if (bytes <= longestSocket) return [ok(`${folder}`)]
  const detail = `the path of the socket would have ${bytes} bytes, at most ${longestSocket} are possible`
  if (databaseUrl !== undefined) {
    const fix = 'let the server put its socket into a folder with a shorter path (unix_socket_directories)'
    return [fail(detail, 'no program can connect to it', fix)]
  }
  const short = await access('/tmp', constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  )
  if (short) return [ok('in /tmp, since the path of the home is too long for one')]
  return [fail(detail, 'and /tmp, where it would go instead, cannot be written', 'set SLUICE_HOME to a shorter path')]
}

function socketFolderOf(databaseUrl: string): string | undefined {
  const host = new URL(databaseUrl.replace('@/', '@localhost/')).searchParams.get('host')
  return host?.startsWith('/') ? host : undefined
}

/** Folders whose files start runs. */
export async function lookAtCatalogs({ config: { projectDir } }: Subject, folders: readonly string[]): Promise<Told[]> {
  const told: Told[] = []
  for (const folder of folders) {
    const path = join(projectDir, folder)
    const fix = `make it, and let this user read it: mkdir -p ${folder} && chmod u+rwx ${folder}`
    try {
      await readdir(path)
      await access(path, constants.W_OK)
    } catch (thrown) {
      const code = (thrown as NodeJS.ErrnoException).code
      if (code === 'ENOENT') told.push(warn(`there is no folder ${folder}`, 'a plan waits for files in it', fix))
      else if (code === 'EACCES' || code === 'EPERM' || code === 'ENOTDIR')
        told.push(fail(`${folder}: ${messageOf(thrown)}`, 'a plan waits for files in it, and cannot read it', fix))
      else told.push(warn(`${folder}: ${messageOf(thrown)}`, 'nobody can put files there as this user', fix))
    }
  }
  if (told.length > 0) return told
  return [ok(folders.length === 0 ? 'no plan waits for files' : folders.join(', '))]
}
