/** Catalogs of every kind through the processes that users have: by the watched folder, by upload, as JSON and by command. */

import { execFile, execFileSync } from 'node:child_process'
import { appendFile, mkdir, rename, rm, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEmbedded } from '../src/postgres/embedded.ts'
import { closed, listening } from './loopback.ts'
import { type Project, projectOf, type RunningSluice, sluice, startSluice, until } from './sluice-process.ts'

interface Published {
  readonly lines: number
  readonly published: number
  readonly known: number
  readonly blank: number
  readonly malformed: number
}

interface Run {
  readonly id: string
  readonly state: string
  readonly error: string | null
  readonly params: { readonly file: string; readonly name: string }
}

interface Totals {
  readonly received: number
  readonly pending: number
  readonly written: number
  readonly duplicate: number
  readonly rejected: number
  readonly rejectedByReason: Readonly<Record<string, number>>
}

const execute = promisify(execFile)
const bin = join(import.meta.dirname, '../bin/sluice.mjs')

let origin: Server
let project: Project
let server: RunningSluice

beforeAll(async () => {
  origin = createServer((_, response) => response.writeHead(404).end())
  const to = `http://127.0.0.1:${await listening(origin)}`
  const rewrite = ['https://cat.test', 'https://xn--bcher-kva.test'].map((from) => ({ from, to }))
  project = await projectOf('images', { SLUICE_CONNECTION_WEB: JSON.stringify({ kind: 'fetch', rewrite }) })
  server = await startSluice(project)
})
afterAll(async () => {
  await server?.stop()
  if (origin) await closed(origin)
  await project?.remove()
})

const totals = async () => (await server.get<{ totals: Totals }>('/api/v1/streams/images')).totals
/** A busy machine may take its time; nothing here is measured. */
const patienceMs = 120_000
const atRest = () => until(totals, ({ received, pending }) => received > 0 && pending === 0, patienceMs)
const inFolder = (name: string) => join(project.folder, 'catalogs', name)

async function post(path: string, type: string, body: string | Buffer): Promise<string> {
  const init = { method: 'POST', headers: { 'content-type': type }, body: body as string }
  const answer = await fetch(server.url + path, init)
  const { runId, id, detail } = (await answer.json()) as { runId?: string; id?: string; detail?: string }
  if (!answer.ok) throw new Error(detail)
  return (runId ?? id)!
}

const ended = (id: string) =>
  until(
    () => server.get<Run>(`/api/v1/runs/${id}?wait=5s`),
    ({ state }) => state !== 'queued' && state !== 'running',
    patienceMs,
  )

async function publishedBy(id: string): Promise<Published> {
  const { state, error } = await ended(id)
  expect([state, error]).toEqual(['success', null])
  const { items } = await server.get<{ items: { id: string; name: string }[] }>(`/api/v1/runs/${id}/tasks`)
  const task = items.find(({ name }) => name === 'publish-lines')
  return (await server.get<{ result: Published }>(`/api/v1/tasks/${task!.id}`)).result
}

/** Why the run has failed. */
async function failureOf(id: string): Promise<string | null | undefined> {
  expect((await ended(id)).state).toBe('failed')
  const { items } = await server.get<{ items: { state: string; error: string | null }[] }>(`/api/v1/runs/${id}/tasks`)
  return items.find(({ state }) => state === 'failed')?.error
}

/** Ids of the runs of each file of the folder, oldest first. */
async function runsByFile(): Promise<Map<string, string[]>> {
  const { items } = await server.get<{ items: { id: string }[] }>('/api/v1/runs?limit=1000&workflow=catalog')
  const runs = await Promise.all(items.map(({ id }) => server.get<Run>(`/api/v1/runs/${id}`)))
  const byFile = Map.groupBy(runs.reverse(), ({ params }) => params.file.replace('catalogs/', ''))
  return new Map([...byFile].map(([file, own]) => [file, own.map(({ id }) => id)]))
}

/** The run of a file of the folder, once it has so many. */
async function runOf(file: string, count = 1): Promise<string> {
  const found = await until(runsByFile, (runs) => (runs.get(file)?.length ?? 0) >= count, patienceMs)
  return found.get(file)![count - 1]!
}

