/** HTTP access to pictures and catalogs. */
import { type Documents, endpoint, problem, reply, SluiceError, z } from 'sluice'
import { catalogNamePattern, catalogNameRule } from '../catalog/catalog-name.ts'
import type { CatalogState } from '../catalog/catalog-state.ts'
import type { Picture, PictureFacts } from '../pictures/picture.ts'
import {
  catalogShape,
  pictureId,
  pictureStates,
  pictureWithImageShape,
  similarPictureShape,
  startedShape,
} from '../pictures/shapes.ts'
import { defaultDistance, distanceBetween } from '../pictures/similar.ts'
import { catalog as catalogWorkflow } from './catalog.ts'

const page = {
  limit: z.coerce.number().int().min(1).max(1_000).default(50).meta({ description: 'Items at most' }),
  cursor: z.string().max(500).optional().meta({ description: 'The nextCursor of the page before' }),
}
const pageOf = <Item extends z.ZodType>(item: Item) =>
  z.object({
    items: z.array(item).readonly(),
    nextCursor: z.string().nullable().meta({ description: 'null at the end' }),
  })

const pixels = z.coerce.number().int().min(1).max(100_000).optional()
const pictureQuery = z.strictObject({
  width: pixels.meta({ description: 'Pixels', example: 640 }),
  height: pixels.meta({ description: 'Pixels', example: 480 }),
  rawMimeType: z.string().max(100).optional().meta({ description: 'Of the raw picture', example: 'image/jpeg' }),
  state: z.enum(pictureStates).optional(),
  url: z.string().max(10_000).optional().meta({ description: 'One of its sources, as the catalog wrote it' }),
  catalog: z.string().max(200).normalize().optional().meta({ description: 'One of its sources is of this catalog' }),
  similarTo: pictureId.optional().meta({
    description:
      'An id: pictures that look like that one, by their perceptual hashes; advice only, and itself left out',
  }),
  distance: z.coerce
    .number()
    .int()
    .min(0)
    .max(64)
    .default(defaultDistance)
    .meta({ description: 'With similarTo: bits of 64 in which the hashes may differ' }),
  ...page,
})

export const listImages = endpoint('GET /api/v1/images', {
  summary: 'Pictures, in the order in which they were stored; without the images themselves',
  query: pictureQuery,
  reply: pageOf(similarPictureShape),
  async handle({ query: { limit, cursor, url, catalog, similarTo, distance, ...facts }, documents }) {
    const source = { ...(url === undefined ? {} : { url }), ...(catalog === undefined ? {} : { catalog }) }
    const where = { ...facts, ...(Object.keys(source).length === 0 ? {} : { sources: [source] }) }
    const pictures = documents<PictureFacts>('images')
    const asked = { limit, cursor: cursor ?? null, where }
    if (similarTo === undefined) return pictures.list(asked)
    const { perceptualHash: hash } = await factsOf(documents, similarTo)
    // A flat picture has no hash: nothing can be said of what looks like it.
    if (hash === null) return { items: [], nextCursor: null }
    const near = { field: 'perceptualHash', hash, distance }
    const { items, nextCursor } = await pictures.list({ ...asked, near })
    const others = items.filter(({ id }) => id !== similarTo)
    return {
      items: others.map((one) => ({ ...one, distance: distanceBetween(hash, one.perceptualHash as string) })),
      nextCursor,
    }
  },
})

const pictureParams = z.object({ id: pictureId })

export const getImage = endpoint('GET /api/v1/images/:id', {
  summary: 'A picture with all its facts and the grey image as base64',
  params: pictureParams,
  reply: pictureWithImageShape,
  async handle({ params, documents }) {
    const { image, ...facts } = await pictureOf(documents, params.id)
    return { ...facts, image: Buffer.from(image).toString('base64') }
  },
})

export const getImageBytes = endpoint('GET /api/v1/images/:id/image', {
  summary: 'The grey image: PNG bytes',
  type: 'image/png',
  params: pictureParams,
  async handle({ params, documents, headers: asked }) {
    const known = await factsOf(documents, params.id)
    const caching = cachingOf(known.imageSha256)
    if (isKnown(asked['if-none-match'], caching.etag)) return reply(304, undefined, caching)
    const { image, mimeType } = await pictureOf(documents, params.id)
    // Written by our own encoder from pixels alone.
    const headers = { ...caching, ...asBytesOf(mimeType), 'content-disposition': 'inline' }
    return reply(200, image, { ...headers, 'content-length': String(image.byteLength) })
  },
})

export const getRawImage = endpoint('GET /api/v1/images/:id/raw', {
  summary: 'The picture as it was fetched',
  type: 'image/*',
  params: pictureParams,
  async handle({ params, documents, objects, headers: asked }) {
    const { rawSha256, rawMimeType, bytes, state } = await factsOf(documents, params.id)
    if (state === 'corrupt') {
      problem(
        'NOT_FOUND',
        `The raw bytes of ${params.id} are damaged in the store; sluice verify --refetch asks for them`,
      )
    }
    const caching = cachingOf(rawSha256)
    if (isKnown(asked['if-none-match'], caching.etag)) return reply(304, undefined, caching)
    const raw = await objects.open(rawSha256)
    const headers = { ...caching, ...asBytesOf(rawMimeType), 'content-length': String(bytes) }
    return reply(200, raw, headers)
  },
})

