/**
 * A server like picsum.photos on loopback, for demo, tests and benchmarks.
 *
 * `GET /W/H` answers a JPEG of that size, 1 to 5000 pixels a side; `?seed=` gives other pictures of the same size,
 * `&grayscale` grey ones. Everything else, `/error/..` and larger sizes among it, is 404. `POST /prepare` takes URLs or
 * paths, one per line, and makes their pictures beforehand. `GET /asked` says when each URL with `flaky` was asked, in
 * milliseconds since the epoch.
 *
 * Switches in the query, for tests (they are no part of the picture):
 * - `slow=30s` (or `ms`) waits before answering
 * - `status=429` answers with that status and no picture; `retry-after=3` (or a date) adds the header
 * - `redirect=URL` answers 302 to it
 * - `truncate=60` announces the whole length and closes the connection after that many percent
 * - `cut=60` sends a well-formed answer of only that many percent of the JPEG
 * - `type=html` answers a page; `type=lie` the same page, said to be a JPEG; `type=empty` a JPEG of no bytes;
 *   `type=huge` a PNG of 65 bytes that says it has 50,000 x 50,000 pixels
 * - `length=N` announces N bytes, however many the picture has, and closes
 * - `endless` sends zeros without end and without a length
 * - `drip=50` (milliseconds) sends a byte of the picture that often
 * - `coding=gzip` (`deflate`, `br`, `zstd`) sends the picture in that content coding
 * - `bomb=gzip` (the same) sends 64 MiB of zeros in it, a few kilobytes
 * - `redirects=3` answers so many redirects one after the other; `redirects` alone one to itself
 * - `headers` sends 100,000 headers, `garbage` what is not HTTP, `reset` resets the connection
 * - `flaky=3` answers `status` (503 unless it is given) and `retry-after` to the first three requests of exactly this URL,
 *   and to the others as if there were neither
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { answeredBadly, hugePng, sentBadly } from './hostile.ts'
import { maxSide, type PictureRequest } from './picture.ts'
import { PictureCache } from './picture-cache.ts'

export interface OriginOptions {
  /** 0, the default, takes any free port. */
  readonly port?: number
  /** Bytes of pictures kept in memory; 256 MiB by default. */
  readonly cacheBytes?: number
}

export interface Origin {
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  /** Makes the pictures of these URLs or paths beforehand; gives how many were pictures and what the cache now holds. */
  prepare(lines: readonly string[]): Promise<Prepared>
  close(): Promise<void>
}

export interface Prepared {
  readonly prepared: number
  readonly held: { pictures: number; bytes: number }
}

const maxPrepareBytes = 16 * 2 ** 20

