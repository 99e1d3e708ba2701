/** Mending and deriving again on a real store: which objects are kept, which are let go, and what cannot be mended. */
import { createHash } from 'node:crypto'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { derivePage } from '../apps/images/care/derive.ts'
import { mend, replaceDerived } from '../apps/images/care/mend.ts'
import { imageFacts, rawFacts } from '../apps/images/pictures/made.ts'
import { addSource, type Picture, type PictureFacts } from '../apps/images/pictures/picture.ts'
import { inspect } from '../apps/images/transforms/inspect.ts'
import { main } from '../apps/images/transforms/registry.ts'
import type { ImageTransform } from '../apps/images/transforms/transform.ts'
import { capabilitiesOver, OpenConnections } from '../src/app/capabilities/capabilities.ts'
import { directCalls } from '../src/app/capabilities/direct-calls.ts'
import { parseConnections } from '../src/connectors/connections.ts'
import { parseSecrets } from '../src/connectors/secrets.ts'
import { openFiles } from '../src/objects/files.ts'
import type { ObjectStore } from '../src/ports/objects.ts'
import type { Capabilities } from '../src/sdk/context.ts'
import { sweepObjects } from '../src/store/objects.ts'
import { type TestDatabase, testDatabase } from './database.ts'

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const nothing = () => {}

let test: TestDatabase
let folder: string
let store: ObjectStore
let context: Capabilities

beforeAll(async () => {
  test = await testDatabase()
  folder = await mkdtemp(join(tmpdir(), 'sluice-mend-'))
  store = openFiles(folder)
  const parts = { connections: parseConnections({}, {}), secrets: parseSecrets({}), claimant: 'test' }
  const calls = directCalls({ db: test.db, store, ...parts })
  const log = { debug: nothing, info: nothing, warn: nothing, error: nothing }
  const connections = new OpenConnections(calls.connectionSettings)
  context = capabilitiesOver({ calls, store, connections, projectDir: folder, log }, new AbortController().signal)
})
afterAll(async () => {
  await test.drop()
  await rm(folder, { recursive: true })
})

const thumb = (version = 1): ImageTransform => ({
  name: 'thumb',
  version,
  mimeType: 'image/webp',
  apply: () => Promise.reject(new Error('it is not asked')),
})

/** A picture in the store, as the stream writes it, with these things derived of it. */
async function stored(width: number, derived: Record<string, Buffer> = {}): Promise<PictureFacts> {
  const raw = await sharp({ create: { width, height: 30, channels: 3, background: 'teal' } })
    .jpeg()
    .toBuffer()
  const facts = await inspect(raw)
  const { sha256: id } = await context.objects.put(raw)
  const entries = await Promise.all(
    Object.entries(derived).map(async ([name, bytes]) => {
      const [word, version] = name.split('@') as [string, string]
      const { sha256: hash } = await context.objects.put(bytes)
      return { name: word, version: Number(version), mimeType: 'image/webp', sha256: hash }
    }),
  )
  const picture = {
    id,
    ...imageFacts(main, await main.apply(raw, facts)),
    ...rawFacts(facts),
    ...{ rawSha256: id, derived: entries, sources: [], sourcesOmitted: 0, insertedAt: '', fetchedAt: '' },
    http: { url: 'http://nowhere.test/' } as Picture['http'],
  }
  await context
    .documents<Picture>('images')
    .put(id, picture, { objects: [id, ...entries.map(({ sha256: hash }) => hash)] })
  return pictureOf(id)
}

const pictureOf = async (id: string) => (await context.documents<PictureFacts>('images').get(id)) as PictureFacts

/** What is there of these after everything that nobody needs was swept. */
async function kept(...hashes: string[]): Promise<boolean[]> {
  await test.db.script("update sluice.object_claims set expires_at = now() - interval '1 day'")
  await test.db.script("update sluice.objects set idle_since = now() - interval '1 day' where idle_since is not null")
  await sweepObjects(test.db, store, { graceMs: 1_000 })
  return Promise.all(hashes.map(async (hash) => (await store.stat(hash)) !== undefined))
}

