/**
 * The image job from end to end, in the processes that users have: the catalog goes in by command, by upload and by file,
 * and what comes out is recounted here from the catalog, the origin, the database and the object store, by other means.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { appendFile, glob, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openFiles } from '../src/objects/files.ts'
import { startEmbedded } from '../src/postgres/embedded.ts'
import { openDatabase } from '../src/postgres/pool.ts'
import { breaches, type CheckOptions } from './invariants/check.ts'
import { type Project, projectOf, type RunningSluice, sluice, startSluice, until } from './sluice-process.ts'

const app = join(import.meta.dirname, '../apps/images')
const sample = join(app, 'sample/urls.txt')
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

interface Totals {
  readonly received: number
  readonly pending: number
  readonly written: number
  readonly duplicate: number
  readonly rejected: number
  readonly dead: number
  readonly filtered: number
  readonly rejectedByReason: Readonly<Record<string, number>>
}

let origin: ChildProcess
let originUrl: string
let project: Project
let server: RunningSluice

beforeAll(async () => {
  origin = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', join(app, 'origin/main.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const [line] = await once(origin.stdout!, 'data')
  originUrl = (JSON.parse(String(line)) as { url: string }).url
  const hosts = ['picsum.photos', 'slow.test', 'one.test', 'two.test']
  const rewrite = hosts.map((host) => ({ from: `https://${host}`, to: originUrl }))
  project = await projectOf('images', {
    SLUICE_CONNECTION_WEB: JSON.stringify({ kind: 'fetch', timeout: '60s', rewrite }),
  })
  server = await startSluice(project)
})

afterAll(async () => {
  await server?.stop()
  origin?.kill()
  await project?.remove()
})

const totals = async () => (await server.get<{ totals: Totals }>('/api/v1/streams/images')).totals
const atRest = (received: number) => until(totals, (now) => now.received === received && now.pending === 0)
const catalogNamed = (name: string) => server.get<{ lines: number; generation: number }>(`/api/v1/catalogs/${name}`)

async function add(name: string, urls: readonly string[], more: object = {}): Promise<void> {
  const body = JSON.stringify({ name, urls, ...more })
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(`${server.url}/api/v1/catalogs`, { method: 'POST', headers, body })
  expect(answer.status).toBe(202)
}

/** Own SQL on the server that Sluice runs. */
async function rows<Row extends pg.QueryResultRow>(sql: string): Promise<Row[]> {
  const embedded = await startEmbedded({ home: project.home })
  const client = new pg.Client({ host: embedded.socketDir, user: embedded.user, database: embedded.database })
  try {
    await client.connect()
    return (await client.query<Row>(sql)).rows
  } finally {
    await client.end()
    await embedded.stop()
  }
}

/** What does not hold by now (test/invariants), of rows, objects and files. */
async function breachesNow(options: CheckOptions) {
  const embedded = await startEmbedded({ home: project.home })
  const db = openDatabase({ url: embedded.url, applicationName: 'sluice test', max: 2 })
  try {
    return await breaches(db, { objects: openFiles(join(project.home, 'objects')), home: project.home, ...options })
  } finally {
    await db.close()
    await embedded.stop()
  }
}