export async function startOrigin({ port = 0, cacheBytes = 256 * 2 ** 20 }: OriginOptions = {}): Promise<Origin> {
  const state: State = { cache: new PictureCache(cacheBytes), asked: new Map() }
  const server = createServer((request, response) => {
    answer(state, request, response).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(500)
      response.end(`${error}\n`)
    })
  })
  await listen(server, port)
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    prepare: (lines) => prepare(state.cache, lines),
    close: () => {
      server.closeAllConnections()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

interface State {
  readonly cache: PictureCache
  /** When each URL with `flaky` was asked. */
  readonly asked: Map<string, number[]>
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
}

async function answer(state: State, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://127.0.0.1')
  if (request.method === 'POST' && url.pathname === '/prepare') {
    const prepared = await prepare(state.cache, (await bodyOf(request)).split('\n'))
    response.setHeader('content-type', 'application/json').end(`${JSON.stringify(prepared)}\n`)
    return
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD' }).end()
    return
  }
  if (url.pathname === '/asked') {
    response.setHeader('content-type', 'application/json').end(JSON.stringify(Object.fromEntries(state.asked)))
    return
  }
  const slow = /^(\d+)(ms|s)$/.exec(url.searchParams.get('slow') ?? '')
  if (slow) await pause(Number(slow[1]) * (slow[2] === 's' ? 1_000 : 1), response)
  if (response.destroyed || switched(state, url, request.url ?? '', response)) return
  const picture = pictureRequest(url)
  if (picture) await sendPicture(state, url, picture, request, response)
  else response.writeHead(404, { 'content-type': 'text/plain' }).end('Not Found\n')
}

const page = '<!doctype html><title>No picture</title>\n'
/** What comes in place of the picture, by `type`. */
const bodies: ReadonlyMap<string, { readonly type: string; readonly body: string | Buffer }> = new Map<
  string,
  { readonly type: string; readonly body: string | Buffer }
>([
  ['html', { type: 'text/html', body: page }],
  ['lie', { type: 'image/jpeg', body: page }],
  ['empty', { type: 'image/jpeg', body: '' }],
  ['huge', { type: 'image/png', body: hugePng() }],
])

/** Whether a switch took the answer over. */
function switched(state: State, url: URL, key: string, response: ServerResponse): boolean {
  const given = url.searchParams
  const status = statusOf(state, given, key)
  const retryAfter = given.get('retry-after')
  if (retryAfter !== null && status !== 200) response.setHeader('retry-after', retryAfter)
  const redirect = given.get('redirect')
  const instead = bodies.get(given.get('type') ?? '')
  if (status !== 200) response.writeHead(status, { 'content-type': 'text/plain' }).end(`status ${status}\n`)
  else if (redirect !== null) response.writeHead(302, { location: redirect }).end()
  else if (instead !== undefined) response.writeHead(200, { 'content-type': instead.type }).end(instead.body)
  else return answeredBadly(url, response)
  return true
}

function statusOf(state: State, given: URLSearchParams, key: string): number {
  const flaky = Number(given.get('flaky') ?? 0)
  if (flaky === 0) return Number(given.get('status') ?? 200)
  const asked = [...(state.asked.get(key) ?? []), Date.now()]
  state.asked.set(key, asked)
  return asked.length <= flaky ? Number(given.get('status') ?? 503) : 200
}

async function sendPicture(
  state: State,
  url: URL,
  wanted: PictureRequest,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { bytes, etag } = await state.cache.get(wanted)
  const part = (name: string) => Math.floor((bytes.length * Number(url.searchParams.get(name) ?? 100)) / 100)
  if (request.method !== 'HEAD' && sentBadly(url.searchParams, bytes, response)) return
  const sent = bytes.subarray(0, part('cut'))
  response.writeHead(200, {
    'content-type': 'image/jpeg',
    'content-length': sent.length,
    'cache-control': 'public, max-age=2592000',
    etag,
  })
  if (request.method === 'HEAD') response.end()
  else if (url.searchParams.has('truncate')) {
    response.write(bytes.subarray(0, part('truncate')), () => response.destroy())
  } else response.end(sent)
}

/** The picture that a URL means, or `undefined` for what is not found. */
function pictureRequest(url: URL): PictureRequest | undefined {
  const size = /^\/(\d{1,4})\/(\d{1,4})$/.exec(url.pathname)
  const [width, height] = [Number(size?.[1] ?? 0), Number(size?.[2] ?? 0)]
  if (width < 1 || height < 1 || width > maxSide || height > maxSide) return undefined
  const given = url.searchParams
  return { width, height, seed: given.get('seed') ?? '', grayscale: given.has('grayscale') }
}

async function prepare(cache: PictureCache, lines: readonly string[]): Promise<Prepared> {
  const wanted = lines.flatMap((line) => {
    const url = URL.parse(line.trim(), 'http://127.0.0.1')
    const picture = url && pictureRequest(url)
    return picture ? [picture] : []
  })
  await Promise.all(wanted.map((picture) => cache.get(picture)))
  return { prepared: wanted.length, held: cache.held }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxPrepareBytes) throw new Error(`a list to prepare is at most ${maxPrepareBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/** Waits, but not for a client that has left. */
function pause(ms: number, response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    response.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}