describe('what is made again', () => {
  it('replaces what was there of the same name and version, which is let go', async () => {
    const [old, other] = [Buffer.from('old'), Buffer.from('other version')]
    const picture = await stored(41, { 'thumb@1': old, 'thumb@2': other })
    const made = { bytes: Buffer.from('new'), width: 1, height: 1 }
    // A line leads to the picture meanwhile.
    await context
      .documents<PictureFacts>('images')
      .change(picture.id, (now) => addSource(now, { url: 'u', catalog: 'c', line: 1 }))
    expect((await replaceDerived(context, picture, thumb(), made)).how).toContain('other bytes than were recorded')
    const after = await pictureOf(picture.id)
    expect(after.derived.map(({ sha256: hash }) => hash)).toEqual([sha256(made.bytes), sha256(other)])
    expect(after.sources).toHaveLength(1)
    expect(await kept(picture.id, sha256(made.bytes), sha256(other), sha256(old))).toEqual([true, true, true, false])
    // Once more changes nothing.
    await replaceDerived(context, after, thumb(), made)
    expect(await pictureOf(picture.id)).toEqual(after)
    expect(await kept(sha256(made.bytes))).toEqual([true])
  })

  it('keeps an object that another entry, or another picture, is as well', async () => {
    const same = Buffer.from('the same')
    const picture = await stored(42, { 'thumb@1': same, 'thumb@2': same })
    const neighbour = await stored(43, { 'thumb@1': same })
    const made = { bytes: Buffer.from('newer'), width: 1, height: 1 }
    await replaceDerived(context, picture, thumb(1), made)
    expect(await kept(sha256(same))).toEqual([true])
    await replaceDerived(context, await pictureOf(picture.id), thumb(2), made)
    expect(await kept(sha256(same))).toEqual([true])
    await replaceDerived(context, neighbour, thumb(1), made)
    expect(await kept(sha256(same), sha256(made.bytes))).toEqual([false, true])
  })
})

describe('mending', () => {
  it('of what a transform made that is no longer registered says so, and leaves it', async () => {
    const picture = await stored(44, { 'thumb@1': Buffer.from('thumb of long ago') })
    const damage = { id: picture.id, part: 'derived thumb@1', found: 'it is missing' }
    expect(await mend(context, [damage])).toEqual([
      { ...damage, outcome: 'remains', how: 'no transform is registered as thumb@1' },
    ])
    expect(await pictureOf(picture.id)).toEqual(picture)
  })

  it('of a document that names other raw bytes goes by its id', async () => {
    const picture = await stored(45)
    const wrong = 'f'.repeat(64)
    await context.documents<PictureFacts>('images').change(picture.id, (now) => ({ ...now, rawSha256: wrong }))
    const damage = { id: picture.id, part: 'document', found: `it names ${wrong}` }
    expect(await mend(context, [damage])).toMatchObject([{ outcome: 'mended' }])
    expect(await pictureOf(picture.id)).toEqual(picture)
  })

  it('makes an image whose recorded hash was damaged, and says that it is another', async () => {
    const picture = await stored(46)
    const wrong = { ...picture, imageSha256: 'e'.repeat(64) }
    await context.documents<PictureFacts>('images').change(picture.id, () => wrong)
    const [outcome] = await mend(context, [{ id: picture.id, part: 'image', found: 'other' }])
    expect(outcome).toMatchObject({ outcome: 'mended', how: expect.stringContaining('other bytes than were recorded') })
    expect(await pictureOf(picture.id)).toEqual(picture)
  })

  it('marks damaged raw bytes once, keeps what is merged meanwhile, and takes them as whole when they are', async () => {
    const picture = await stored(47)
    const path = join(folder, picture.id.slice(0, 2), picture.id)
    const raw = await store.read(picture.id)
    await chmod(path, 0o600)
    await writeFile(path, raw.subarray(0, -1))
    const damage = { id: picture.id, part: 'raw', found: 'it has other bytes' }
    for (let times = 0; times < 2; times += 1)
      expect(await mend(context, [damage])).toMatchObject([{ outcome: 'remains' }])
    const marked = await pictureOf(picture.id)
    expect(marked).toEqual({ ...picture, state: 'corrupt', warning: 'raw bytes: it has other bytes' })
    // A refetch that says the same, but did not put the bytes, is not believed.
    const lies = async () => ({ same: true, text: 'fetched again' })
    expect(await mend(context, [damage], lies)).toMatchObject([{ outcome: 'remains' }])
    await writeFile(path, raw)
    expect(await mend(context, [damage])).toMatchObject([{ outcome: 'mended', how: 'it is whole again' }])
    expect(await pictureOf(picture.id)).toEqual(picture)
  })

  it('of a picture that is gone has nothing to do', async () => {
    expect(await mend(context, [{ id: 'a'.repeat(64), part: 'raw', found: 'it is missing' }])).toMatchObject([
      { outcome: 'mended', how: 'the document is gone' },
    ])
  })
})

it('deriving passes over what is damaged, and goes on', async () => {
  const broken = await stored(48)
  await rm(join(folder, broken.id.slice(0, 2), broken.id))
  const again = `${main.name}@${main.version}`
  const page = await derivePage(context, null, again)
  const all = await context.documents('images').count()
  expect(page).toMatchObject({ pictures: all, made: 0, same: all - 1, failed: 1, nextCursor: null })
  expect(page.failures[0]).toContain(broken.id)
})
