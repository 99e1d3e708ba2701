/**
 * What is stored of pictures, damaged and looked after, in the processes that users have: `sluice verify` and `sluice derive` on a
 * project of its own, whose registry of transforms gets one more on the way. The origin counts what it is asked.
 */

import { createHash } from 'node:crypto'
import { chmod, cp, mkdir, mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEmbedded } from '../src/postgres/embedded.ts'
import { closed, listening } from './loopback.ts'
import { type Project, type RunningSluice, sluiceEnds, startSluice, until } from './sluice-process.ts'

const app = join(import.meta.dirname, '../apps/images')
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

interface Totals {
  readonly received: number
  readonly pending: number
  readonly written: number
  readonly duplicate: number
}
interface Picture {
  readonly id: string
  readonly state: string
  readonly warning: string | null
  readonly imageSha256: string
  readonly sources: readonly { readonly url: string }[]
  readonly derived: readonly { readonly name: string; readonly version: number; readonly sha256: string }[]
}
interface Report {
  readonly runId: string
  readonly pictures: number
  readonly damages: number
  readonly mended: number
  readonly remaining: number
  readonly named: readonly {
    readonly id: string
    readonly part: string
    readonly outcome: string
    readonly how: string
  }[]
}
interface Derivation {
  readonly pictures: number
  readonly made: number
  readonly same: number
  readonly failed: number
  readonly settled: boolean
}

/** Raw bytes by path; what is not there is answered with 404. */
const pictures = new Map<string, Buffer>()
const asked: string[] = []
/** The origin answers nobody before this is there. */
let gate: Promise<void> = Promise.resolve()
const ids: string[] = []
let origin: Server
let project: Project
let server: RunningSluice
const small = 40

beforeAll(async () => {
  for (let n = 0; n < small; n += 1) {
    const create = { width: 60 + n, height: 40, channels: 3 as const, background: { r: n, g: 90, b: 200 } }
    pictures.set(`/${n}`, await sharp({ create }).jpeg().toBuffer())
  }
  // Its grey PNG is longer than what stays in the database.
  const noise = { type: 'gaussian' as const, mean: 128, sigma: 60 }
  const create = { width: 3_700, height: 3_600, channels: 3 as const, background: 'black', noise }
  pictures.set(`/${small}`, await sharp({ create }).toColourspace('b-w').png({ compressionLevel: 0 }).toBuffer())
  for (const bytes of pictures.values()) ids.push(sha256(bytes))
  origin = createServer(async (request, response) => {
    await gate
    const path = (request.url ?? '').replace(/\?.*/, '')
    asked.push(path)
    const bytes = pictures.get(path)
    response.writeHead(bytes ? 200 : 404, { 'content-type': 'image/jpeg' }).end(bytes)
  })
  const to = `http://127.0.0.1:${await listening(origin)}`
  project = await projectWithAnApp({
    SLUICE_CONNECTION_WEB: JSON.stringify({ kind: 'fetch', rewrite: [{ from: 'https://pictures.test', to }] }),
  })
  server = await startSluice(project)
})

afterAll(async () => {
  await server?.stop()
  if (origin) await closed(origin)
  await project?.remove()
})

/** The app's own files, so that a test can add to them. */
async function projectWithAnApp(environment: NodeJS.ProcessEnv): Promise<Project> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-project-'))
  await mkdir(join(folder, 'catalogs'))
  for (const room of ['care', 'catalog', 'pictures', 'transforms', 'workflows']) {
    await cp(join(app, room), join(folder, 'app', room), {
      recursive: true,
      filter: (file) => !/\.(test|fixture)\.ts$/.test(file),
    })
  }
  await writeFile(join(folder, 'sluice.config.ts'), "export default { definitions: ['app/workflows/*.ts'] }\n")
  const home = join(folder, '.sluice')
  return {
    folder,
    home,
    environment: { PATH: process.env.PATH, HOME: process.env.HOME, SLUICE_HOME: home, ...environment },
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}

const totals = async () => (await server.get<{ totals: Totals }>('/api/v1/streams/images')).totals
const atRest = (received: number) => until(totals, (now) => now.received === received && now.pending === 0)
const pictureOf = (id: string) => server.get<Picture>(`/api/v1/images/${id}`)
const objectPath = (hash: string) => join(project.home, 'objects', hash.slice(0, 2), hash)
const bytesAt = async (path: string) => Buffer.from(await (await fetch(server.url + path)).arrayBuffer())

async function add(name: string, urls: readonly string[]): Promise<void> {
  const headers = { 'content-type': 'application/json' }
  const body = JSON.stringify({ name, urls })
  expect((await fetch(`${server.url}/api/v1/catalogs`, { method: 'POST', headers, body })).status).toBe(202)
}