describe('a catalog', () => {
  it('that was interrupted in the middle ends with the same sum', { timeout: 90_000 }, async () => {
    await sluice(project, 'catalog', 'add', sample, '--name', 'sample')
    await until(totals, ({ received, written }) => received === 650 && written > 0)
    expect(await server.stop('SIGINT')).toBe(0)
    const [left] = await rows<{ ended: number }>(
      'select coalesce(sum(received - waiting), 0)::int as ended from sluice.ledger_batches',
    )
    expect(left!.ended).toBeGreaterThan(0)
    expect(left!.ended).toBeLessThan(650)
    server = await startSluice(project)
    expect(await atRest(650)).toMatchObject({
      ...{ written: 500, duplicate: 99, rejected: 51, filtered: 0, dead: 0 },
      rejectedByReason: { 'http error': 51 },
    })
  })

  it('is recounted from its lines, the origin, the documents and the objects', async () => {
    const bytes = await readFile(sample)
    const lines = bytes
      .toString('utf8')
      .split(/\r?\n/)
      .flatMap((text, index) => (text === '' ? [] : [{ line: index + 1, url: text }]))
    const distinct = [...new Set(lines.map(({ url }) => url))]
    expect([lines.length, distinct.length]).toEqual([650, 551])
    const ids = new Map<string, string>()
    for (const url of distinct) {
      const answer = await fetch(url.replace('https://picsum.photos', originUrl))
      const body = Buffer.from(await answer.arrayBuffer())
      if (answer.status === 200) ids.set(url, sha256(body))
    }
    const expected = new Set(ids.values())
    expect(expected.size).toBe(500)

    const documents = await rows<{ key: string; line: number; url: string }>(`
      select d.key, (s.source ->> 'line')::int as line, s.source ->> 'url' as url
      from sluice.documents d, jsonb_array_elements(d.body -> 'sources') as s (source)
      where d.collection = 'images' and s.source ->> 'catalog' = 'sample'`)
    expect(new Set(documents.map(({ key }) => key))).toEqual(expected)
    // Every line whose URL is a picture is a source of exactly that picture; the others are nowhere.
    const wanted = lines.filter(({ url }) => ids.has(url)).map(({ line, url }) => `${line} ${url} ${ids.get(url)}`)
    expect(documents.map(({ line, url, key }) => `${line} ${url} ${key}`).sort()).toEqual(wanted.sort())
    expect(wanted).toHaveLength(550)

    const [topic] = await rows(`
      select count(*)::int as records, count(distinct value::jsonb ->> 'line')::int as lines from sluice.topic_records`)
    expect(topic).toEqual({ records: 650, lines: 650 })
    const ends = await rows<{ outcome: string; records: number }>(`
      with last as (
        select distinct on (partition, "offset") outcome from sluice.ledger_records
        where stream = 'images' order by partition, "offset", at desc, (was is null)
      )
      select outcome, count(*)::int as records from last where outcome <> 'written' group by outcome order by outcome`)
    expect(ends).toEqual([
      { outcome: 'duplicate', records: 99 },
      { outcome: 'rejected', records: 51 },
    ])

    const stored = new Set<string>()
    for await (const path of glob('[0-9a-f][0-9a-f]/*', { cwd: join(project.home, 'objects') })) {
      const name = path.split('/').at(-1) as string
      expect(sha256(await readFile(join(project.home, 'objects', path)))).toBe(name)
      stored.add(name)
    }
    expect(stored).toEqual(expected.union(new Set([sha256(bytes)])))
    const kept = await rows(`
      select encode(sha256, 'hex') as sha256 from sluice.object_refs
      where referrer_kind = 'document' and referrer_id = 'catalogs/sample'`)
    expect(kept).toEqual([{ sha256: sha256(bytes) }])
    expect(await breachesNow({ atRest: true })).toEqual([])
  })

  it('gives nothing new when it comes again', async () => {
    const again = await sluice(project, 'catalog', 'add', sample, '--name', 'sample', '--wait')
    expect(again).toMatchObject({ lines: 650, known: 650, published: 0, totals: { received: 650, pending: 0 } })
  })

  it('in the watched folder gives the lines that are appended', async () => {
    const file = join(project.folder, 'catalogs/live.txt')
    const url = (seed: number) => `https://picsum.photos/20/20?seed=live${seed}\n`
    const urls = (from: number, count: number) => Array.from({ length: count }, (_, at) => url(from + at)).join('')
    await writeFile(file, urls(0, 10))
    await atRest(660)
    await appendFile(file, urls(10, 100))
    expect(await atRest(760)).toMatchObject({ written: 610 })
    await until(
      () => catalogNamed('live'),
      ({ lines }) => lines === 110,
    )
    const [found] = await rows(`
      select count(*)::int as records, min((value::jsonb ->> 'line')::int) as first, max((value::jsonb ->> 'line')::int) as last
      from sluice.topic_records where value::jsonb ->> 'catalog' = 'live'`)
    expect(found).toEqual({ records: 110, first: 1, last: 110 })
  })
})

