/** Each fault of a database is made to happen; the doctor names it, says why, and what to do. */

import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { copyFile, mkdtemp, readdir, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { testDatabase } from '../../../test/database.ts'
import { faults, findings, root, test } from '../../../test/doctor-subject.ts'
import { closed, freePort, listening } from '../../../test/loopback.ts'
import { startEmbedded } from '../../postgres/embedded.ts'
import { openDatabase } from '../../postgres/pool.ts'
import { migrate, platformMigrations } from '../../store/migrate.ts'
import { clockFault, serverFaults } from './database.ts'
import { databaseFault } from './database-faults.ts'

describe('a database that cannot be reached', () => {
  const withHost = (host: string) => `postgresql://u:p@${host}/sluice`
  /** A server that answers on TCP as the one of the tests does on its socket, or as `answer` says. */
  async function answering(answer?: (socket: import('node:net').Socket) => void): Promise<number> {
    const { hostname, port, searchParams } = new URL(test.url.replace('@/', '@localhost/'))
    const folder = searchParams.get('host')
    const server = createServer((socket) => {
      socket.on('error', () => {})
      if (answer) return answer(socket)
      const there = folder ? connect(`${folder}/.s.PGSQL.${port || 5432}`) : connect(Number(port || 5432), hostname)
      there.on('error', () => socket.destroy())
      socket.pipe(there).pipe(socket)
    })
    onTestFinished(() => closed(server))
    return listening(server)
  }

  it('by a port on which nothing listens', async () => {
    const port = await freePort()
    const [fault] = await faults('database', { url: withHost(`127.0.0.1:${port}`) })
    expect(fault).toMatchObject({ state: 'fail', why: expect.stringContaining('nothing listens on this port') })
  })

  it('by a host that nobody knows', async () => {
    const [fault] = await faults('database', { url: withHost('no-such-host.invalid') })
    expect(fault).toMatchObject({
      why: 'no machine of this name is known',
      fix: expect.stringContaining('correct the host'),
    })
    expect(fault!.detail).not.toContain(':p@')
  })

  it('by a host that swallows what is sent', { timeout: 30_000 }, async () => {
    const port = await answering(() => {})
    const [fault] = await faults('database', { url: withHost(`127.0.0.1:${port}`) })
    expect(fault).toMatchObject({ state: 'fail', why: expect.stringContaining('nothing answers there') })
  })

  it('by a port on which something else answers', async () => {
    const port = await answering((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    const [fault] = await faults('database', { url: withHost(`127.0.0.1:${port}`) })
    expect(fault).toMatchObject({ state: 'fail', fix: expect.stringContaining('correct the port') })
  })

  it('by TLS that the server does not offer', async () => {
    const port = await answering()
    const [fault] = await faults('database', { url: `${withHost(`127.0.0.1:${port}`)}?sslmode=require` })
    expect(fault).toMatchObject({ why: expect.stringContaining('demands TLS, and the server offers none') })
  })

  it('by a name that no database has', async () => {
    const url = test.url.replace(/sluice_test_\w+/, 'no_such_database')
    expect(await faults('database', { url })).toMatchObject([
      { state: 'fail', why: 'the server has no database of this name' },
    ])
  })

  it('by a socket that is not there, or whose path is too long', async () => {
    const url = (folder: string) => `postgresql://u@/sluice?host=${encodeURIComponent(folder)}`
    expect(await faults('database', { url: url(root) })).toMatchObject([
      { why: expect.stringContaining('no socket of a server') },
    ])
    const long = join(root, 'x'.repeat(120))
    expect(await faults('socket', { url: url(long) })).toMatchObject([
      { state: 'fail', why: 'no program can connect to it' },
    ])
    expect(await faults('database', { url: url(long) })).toMatchObject([{ state: 'fail' }])
  })

  it('by a user, a password, or a rule of the server', { timeout: 60_000 }, async () => {
    const home = await mkdtemp(join(root, 'auth-'))
    const hba = join(home, 'hba.conf')
    execFileSync('chmod', ['-R', 'a+rX', root])
    await writeFile(
      hba,
      'local all sluice trust\nlocal all guest scram-sha-256\nlocal all nobody trust\nlocal all barred reject\n',
    )
    const server = await startEmbedded({ home, settings: { hba_file: hba, fsync: 'off' } })
    onTestFinished(() => server.stop())
    const admin = openDatabase({ url: server.url, applicationName: 'sluice test', max: 1 })
    await admin.script("create role guest login password 'right'; create role barred login")
    await admin.close()
    const as = (login: string) => `postgresql://${login}@/sluice?host=${encodeURIComponent(server.socketDir)}`
    const why = async (login: string) => (await faults('database', { url: as(login) }))[0]?.why
    expect(await why('guest:wrong')).toBe('the server refuses this user or this password')
    expect(await why('guest')).toContain('wants a password')
    expect(await why('nobody')).toBe('the server has no such user')
    expect(await why('barred')).toContain('pg_hba.conf')
    expect(await why('guest:right')).toBe('the tables of Sluice are made there')
  })

  it.each([
    ['28000', 'no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", no encryption', 'without TLS'],
    ['53300', 'sorry, too many clients already', 'all connections'],
    ['57P03', 'the database system is starting up', 'starting or stopping'],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'self-signed certificate', 'certificate'],
    ['ETIMEDOUT', 'connect ETIMEDOUT 10.0.0.1:5432', 'no way to this host'],
    ['XX000', 'something new', 'says so'],
  ])('tells %s (%s)', (code, message, why) => {
    const told = databaseFault(Object.assign(new Error(message), { code }))
    expect(told).toMatchObject({ state: 'fail', detail: message, why: expect.stringContaining(why) })
  })
})

describe('a database that can be reached and does not fit', () => {
  it('takes no writes', async () => {
    const own = await testDatabase()
    onTestFinished(() => own.drop())
    const name = /sluice_test_\w+/.exec(own.url)![0]
    await test.db.script(`alter database ${name} set default_transaction_read_only = on`)
    const [fault] = await faults('database', { url: own.url })
    expect(fault).toMatchObject({
      state: 'fail',
      detail: 'the server takes no writes',
      fix: expect.stringContaining(`alter database ${name} reset`),
    })
  })

  it('does not let the user make tables', async () => {
    const empty = await testDatabase({ migrated: false })
    const role = `sluice_test_${randomBytes(4).toString('hex')}`
    const name = /sluice_test_\w+/.exec(empty.url)![0]
    await empty.db.script(`create role ${role} login`)
    onTestFinished(async () => {
      await empty.drop()
      await test.db.script(`drop role ${role}`)
    })
    const url = empty.url.replace(/\/\/[^/@]*@/, `//${role}@`)
    expect(await faults('database', { url })).toMatchObject([
      { state: 'fail', fix: `as its owner: grant create on database ${name} to ${role}` },
    ])
    await migrate(empty.db)
    expect(await faults('database', { url })).toMatchObject([
      { fix: `as its owner: grant create, usage on schema sluice to ${role}` },
    ])
    await empty.db.script(`grant create, usage on schema sluice to ${role}`)
    expect(await faults('database', { url })).toMatchObject([
      { detail: expect.stringContaining('belong to another user') },
    ])
  })

  it('has another encoding', async () => {
    const name = `sluice_test_${randomBytes(6).toString('hex')}`
    await test.db.script(`create database ${name} encoding 'LATIN1' locale 'C' template template0`)
    onTestFinished(() => test.db.script(`drop database ${name} with (force)`))
    const url = test.url.replace(/sluice_test_\w+/, name)
    expect(await faults('database', { url })).toMatchObject([
      { state: 'fail', detail: 'the database has the encoding LATIN1' },
    ])
  })

  it('has tables of an older, a newer, or no Sluice', async () => {
    const own = await testDatabase({ migrated: false })
    onTestFinished(() => own.drop())
    const url = own.url
    expect((await findings({ url })).find(({ check }) => check === 'migrations')).toMatchObject({
      state: 'ok',
      detail: expect.stringContaining('no tables yet'),
    })
    const older = await mkdtemp(join(root, 'older-'))
    for (const name of (await readdir(platformMigrations.folder)).slice(0, 3))
      await copyFile(join(platformMigrations.folder, name), join(older, name))
    await migrate(own.db, { folders: [{ scope: 'sluice', folder: older }] })
    expect(await faults('migrations', { url })).toMatchObject([
      { state: 'warn', why: 'an older Sluice made the tables' },
    ])
    await migrate(own.db)
    await own.db.script(
      "insert into sluice.migrations (scope, number, name, sha256) values ('sluice', 99, '0099-later.sql', 'x')",
    )
    expect(await faults('migrations', { url })).toMatchObject([
      { state: 'fail', why: 'a newer Sluice has used this database' },
    ])
  })

  it('keeps another time', async () => {
    const told = async (ms: number) => (await faults('database', { now: () => Date.now() - ms }))[0]
    expect(await told(30_000)).toMatchObject({
      state: 'warn',
      detail: expect.stringMatching(/clock of the database is (29|3\d) s ahead/),
    })
    expect(await told(-600_000)).toMatchObject({ state: 'fail', fix: expect.stringContaining('NTP') })
    expect(clockFault(4_000)).toEqual([])
  })

  it('is too old, a standby, or has few connections left', () => {
    const sound = {
      number: 180_000,
      version: '18.4',
      readOnly: false,
      standby: false,
      encoding: 'UTF8',
      user: 'u',
      database: 'd',
      schemaThere: true,
      mayCreate: true,
      owns: true,
      freeConnections: 90,
    }
    const one = { shardProcesses: 1 }
    expect(serverFaults(sound, one)).toEqual([])
    expect(serverFaults({ ...sound, freeConnections: 50 }, one)).toEqual([])
    expect(serverFaults({ ...sound, freeConnections: 50 }, { shardProcesses: 2 })).toMatchObject([
      { state: 'warn', why: 'a Sluice with these settings takes 62 at most' },
    ])
    expect(serverFaults({ ...sound, number: 140_011, version: '14.11' }, one)).toMatchObject([
      { state: 'fail', why: 'Sluice needs PostgreSQL 15 or newer' },
    ])
    expect(serverFaults({ ...sound, readOnly: true, standby: true }, one)).toMatchObject([
      { fix: expect.stringContaining('primary') },
    ])
    expect(serverFaults({ ...sound, freeConnections: 10 }, one)).toMatchObject([
      { state: 'warn', fix: 'raise max_connections' },
    ])
  })
})
