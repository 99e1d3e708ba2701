import { connection, documents, type FetchResponse, SluiceError, type StepContext, stream } from 'sluice'
import { hostOf, urlFault } from '../catalog/catalog-url.ts'
import { keyOf } from '../catalog/record-id.ts'
import { derivedOf, imageFacts, rawFacts } from '../pictures/made.ts'
import { addSource, type Picture } from '../pictures/picture.ts'
import type { Turned } from '../transforms/decoders.ts'
import { ImageError } from '../transforms/image-error.ts'
import { further, main, registered } from '../transforms/registry.ts'
import { type ImageUrl, imageUrls } from './topics.ts'

// Apart in the bundle too, so that the decoders, which load that part again, load nothing else.
const { turn } = await import('../transforms/decoders.ts')

type Context = StepContext<ImageUrl>

const web = connection('web', 'fetch')

function validateUrl({ url }: ImageUrl, context: Context): string {
  const fault = urlFault(url)
  return fault === undefined ? url : context.reject('malformed', fault)
}

async function fetchImage(url: string, context: Context): Promise<FetchResponse> {
  const response = await context
    .connection(web)
    .get(url, { accept: 'image/*,*/*;q=0.1' })
    .catch((thrown: unknown) => refuse(thrown, context))
  checkStatus(response, context)
  return response
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

interface Made extends Turned {
  readonly response: FetchResponse
}

/** What is no picture, or a broken one, ends here: none of its bytes are kept. */
async function transform(response: FetchResponse, context: Context): Promise<Made> {
  const turned = await turn(response.body, registered, context.signal).catch((thrown: unknown) =>
    refuse(thrown, context),
  )
  return { response, ...turned }
}

/** Keeps the raw bytes, and what the further transforms made; the document of the two and of `image`. */
async function keep({ response, facts, made: [image, ...rest] }: Made, context: Context): Promise<Picture> {
  const [raw, ...others] = await Promise.all(
    [response.body, ...rest.map(({ bytes }) => bytes)].map(context.objects.put),
  )
  const derived = others.map((object, at) => derivedOf(further[at]!, object))
  const at = { insertedAt: new Date().toISOString(), fetchedAt: new Date(response.fetchedAt).toISOString() }
  const { url, catalog, line } = context.record
  return {
    id: raw!.sha256,
    ...imageFacts(main, image!),
    ...rawFacts(facts),
    sources: [{ url, catalog, line }],
    sourcesOmitted: 0,
    ...at,
    rawSha256: raw!.sha256,
    derived,
    http: httpFacts(response),
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

/** Every line of every catalog, to its picture. */
export const images = stream('images', {
  from: imageUrls,
  id: ({ catalog, generation, line }) => [catalog, generation, line],
  key: ({ url }) => keyOf(url),
  distinct: ({ refresh }) => !refresh,
  concurrency: { total: 64, per: ({ url }) => hostOf(url), each: 8 },
  steps: (records) => records.step(validateUrl).step(fetchImage).step(transform).step(keep),
  to: documents('images', { key: 'id', merge: addSource }),
  retry: { attempts: 5, base: '1s', max: '5m' },
  timeout: '3m',
})
