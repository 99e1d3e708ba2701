import { createHash } from 'node:crypto'
import { connection, documents, type FetchResponse, SluiceError, type StepContext, stream } from 'sluice'
import { hostOf, urlFault } from '../catalog/catalog-url.ts'
import { addSource, type Derived, type Picture } from '../pictures/picture.ts'
import { ImageError } from '../transforms/image-error.ts'
import { type ImageFacts, inspect } from '../transforms/inspect.ts'
import { further, main } from '../transforms/registry.ts'
import type { ImageTransform } from '../transforms/transform.ts'
import { type ImageUrl, imageUrls } from './topics.ts'

// Apart in the bundle too, so that the threads, which load that part again, load nothing else.
const { threaded } = await import('../transforms/threads.ts')

type Context = StepContext<ImageUrl>

const web = connection('web', 'fetch')

function validateUrl({ url }: ImageUrl, context: Context): string {
  const fault = urlFault(url)
  return fault === undefined ? url : context.reject('malformed', fault)
}

interface Fetched {
  readonly response: FetchResponse
  readonly raw: Buffer
  readonly facts: ImageFacts
}

/** Only what is a picture by its header goes on. */
async function fetchImage(url: string, context: Context): Promise<Fetched> {
  const response = await context
    .connection(web)
    .get(url)
    .catch((thrown: unknown) => refuse(thrown, context))
  checkStatus(response, context)
  const raw = Buffer.from(response.body.buffer, response.body.byteOffset, response.body.byteLength)
  const facts = await inspect(raw).catch((thrown: unknown) => refuse(thrown, context))
  return { response, raw, facts }
}

/** What the line itself is to blame for is rejected; anything else may go better another time. */
function refuse(thrown: unknown, context: Context): never {
  if (thrown instanceof ImageError) context.reject(thrown.reason, thrown.detail)
  if (thrown instanceof SluiceError) {
    if (thrown.code === 'ADDRESS_BLOCKED') context.reject('blocked by policy', thrown.message)
    if (thrown.code === 'BODY_TOO_LARGE') context.reject('too large', thrown.message)
    if (thrown.code === 'INVALID_INPUT') context.reject('malformed', thrown.message)
  }
  throw thrown
}

/** Statuses that ask for patience; beside all of 500 and over. */
const passing: ReadonlySet<number> = new Set([408, 425, 429])

function checkStatus({ status, url, retryAfterMs }: FetchResponse, context: Context): void {
  if (status >= 200 && status < 300) return
  if (status < 500 && !passing.has(status)) context.reject('http error', `status ${status} from ${url}`)
  throw new SluiceError(
    'FETCH_FAILED',
    `status ${status} from ${url}`,
    retryAfterMs === undefined ? {} : { retryAfterMs },
  )
}

interface Kept extends Fetched {
  readonly rawSha256: string
}

async function keepRaw(fetched: Fetched, context: Context): Promise<Kept> {
  return { ...fetched, rawSha256: (await context.objects.put(fetched.raw)).sha256 }
}

type Row = Omit<Picture, 'derived'> & { readonly raw: Buffer; readonly facts: ImageFacts }

/** The step that makes `image`. */
function transform(by: ImageTransform) {
  return async function transform({ response, raw, facts, rawSha256 }: Kept, context: Context): Promise<Row> {
    const made = await by.apply(raw, facts).catch((thrown: unknown) => refuse(thrown, context))
    const { url, catalog, line } = context.record
    return {
      raw,
      facts,
      id: rawSha256,
      image: made.bytes,
      mimeType: by.mimeType,
      rawMimeType: facts.mimeType,
      width: made.width,
      height: made.height,
      bytes: facts.bytes,
      sources: [{ url, catalog, line }],
      sourcesOmitted: 0,
      insertedAt: new Date().toISOString(),
      fetchedAt: new Date(response.fetchedAt).toISOString(),
      transform: { name: by.name, version: by.version },
      rawSha256,
      imageSha256: createHash('sha256').update(made.bytes).digest('hex'),
      perceptualHash: made.perceptualHash ?? null,
      http: httpFacts(response),
      state: made.warning === undefined ? 'ok' : 'warning',
      warning: made.warning ?? null,
    }
  }
}

function httpFacts({ status, url, redirects, headers, timings }: FetchResponse): Picture['http'] {
  return {
    status,
    url,
    redirects,
    contentType: headers['content-type'] ?? null,
    etag: headers.etag ?? null,
    lastModified: headers['last-modified'] ?? null,
    totalMs: Math.round(timings.totalMs),
    firstByteMs: Math.round(timings.firstByteMs),
  }
}

async function derive({ raw, facts, ...row }: Row, context: Context): Promise<Picture> {
  const derived: Derived[] = []
  for (const { name, version, mimeType, apply } of further.map(threaded)) {
    const made = await apply(raw, facts).catch((thrown: unknown) => refuse(thrown, context))
    derived.push({ name, version, mimeType, sha256: (await context.objects.put(made.bytes)).sha256 })
  }
  return { ...row, derived }
}

/** Every line of every catalog, to its picture. */
export const images = stream('images', {
  from: imageUrls,
  id: ({ catalog, generation, line }) => [catalog, generation, line],
  key: ({ url }) => url,
  distinct: ({ refresh }) => !refresh,
  concurrency: { total: 64, per: ({ url }) => hostOf(url), each: 8 },
  steps: (records) =>
    records
      .step(validateUrl)
      .step(fetchImage)
      .step(keepRaw)
      .step(transform(threaded(main)))
      .step(derive),
  to: documents('images', { key: 'id', merge: addSource }),
  retry: { attempts: 5, base: '1s', max: '5m' },
  timeout: '3m',
})
