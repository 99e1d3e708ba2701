/** Answers that no honest server gives; what each switch means stands in `origin.ts`. */
import type { ServerResponse } from 'node:http'
import { brotliCompressSync, constants, crc32, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'

const codings: ReadonlyMap<string, (bytes: Buffer) => Buffer> = new Map<string, (bytes: Buffer) => Buffer>([
  ['gzip', gzipSync],
  ['deflate', deflateSync],
  // the default quality takes seconds for a bomb
  ['br', (bytes) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 3 } })],
  ['zstd', zstdCompressSync],
])

/** Zeros in a bomb. */
const bombBytes = 64 * 2 ** 20
const bombs = new Map<string, Buffer>()

/** A PNG whose header says 50,000 x 50,000 pixels of RGB, which would be 7.5 GB, and that has none. */
export function hugePng(): Buffer {
  const header = Buffer.from([0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50, 8, 2, 0, 0, 0])
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1')
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync('')),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

function chunk(type: string, data: Buffer): Buffer {
  const named = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)]
  length.writeUInt32BE(data.length)
  sum.writeUInt32BE(crc32(named))
  return Buffer.concat([length, named, sum])
}

/** Answers in place of a picture, if a switch says so. */
export function answeredBadly(url: URL, response: ServerResponse): boolean {
  const given = url.searchParams
  const { socket } = response
  const bomb = given.get('bomb')
  if (socket === null) return false
  if (given.has('reset')) socket.resetAndDestroy()
  else if (given.has('garbage')) socket.end('SSH-2.0-no web server\r\n')
  else if (given.has('headers')) socket.end(head(...Array.from({ length: 100_000 }, (_, index) => `X-${index}: y`)))
  else if (given.has('endless')) pour(response)
  else if (given.has('redirects')) redirect(url, response)
  else if (bomb !== null) send(response, bomb, bombOf(bomb))
  else return false
  return true
}

/** Sends a picture in another way than it should, if a switch says so. */
export function sentBadly(given: URLSearchParams, picture: Buffer, response: ServerResponse): boolean {
  const { socket } = response
  const coding = given.get('coding')
  if (socket === null) return false
  if (given.has('length')) {
    // Node would correct it
    socket.write(head('Content-Type: image/jpeg', `Content-Length: ${given.get('length')}`))
    socket.end(picture)
  } else if (given.has('drip')) drip(picture, Number.parseInt(given.get('drip') ?? '', 10) || 1_000, response)
  else if (coding !== null) send(response, coding, codings.get(coding)?.(picture) ?? picture)
  else return false
  return true
}

const head = (...headers: string[]): string => ['HTTP/1.1 200 OK', ...headers, '', ''].join('\r\n')

function send(response: ServerResponse, coding: string, body: Buffer): void {
  response.writeHead(200, { 'content-type': 'image/jpeg', 'content-encoding': coding, 'content-length': body.length })
  response.end(body)
}

function bombOf(coding: string): Buffer {
  let bomb = bombs.get(coding)
  if (!bomb) {
    bomb = codings.get(coding)?.(Buffer.alloc(bombBytes)) ?? Buffer.alloc(0)
    bombs.set(coding, bomb)
  }
  return bomb
}

/** Zeros for as long as they are taken. */
function pour(response: ServerResponse): void {
  const piece = Buffer.alloc(65_536)
  const more = () => {
    while (!response.destroyed && response.write(piece)) {}
  }
  response.writeHead(200, { 'content-type': 'image/jpeg' })
  response.on('drain', more)
  more()
}

/** A byte every so many milliseconds. */
function drip(picture: Buffer, ms: number, response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'image/jpeg', 'content-length': picture.length })
  let sent = 0
  const timer = setInterval(() => {
    response.write(picture.subarray(sent, sent + 1))
    sent += 1
    if (sent === picture.length) response.end()
  }, ms)
  response.once('close', () => clearInterval(timer))
}

/** On to the same with one redirect less; to itself for ever when no number is given. */
function redirect(url: URL, response: ServerResponse): void {
  const left = Number(url.searchParams.get('redirects'))
  const next = new URL(url)
  if (left > 1) next.searchParams.set('redirects', String(left - 1))
  else if (left === 1) next.searchParams.delete('redirects')
  response.writeHead(302, { location: next.pathname + next.search }).end()
}