const long = `https://cat.test/${'x'.repeat(1_048_576)}`
const odd: readonly (string | Buffer)[] = [
  '\ufeffhttps://cat.test/1\r\n',
  '\r\n',
  'https://cat.test/2\n',
  ' \t \n',
  'https://CAT.test:443/x/../2#part\n',
  'https://cat.test/a\rhttps://cat.test/b\n',
  `${long}\n`,
  Buffer.from([...Buffer.from('https://cat.test/'), 0xff, 0xfe, 10]),
  'https://cat.test/\0\n',
  'https://cat.test/\x1b[31m\n',
  'https://name:hunter2@cat.test/1\n',
  'ftp://name:hunter2@cat.test/\n',
  ...['file:///etc/passwd', 'gopher://cat.test/1', 'javascript:alert(1)', 'data:image/png;base64,AA'].map(
    (url) => `${url}\n`,
  ),
  ...['//cat.test/x', '/x', 'x', 'http:///x', 'https://cat.test:0/', 'https://cat.test:65536/'].map(
    (url) => `${url}\n`,
  ),
  ...[`https://${'h'.repeat(300)}.test/`, 'https://cat.test/a b', '  https://cat.test/3\t'].map((url) => `${url}\n`),
  'https://bücher.test/1\n',
  'https://xn--bcher-kva.test/1\n',
  'https://cat.test/4',
]
const oddBytes = Buffer.concat(odd.map((part) => Buffer.from(part as string)))
/** 28 lines; those of cat.test and bücher.test that are URLs are 7, of 5 URLs. */
const oddCounts = { lines: 28, blank: 2, malformed: 19, published: 26, known: 0 }

describe('a catalog of odd lines', { timeout: 300_000 }, () => {
  it('by the watched folder ends each as it is named', async () => {
    await writeFile(inFolder('odd.txt'), oddBytes)
    expect(await publishedBy(await runOf('odd.txt'))).toMatchObject(oddCounts)
    expect(await atRest()).toMatchObject({
      ...{ received: 26, written: 0, duplicate: 2, rejected: 24 },
      rejectedByReason: { malformed: 19, 'http error': 5 },
    })
  })

  it('by upload, by command and as JSON is the same, and its lines are known URLs', async () => {
    const before = await atRest()
    const upload = await post('/api/v1/catalogs?name=odd-upload', 'text/plain', oddBytes)
    expect(await publishedBy(upload)).toMatchObject(oddCounts)
    await writeFile(join(project.folder, 'elsewhere.txt'), oddBytes)
    const added = await sluice<Published>(project, 'catalog', 'add', 'elsewhere.txt', '--wait')
    expect(added).toMatchObject(oddCounts)
    const urls = odd.filter((line) => typeof line === 'string' && !/\0|\r(?!\n)/.test(line) && line.length < 9_000)
    const texts = urls.map((line) => String(line).replace(/[\r\n]+$/, '')).filter((line) => line !== '')
    const json = JSON.stringify({ name: 'odd-list', urls: texts })
    const list = await publishedBy(await post('/api/v1/catalogs', 'application/json', json))
    expect(list).toMatchObject({ lines: 23, blank: 1, published: 22, malformed: 15, known: 0 })
    const after = await atRest()
    expect([after.received - before.received, after.duplicate - before.duplicate]).toEqual([74, 74])
  })

  it('that comes again is known, whatever the way', async () => {
    const known = { lines: 28, published: 0, known: 26, blank: 2 }
    expect(await publishedBy(await post('/api/v1/catalogs?name=odd', 'text/plain', oddBytes))).toMatchObject(known)
    const command = [bin, 'catalog', 'add', 'elsewhere.txt', '--wait']
    const { stdout } = await execute(process.execPath, command, { cwd: project.folder, env: project.environment })
    expect(stdout).toBe('26 lines known, 0 new\n')
    await utimes(inFolder('odd.txt'), new Date(), new Date())
    expect(await publishedBy(await runOf('odd.txt', 2))).toMatchObject(known)
  })

  it('shows its credentials nowhere', async () => {
    await atRest()
    const embedded = await startEmbedded({ home: project.home })
    const client = new pg.Client({ host: embedded.socketDir, user: embedded.user, database: embedded.database })
    try {
      await client.connect()
      const tables = await client.query<{ name: string }>(`
        select table_name as name from information_schema.tables
        where table_schema = 'sluice' and table_type = 'BASE TABLE'`)
      const showing = async (text: string) => {
        const names: string[] = []
        for (const { name } of tables.rows) {
          const found = await client.query(`select from sluice.${name} as t where strpos(t::text, $1) > 0 limit 1`, [
            text,
          ])
          if (found.rowCount !== 0) names.push(name)
        }
        return names
      }
      expect(await showing('hunter2')).toEqual([])
      expect(await showing('https://***@cat.test/1')).toContain('topic_records')
    } finally {
      await client.end()
      await embedded.stop()
    }
    for (const path of [
      '/api/v1/catalogs',
      '/api/v1/catalogs/odd',
      '/api/v1/runs?limit=1000',
      '/api/v1/streams/images',
    ]) {
      expect(await (await fetch(server.url + path)).text()).not.toContain('hunter2')
    }
  })
})