async function flip(hash: string): Promise<void> {
  const path = objectPath(hash)
  await chmod(path, 0o600)
  const file = await open(path, 'r+')
  const { size } = await file.stat()
  const byte = Buffer.alloc(1)
  await file.read(byte, 0, 1, Math.floor(size / 2))
  byte[0] = byte[0]! ^ 1
  await file.write(byte, 0, 1, Math.floor(size / 2))
  await file.close()
}

/** Own SQL on the server that Sluice runs. */
async function sql<Row extends pg.QueryResultRow>(text: string, values: unknown[]): Promise<Row[]> {
  const embedded = await startEmbedded({ home: project.home })
  const client = new pg.Client({ host: embedded.socketDir, user: embedded.user, database: embedded.database })
  try {
    await client.connect()
    return (await client.query<Row>(text, values)).rows
  } finally {
    await client.end()
    await embedded.stop()
  }
}

const verify = (...args: string[]) => sluiceEnds<Report>(project, 'verify', ...args)
const outcomes = ({ named }: Report) =>
  named.map(({ id, part, outcome }) => `${ids.indexOf(id)} ${part} ${outcome}`).sort()
const urlOf = (path: string | number) => `https://pictures.test/${path}`

/** Ends the processes that execute actions, as the kernel would. */
async function killRunners(): Promise<number> {
  let killed = 0
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (!command.includes('runner-main') || !command.includes(project.home)) continue
    process.kill(Number(pid), 'SIGKILL')
    killed += 1
  }
  return killed
}

describe('verification', () => {
  it('of what is well finds nothing', async () => {
    await add(
      'all',
      ids.map((_, n) => urlOf(n)),
    )
    expect(await atRest(ids.length)).toMatchObject({ written: ids.length })
    const { code, answer } = await verify()
    expect(code).toBe(0)
    expect(answer).toMatchObject({ pictures: ids.length, damages: 0, named: [] })
    const spilled = await sql<{ key: string }>('select key from sluice.document_bytes where object is not null', [])
    expect(spilled).toEqual([{ key: ids[small] }])
  })

  it('names each damage, mends what follows from the raw bytes, and marks damaged raw bytes', async () => {
    const images = await Promise.all(ids.map(async (id) => sha256(await bytesAt(`/api/v1/images/${id}/image`))))
    const before = asked.length
    await flip(ids[0]!)
    await rm(objectPath(ids[1]!))
    await chmod(objectPath(ids[2]!), 0o600)
    await truncate(objectPath(ids[2]!), 100)
    await sql('update sluice.document_bytes set bytes = set_byte(bytes, 50, get_byte(bytes, 50) # 1) where key = $1', [
      ids[3],
    ])
    await sql('delete from sluice.document_bytes where key = $1', [ids[4]])
    await sql('update sluice.document_bytes set bytes = substring(bytes from 1 for 60) where key = any ($1)', [
      [ids[5], ids[0]],
    ])
    await flip(images[small]!)

    const { code, answer } = await verify()
    expect(code).toBe(1)
    expect(outcomes(answer)).toEqual(
      [
        ...['0 image remains', '0 raw remains', '1 raw remains', '2 raw remains'],
        ...['3 image mended', '4 image mended', '5 image mended', `${small} image mended`],
      ].sort(),
    )
    for (const n of [0, 1, 2]) expect((await pictureOf(ids[n]!)).state).toBe('corrupt')
    expect((await pictureOf(ids[1]!)).warning).toBe('raw bytes: it is missing')
    const { items } = await server.get<{ items: Picture[] }>('/api/v1/images?state=corrupt')
    expect(items.map(({ id }) => id).sort()).toEqual([ids[0], ids[1], ids[2]].sort())
    expect((await fetch(`${server.url}/api/v1/images/${ids[0]}/raw`)).status).toBe(404)
    for (const n of [1, 2, 3, 4, 5, small]) {
      expect(sha256(await bytesAt(`/api/v1/images/${ids[n]}/image`))).toBe(images[n])
    }
    expect(asked.length).toBe(before)
    // The same again: nothing more is mended, nothing is forgotten.
    expect(outcomes((await verify()).answer)).toEqual([
      ...['0 image remains', '0 raw remains', '1 raw remains', '2 raw remains'],
    ])
  })

  it('asks the sources when it is told to, and takes the same bytes only', async () => {
    const rights = [pictures.get('/1')!, pictures.get('/2')!]
    pictures.set('/1', pictures.get('/7')!)
    pictures.delete('/2')
    const first = await verify('--refetch')
    expect(first.code).toBe(1)
    expect(outcomes(first.answer)).toEqual(['0 image mended', '0 raw mended', '1 raw remains', '2 raw remains'])
    const how = (n: number) => first.answer.named.find(({ id }) => id === ids[n])?.how
    expect(how(1)).toContain(`other bytes, whose sha256 is ${ids[7]}`)
    expect(how(2)).toContain('status 404')
    expect(await pictureOf(ids[0]!)).toMatchObject({ state: 'ok', warning: null })
    expect(sha256(await bytesAt(`/api/v1/images/${ids[0]}/raw`))).toBe(ids[0])
    pictures.set('/1', rights[0]!).set('/2', rights[1]!)
    // Killed while it asks, it goes on and forgets nothing.
    let letGo = () => {}
    gate = new Promise((resolve) => {
      letGo = resolve
    })
    const running = verify('--refetch')
    await until(
      () => server.get<{ items: { state: string; workflow: string }[] }>('/api/v1/runs?state=running'),
      ({ items }) => items.some(({ workflow }) => workflow === 'verify'),
    )
    expect(await killRunners()).toBeGreaterThan(0)
    letGo()
    const second = await running
    expect(second.code).toBe(0)
    expect(outcomes(second.answer)).toEqual(['1 raw mended', '2 raw mended'])
    expect((await verify()).answer.damages).toBe(0)
  })

  it('says so when a picture is whole again by itself', async () => {
    await flip(ids[6]!)
    expect((await verify()).code).toBe(1)
    // The same bytes come from elsewhere: putting them heals the file.
    pictures.set('/elsewhere', pictures.get('/6')!)
    await add('elsewhere', [urlOf('elsewhere')])
    await atRest(ids.length + 1)
    const { code, answer } = await verify()
    expect([code, outcomes(answer)]).toEqual([0, ['6 document mended']])
    expect((await pictureOf(ids[6]!)).state).toBe('ok')
  })
})