const derivedParams = z.object({
  id: pictureId,
  name: z.string().max(100).meta({ description: 'Of the transform', example: 'thumbnail-256' }),
  version: z.coerce.number().int().min(1).max(1_000_000).meta({ example: 1 }),
})

export const getDerived = endpoint('GET /api/v1/images/:id/derived/:name/:version', {
  summary: 'What a further transform made of a picture',
  type: '*/*',
  params: derivedParams,
  async handle({ params: { id, name, version }, documents, objects, headers }) {
    const { derived } = await factsOf(documents, id)
    const entry = derived.find((one) => one.name === name && one.version === version)
    if (entry === undefined) return problem('NOT_FOUND', `The picture ${id} has nothing of ${name}@${version}`)
    const caching = cachingOf(entry.sha256)
    if (isKnown(headers['if-none-match'], caching.etag)) return reply(304, undefined, caching)
    return reply(200, await objects.open(entry.sha256), { ...caching, ...asBytesOf(entry.mimeType) })
  },
})

/**
 * Whatever else the bytes may be (a page, a script, an archive), they are a picture to a browser and nothing else: our own
 * content type, which it may not guess again, nothing in it runs, and what strangers made is saved rather than opened.
 */
const asBytesOf = (mimeType: string) => ({
  'content-type': mimeType,
  'content-disposition': 'attachment',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'; sandbox",
  'x-content-type-options': 'nosniff',
})

const cachingOf = (sha256: string) => ({ etag: `"${sha256}"`, 'cache-control': 'private, max-age=31536000, immutable' })

function isKnown(ifNoneMatch: string | undefined, etag: string): boolean {
  const tags = ifNoneMatch?.split(',').map((tag) => tag.trim().replace(/^W\//, ''))
  return tags !== undefined && (tags.includes(etag) || tags.includes('*'))
}

type Documented = <Document extends object>(collection: string) => Documents<Document>

async function factsOf(documents: Documented, id: string): Promise<PictureFacts> {
  return (await documents<PictureFacts>('images').get(id)) ?? problem('NOT_FOUND', `There is no picture ${id}`)
}

async function pictureOf(documents: Documented, id: string): Promise<Picture> {
  const found = await documents<Picture>('images').get(id, { bytes: true })
  return found ?? problem('NOT_FOUND', `There is no picture ${id}`)
}

const catalogName = z
  .string()
  .normalize()
  .regex(catalogNamePattern, `is not a name for a catalog; allowed are ${catalogNameRule}`)
  .meta({ description: `Of the catalog: ${catalogNameRule}`, example: 'birds' })

/** A flag of a query, which is text. */
const flag = z.enum(['true', 'false']).default('false')

const maxUploadBytes = 1_073_741_824

const urlList = z.strictObject({
  name: catalogName,
  urls: z
    .array(
      z
        .string()
        .min(1)
        .max(8_192)
        .regex(/^[^\r\n]*$/, 'must be one line'),
    )
    .min(1)
    .max(100_000)
    .meta({ example: ['https://picsum.photos/640/480', 'https://picsum.photos/320/240'] }),
  refresh: z.boolean().default(false).meta({ description: 'Ask again for URLs that are known' }),
})

export const addCatalog = endpoint('POST /api/v1/catalogs', {
  summary:
    'Adds a catalog, or another version of one: JSON with its URLs, or the text file itself with ?name=. The same Idempotency-Key starts one run.',
  query: z.strictObject({
    name: catalogName.optional(),
    refresh: flag.meta({ description: 'Of an upload: ask again for URLs that are known' }),
  }),
  body: urlList.optional(),
  upload: { types: ['text/plain', 'application/octet-stream'], maxBytes: maxUploadBytes },
  reply: startedShape,
  status: 202,
  async handle({ query, body, upload, objects, headers, start }) {
    const name = body?.name ?? query.name
    if (name === undefined) return missing('/query/name', 'is needed with an upload')
    const content = body ? Buffer.from(`${body.urls.join('\n')}\n`) : upload
    if (content === undefined) return missing('/body', 'is needed: JSON with urls, or a text file')
    const { sha256, bytes } = await objects.put(content)
    const refresh = body?.refresh ?? query.refresh === 'true'
    const key = headers['idempotency-key']
    const options = key === undefined ? {} : { idempotencyKey: key }
    const { runId } = await start(catalogWorkflow, { name, sha256, refresh }, options)
    return reply(202, { runId, name, sha256, bytes }, { location: `/api/v1/runs/${runId}` })
  },
})

function missing(where: string, message: string): never {
  throw new SluiceError('INVALID_INPUT', `${where} ${message}`, { faults: [{ where, message }] })
}

export const listCatalogs = endpoint('GET /api/v1/catalogs', {
  summary: 'Catalogs, in the order in which they first came',
  query: z.strictObject(page),
  reply: pageOf(catalogShape),
  handle: ({ query, documents }) =>
    documents<CatalogState>('catalogs').list({ limit: query.limit, cursor: query.cursor ?? null }),
})

export const getCatalog = endpoint('GET /api/v1/catalogs/:name', {
  summary: 'A catalog: its version, and how many lines of it were received',
  params: z.object({ name: catalogName }),
  reply: catalogShape,
  async handle({ params: { name }, documents }) {
    const found = await documents<CatalogState>('catalogs').get(name)
    return found ?? problem('NOT_FOUND', `There is no catalog ${JSON.stringify(name)}`)
  },
})