describe('a picture', () => {
  interface Shown {
    readonly id: string
    readonly image: string
    readonly sources: readonly object[]
    readonly [field: string]: unknown
  }

  it('is shown with all its facts, its grey within one level of the oracle', async () => {
    const { items } = await server.get<{ items: { id: string }[] }>('/api/v1/images?limit=4&catalog=sample')
    expect(items).toHaveLength(4)
    for (const { id } of items) {
      const shown = await server.get<Shown>(`/api/v1/images/${id}`)
      const raw = await bytesAt(`/api/v1/images/${id}/raw`)
      const grey = Buffer.from(shown.image, 'base64')
      expect(shown).toMatchObject({
        ...{ id: sha256(raw), rawSha256: id, imageSha256: sha256(grey), bytes: raw.length },
        ...{ mimeType: 'image/png', rawMimeType: 'image/jpeg', state: 'ok', derived: [], sourcesOmitted: 0 },
        transform: { name: 'grayscale-bt601', version: 1 },
        insertedAt: expect.stringMatching(/^\d{4}-.*Z$/),
        fetchedAt: expect.stringMatching(/^\d{4}-.*Z$/),
        perceptualHash: expect.stringMatching(/^[0-9a-f]{16}$/),
        http: { status: 200, redirects: 0, contentType: 'image/jpeg' },
      })
      for (const source of shown.sources) expect(source).toMatchObject({ catalog: 'sample', line: expect.any(Number) })
      expect(shown.sources.length).toBeGreaterThan(0)
      expect(await bytesAt(`/api/v1/images/${id}/image`)).toEqual(grey)
      await expectGrey(raw, grey, shown.width as number, shown.height as number)
    }
  })

  async function bytesAt(path: string): Promise<Buffer> {
    const answer = await fetch(server.url + path)
    expect(answer.status).toBe(200)
    const bytes = Buffer.from(await answer.arrayBuffer())
    const again = await fetch(server.url + path, { headers: { 'if-none-match': answer.headers.get('etag') as string } })
    expect([again.status, (await again.arrayBuffer()).byteLength]).toEqual([304, 0])
    return bytes
  }

  async function expectGrey(raw: Buffer, grey: Buffer, width: number, height: number): Promise<void> {
    const colours = await sharp(raw).raw().toBuffer({ resolveWithObject: true })
    const levels = await sharp(grey).toColourspace('b-w').raw().toBuffer({ resolveWithObject: true })
    expect(levels.info).toMatchObject({ width, height, channels: 1 })
    expect(colours.info).toMatchObject({ width, height, channels: 3 })
    let furthest = 0
    for (let pixel = 0; pixel < width * height; pixel += 1) {
      const [red, green, blue] = colours.data.subarray(pixel * 3, pixel * 3 + 3) as unknown as [number, number, number]
      furthest = Math.max(furthest, Math.abs(levels.data[pixel]! - (299 * red + 587 * green + 114 * blue) / 1000))
    }
    expect(furthest).toBeLessThanOrEqual(1)
  }

  it('of the same bytes under another URL is a duplicate, with both as its sources', async () => {
    const before = await totals()
    const urls = ['https://one.test/30/30?seed=same', 'https://two.test/30/30?seed=same']
    await add('twins', urls)
    const after = await atRest(before.received + 2)
    expect([after.written - before.written, after.duplicate - before.duplicate]).toEqual([1, 1])
    const { items } = await server.get<{ items: { sources: { url: string }[] }[] }>('/api/v1/images?catalog=twins')
    expect(items.map(({ sources }) => sources.map(({ url }) => url).sort())).toEqual([urls])
  })

  it('and its catalogs are in the documentation of the API', async () => {
    const { paths } = await server.get<{ paths: Record<string, Record<string, { responses: object }>> }>(
      '/openapi.json',
    )
    const found = (path: string, method: string) => Object.keys(paths[path]?.[method]?.responses ?? {})
    expect(found('/api/v1/catalogs', 'post')).toContain('202')
    for (const path of ['', '/{id}', '/{id}/image', '/{id}/raw']) {
      expect(found(`/api/v1/images${path}`, 'get')).toContain('200')
    }
  })

  it('that is none, or comes from where nobody may look, is rejected with its reason; what may pass is tried again', async () => {
    const before = await totals()
    const at = (path: string) => `https://one.test${path}`
    await add('bad', [
      ...['no url', 'ftp://one.test/1/1', 'http://127.0.0.1:1/', 'http://169.254.169.254/latest'],
      ...[at('/10/10?type=html'), at('/90/90?cut=30'), at('/10/10?status=410'), at('/10/10?seed=f&flaky=1')],
      at('/10/10?redirect=http://169.254.169.254/'),
    ])
    const after = await atRest(before.received + 9)
    const reasons = Object.entries(after.rejectedByReason).map(
      ([reason, count]) => [reason, count - (before.rejectedByReason[reason] ?? 0)] as const,
    )
    expect(Object.fromEntries(reasons)).toEqual({
      ...{ malformed: 2, 'blocked by policy': 3, 'not an image': 1, corrupt: 1, 'http error': 1 },
    })
    expect([after.written - before.written, after.dead]).toEqual([1, 0])
  })
})

describe('hosts and catalogs at once', () => {
  it('a host that answers in 30 s holds up no other, and catalogs interleave', async () => {
    const before = await totals()
    const slow = Array.from({ length: 12 }, (_, at) => `https://slow.test/10/10?seed=${at}&slow=30s`)
    const quick = (host: string) => Array.from({ length: 40 }, (_, at) => `https://${host}/12/12?seed=${host}${at}`)
    // Each catalog has slow lines before its quick ones: it can only pass the others in their midst.
    await Promise.all([
      add('first', [...slow.slice(0, 6), ...quick('one.test')]),
      add('second', [...slow.slice(6), ...quick('two.test')]),
    ])
    const after = await until(totals, ({ written }) => written === before.written + 80, 25_000)
    expect(after).toMatchObject({ received: before.received + 92, pending: 12, dead: 0 })
  })
})