describe('over HTTP', () => {
  it('a picture that is also something else is a picture and nothing else', async () => {
    const script = Buffer.concat([pictures.get('/0')!, Buffer.from('<script>alert(1)</script>PK\x03\x04')])
    pictures.set('/polyglot', script)
    await add('polyglot', [urlOf('polyglot')])
    await atRest(ids.length + 2)
    const raw = await fetch(`${server.url}/api/v1/images/${sha256(script)}/raw`)
    expect(Buffer.from(await raw.arrayBuffer()).equals(script)).toBe(true)
    expect(Object.fromEntries(raw.headers)).toMatchObject({
      'content-type': 'image/jpeg',
      'content-disposition': 'attachment',
      'x-content-type-options': 'nosniff',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'; sandbox",
    })
    const image = await fetch(`${server.url}/api/v1/images/${sha256(script)}/image`)
    expect((await image.text()).includes('script')).toBe(false)
    expect(Object.fromEntries(image.headers)).toMatchObject({
      'content-type': 'image/png',
      'content-disposition': 'inline',
      'x-content-type-options': 'nosniff',
    })
  })

  it('pictures that look like another are found, and flat ones are like none', async () => {
    const bands = (width: number) =>
      sharp(
        Buffer.from(
          Array.from({ length: width * 60 }, (_, at) =>
            (at % width) * 5 > width * (1 + ((at / width) & 3)) ? 220 : 30,
          ),
        ),
        { raw: { width, height: 60, channels: 1 } },
      )
    const alike = await Promise.all([bands(90).png().toBuffer(), bands(180).jpeg({ quality: 90 }).toBuffer()])
    for (const [n, bytes] of alike.entries()) pictures.set(`/alike${n}`, bytes)
    await add('alike', [urlOf('alike0'), urlOf('alike1')])
    await atRest(ids.length + 4)
    const [one, other] = alike.map(sha256)
    const like = (id: string, more = '') =>
      server.get<{ items: { id: string; distance: number }[] }>(`/api/v1/images?similarTo=${id}${more}`)
    const { items } = await like(one!)
    expect(items.map(({ id }) => id)).toEqual([other])
    expect(items[0]!.distance).toBeLessThanOrEqual(6)
    expect((await like(one!, '&distance=64&limit=1000')).items.length).toBeGreaterThan(1)
    expect((await like(ids[0]!)).items).toEqual([])
    await expect(like('0'.repeat(64))).rejects.toThrow('There is no picture')
    expect((await fetch(`${server.url}/api/v1/images?similarTo=../..`)).status).toBe(422)
    expect((await fetch(`${server.url}/api/v1/images?similarTo=${one}&distance=65`)).status).toBe(422)
  })
})