describe('a file of the watched folder', { timeout: 300_000 }, () => {
  it('that is none, or leads out of it, or has no name for a catalog, is refused by name and harms no other', async () => {
    await mkdir(inFolder('folder.txt'))
    execFileSync('sh', ['-c', 'mkfifo "$0"', inFolder('pipe.txt')])
    await symlink('/etc/hostname', inFolder('outside.txt'))
    await symlink('inside.txt', inFolder('link.txt'))
    await symlink('/dev/zero', inFolder('device.txt'))
    await writeFile(inFolder('inside.txt'), 'https://cat.test/inside\n')
    await writeFile(inFolder('-dash.txt'), 'https://cat.test/1\n')
    await writeFile(inFolder('line\nbreak.txt'), 'https://cat.test/1\n')
    await writeFile(inFolder(`${'n'.repeat(251)}.txt`), 'https://cat.test/1\n')
    await writeFile(inFolder('e\u0301.txt'), 'https://cat.test/1\n')
    await writeFile(inFolder('utf16.txt'), Buffer.from('\ufeffhttps://cat.test/1\n', 'utf16le'))
    await writeFile(inFolder('empty.txt'), '')
    await writeFile(inFolder('blank.txt'), '\n \r\n\t')
    const failed = async (file: string) => failureOf(await runOf(file))
    expect(await failed('outside.txt')).toContain('must lie in catalogs/')
    expect(await failed('-dash.txt')).toContain('"-dash" is not a name for a catalog')
    expect(await failed('line\nbreak.txt')).toContain('is not a name for a catalog')
    expect(await failed(`${'n'.repeat(251)}.txt`)).toContain('is not a name for a catalog')
    expect(await failed('utf16.txt')).toContain('The catalog is UTF-16')
    expect(await publishedBy(await runOf('link.txt'))).toMatchObject({ lines: 1, published: 1 })
    expect(await publishedBy(await runOf('inside.txt'))).toMatchObject({ lines: 1, published: 1 })
    expect(await publishedBy(await runOf('empty.txt'))).toMatchObject({ lines: 0, published: 0 })
    expect(await publishedBy(await runOf('blank.txt'))).toMatchObject({ lines: 3, blank: 3, published: 0 })
    await publishedBy(await runOf('e\u0301.txt'))
    expect(await server.get(`/api/v1/catalogs/${encodeURIComponent('\u00e9')}`)).toMatchObject({
      name: '\u00e9',
      lines: 1,
    })
    const files = [...(await runsByFile()).keys()]
    for (const none of ['folder.txt', 'pipe.txt', 'device.txt']) expect(files).not.toContain(none)
  })

  it('that somebody names over HTTP is not opened unless it is one', async () => {
    const start = async (file: string) =>
      failureOf(await post('/api/v1/workflows/catalog/runs', 'application/json', JSON.stringify({ params: { file } })))
    for (const [file, why] of [
      ['catalogs/pipe.txt', 'is no file'],
      ['catalogs/folder.txt', 'is no file'],
      ['catalogs/../sluice.config.ts', 'must lie in catalogs/'],
      ['/etc/passwd', 'must lie in catalogs/'],
      ['catalogs/none.txt', 'cannot be read (ENOENT)'],
    ] as const) {
      expect([file, await start(file)]).toEqual([file, expect.stringContaining(why)])
    }
  })

  it('that changes gives what is new: the lines behind a prefix that is known, or all of another one', async () => {
    const names = [
      'grown',
      'touched',
      'shrunk',
      'emptied',
      'replaced',
      'rewritten',
      'tail',
      'gone',
      'equal-a',
      'equal-b',
    ]
    const text = (name: string) => [1, 2, 3].map((line) => `https://cat.test/${name}/${line}\n`).join('')
    const bytesOf = (name: string) => (name === 'tail' ? text(name).trimEnd() : text(name.replace(/-.$/, '')))
    for (const name of names) await writeFile(inFolder(`${name}.txt`), bytesOf(name))
    for (const name of names) {
      expect([name, await publishedBy(await runOf(`${name}.txt`))]).toMatchObject([name, { lines: 3, published: 3 }])
    }
    const { atime, mtime } = await stat(inFolder('replaced.txt'))
    await appendFile(inFolder('grown.txt'), 'https://cat.test/grown/4\nhttps://cat.test/grown/5')
    await utimes(inFolder('touched.txt'), new Date(), new Date())
    await truncate(inFolder('shrunk.txt'), text('shrunk').indexOf('\n') + 1)
    await truncate(inFolder('emptied.txt'))
    await writeFile(join(project.folder, 'next'), text('replaced').replace('/1\n', '/9\n'))
    await utimes(join(project.folder, 'next'), atime, mtime)
    await rename(join(project.folder, 'next'), inFolder('replaced.txt'))
    await writeFile(inFolder('rewritten.txt'), `${text('rewritten').replace('/2\n', '/22\n')}https://cat.test/new\n`)
    await appendFile(inFolder('tail.txt'), '3\nhttps://cat.test/tail/4\n')
    await rm(inFolder('gone.txt'))
    const again = async (name: string) => publishedBy(await runOf(`${name}.txt`, 2))
    expect({
      grown: await again('grown'),
      touched: await again('touched'),
      shrunk: await again('shrunk'),
      emptied: await again('emptied'),
      replaced: await again('replaced'),
      rewritten: await again('rewritten'),
      tail: await again('tail'),
    }).toMatchObject({
      grown: { lines: 5, published: 2, known: 3 },
      touched: { lines: 3, published: 0, known: 3 },
      shrunk: { lines: 1, published: 1, known: 0 },
      emptied: { lines: 0, published: 0, known: 0 },
      replaced: { lines: 3, published: 3, known: 0 },
      rewritten: { lines: 4, published: 4, known: 0 },
      tail: { lines: 4, published: 2, known: 2 },
    })
    await writeFile(inFolder('gone.txt'), bytesOf('gone'))
    expect(await publishedBy(await runOf('gone.txt', 2))).toMatchObject({ lines: 3, published: 0, known: 3 })
    await atRest()
  })
})

it('a catalog that is uploaded twice at once is received once, two files of one name each', {
  timeout: 300_000,
}, async () => {
  const before = await atRest()
  const text = (part: string) =>
    Array.from({ length: 500 }, (_, at) => `https://cat.test/twins/${part}${at}\n`).join('')
  const upload = (name: string, body: string) => post(`/api/v1/catalogs?name=${name}`, 'text/plain', body)
  const same = await Promise.all([upload('same', text('s')), upload('same', text('s')), upload('same', text('s'))])
  const two = await Promise.all([upload('two', text('a')), upload('two', text('b'))])
  const sum = async (ids: string[]) =>
    (await Promise.all(ids.map(publishedBy))).reduce((total, { published }) => total + published, 0)
  expect([await sum(same), await sum(two)]).toEqual([500, 1_000])
  const after = await atRest()
  expect([after.received - before.received, after.duplicate - before.duplicate]).toEqual([1_500, 0])
})
