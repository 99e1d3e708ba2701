/** HTTP access to pictures and catalogs. */
import { type Documents, endpoint, problem, reply, SluiceError, z } from 'sluice'
import { catalogNamePattern, catalogNameRule } from '../catalog/catalog-name.ts'
import type { CatalogState } from '../catalog/catalog-state.ts'
import type { Picture, PictureFacts } from '../pictures/picture.ts'
import { catalogShape, pictureShape, pictureWithImageShape, startedShape } from '../pictures/shapes.ts'
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
  state: z.enum(['ok', 'warning']).optional(),
  url: z.string().max(10_000).optional().meta({ description: 'One of its sources, as the catalog wrote it' }),
  catalog: z.string().max(200).optional().meta({ description: 'One of its sources is of this catalog' }),
  ...page,
})

export const listImages = endpoint('GET /api/v1/images', {
  summary: 'Pictures, in the order in which they were stored; without the images themselves',
  query: pictureQuery,
  reply: pageOf(pictureShape),
  handle({ query: { limit, cursor, url, catalog, ...facts }, documents }) {
    const source = { ...(url === undefined ? {} : { url }), ...(catalog === undefined ? {} : { catalog }) }
    const where = { ...facts, ...(Object.keys(source).length === 0 ? {} : { sources: [source] }) }
    return documents<PictureFacts>('images').list({ limit, cursor: cursor ?? null, where })
  },
})

const pictureParams = z.object({
  id: z
    .string()
    .regex(/^[0-9a-f]{64}$/, 'is not an id: 64 lower-case hex digits')
    .meta({
      description: 'sha256 of the raw bytes',
      example: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
    }),
})

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
  async handle({ params, documents, headers }) {
    const known = await factsOf(documents, params.id)
    const caching = cachingOf(known.imageSha256)
    if (isKnown(headers['if-none-match'], caching.etag)) return reply(304, undefined, caching)
    const { image, mimeType } = await pictureOf(documents, params.id)
    return reply(200, image, { ...caching, 'content-type': mimeType, 'content-length': String(image.byteLength) })
  },
})

export const getRawImage = endpoint('GET /api/v1/images/:id/raw', {
  summary: 'The picture as it was fetched',
  type: 'image/*',
  params: pictureParams,
  async handle({ params, documents, objects, headers }) {
    const { rawSha256, rawMimeType, bytes } = await factsOf(documents, params.id)
    const caching = cachingOf(rawSha256)
    if (isKnown(headers['if-none-match'], caching.etag)) return reply(304, undefined, caching)
    const raw = await objects.open(rawSha256)
    return reply(200, raw, { ...caching, 'content-type': rawMimeType, 'content-length': String(bytes) })
  },
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