describe('a transform that is added', () => {
  const made = async (id: string) => (await pictureOf(id)).derived.find(({ name }) => name === 'thumbnail-256')

  /** A file and a line; slow, so that there is a middle to be killed in. */
  async function register(): Promise<void> {
    const folder = join(project.folder, 'app/transforms')
    await writeFile(
      join(folder, 'small.ts'),
      `import { thumbnail } from './thumbnail.ts'
const quick = thumbnail()
export const small = { ...quick, apply: async (raw: Buffer, facts: never) => {
  await new Promise((resolve) => setTimeout(resolve, 150))
  return quick.apply(raw, facts)
} }
`,
    )
    const registry = await readFile(join(folder, 'registry.ts'), 'utf8')
    const line = 'export const further: readonly ImageTransform[] = []'
    expect(registry).toContain(line)
    await writeFile(
      join(folder, 'registry.ts'),
      `import { small } from './small.ts'\n${registry.replace(line, line.replace('[]', '[small]').replace('ImageTransform[small] = []', 'ImageTransform[] = [small]'))}`,
    )
  }

  it('is made of every picture that is there, from the raw bytes alone, through a kill and beside the stream', async () => {
    await server.stop()
    await register()
    server = await startSluice(project)
    const before = asked.length
    const { plans } = await server.get<{ plans: object[] }>('/api/v1/workflows/derive')
    expect(plans).toMatchObject([{ kind: 'cron' }])
    const running = sluiceEnds<Derivation>(project, 'derive')
    await until(
      () => made(ids[3]!),
      (entry) => entry !== undefined,
    )
    const killed = await killRunners()
    // The same bytes from other places: their lines are added to documents that are being derived.
    for (let n = 0; n < 20; n += 1) pictures.set(`/twin${n}`, pictures.get(`/${n}`)!)
    await add(
      'twins',
      Array.from({ length: 20 }, (_, n) => urlOf(`twin${n}`)),
    )
    const { code, answer } = await running
    await atRest(ids.length + 24)
    expect(killed).toBeGreaterThan(0)
    expect(code).toBe(0)
    expect(answer).toMatchObject({ pictures: ids.length + 3, failed: 0, settled: false })
    for (const [n, id] of ids.entries()) {
      const { derived, sources } = await pictureOf(id)
      expect(derived.map(({ name, version }) => `${name}@${version}`)).toEqual(['thumbnail-256@1'])
      expect(sources.length).toBe(1 + (n < 20 ? 1 : 0) + (n === 6 ? 1 : 0))
    }
    expect(asked.slice(before).filter((path) => !path.startsWith('/twin'))).toEqual([])
    const shown = await fetch(`${server.url}/api/v1/images/${ids[small]}/derived/thumbnail-256/1`)
    expect(shown.headers.get('content-type')).toBe('image/webp')
    expect(await sharp(Buffer.from(await shown.arrayBuffer())).metadata()).toMatchObject({ width: 256, format: 'webp' })
    expect((await fetch(`${server.url}/api/v1/images/${ids[0]}/derived/thumbnail-256/2`)).status).toBe(404)
  })

  it('comes with new pictures by itself, and applied again is as it was', async () => {
    pictures.set(
      '/new',
      await sharp({ create: { width: 9, height: 9, channels: 3, background: 'red' } })
        .png()
        .toBuffer(),
    )
    const id = sha256(pictures.get('/new')!)
    await add('new', [urlOf('new')])
    await atRest(ids.length + 25)
    expect(await made(id)).toMatchObject({ version: 1 })
    ids.push(id)
    expect((await sluiceEnds<Derivation>(project, 'derive')).answer).toMatchObject({
      pictures: ids.length + 3,
      made: 0,
    })
    const again = await sluiceEnds<Derivation>(project, 'derive', '--again', 'thumbnail-256@1')
    expect(again.answer).toMatchObject({ pictures: ids.length + 3, made: 0, same: ids.length + 3 })
    const unknown = await sluiceEnds<Derivation>(project, 'derive', '--again', 'nothing@1').catch(
      (error: Error) => error,
    )
    expect(String(unknown)).toMatch(/no transform nothing@1; registered are grayscale-bt601@1, thumbnail-256@1/)
  })

  it('is verified and mended like everything else, and no object is lost or left', async () => {
    const [one, two, three] = await Promise.all([8, 9, 10].map(async (n) => (await made(ids[n]!))!.sha256))
    await flip(one!)
    await rm(objectPath(two!))
    await flip(three!)
    await flip(ids[10]!)
    const { code, answer } = await verify()
    expect(code).toBe(1)
    expect(outcomes(answer)).toEqual([
      ...['10 derived thumbnail-256@1 remains', '10 raw remains'],
      ...['8 derived thumbnail-256@1 mended', '9 derived thumbnail-256@1 mended'],
    ])
    expect((await verify('--refetch')).code).toBe(0)
    const unkept = await sql(
      `select d.key from sluice.documents d, jsonb_array_elements(d.body -> 'derived') as entry
       where d.collection = 'images' and not exists (
         select from sluice.object_refs r where r.referrer_kind = 'document' and r.referrer_id = 'images/' || d.key
           and encode(r.sha256, 'hex') = entry ->> 'sha256')`,
      [],
    )
    expect(unkept).toEqual([])
  })
})
