/** The platform's HTTP API over the network. */
import { constants, openAsBlob, readFileSync } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type ErrorCode, errorTable, type Fault, messageOf, SluiceError } from '../errors.ts'
import type { ApiClient } from '../sdk/command.ts'

/** `<home>/server.json`, written by a server when it is ready and removed at its end. */
export interface ServerRecord {
  readonly url: string
  readonly pid: number
}

export function readServerRecord(home: string): ServerRecord | undefined {
  try {
    const record: unknown = JSON.parse(readFileSync(join(home, 'server.json'), 'utf8'))
    const { url, pid } = record as Partial<ServerRecord>
    return typeof url === 'string' && typeof pid === 'number' && isAlive(pid) ? { url, pid } : undefined
  } catch {
    return undefined
  }
}

/** Whether there is a process of that id, ours or not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'EPERM'
  }
}

export interface Client extends ApiClient {
  readonly url: string
  /** With headers of the caller's. */
  send<Answer = unknown>(
    method: string,
    path: string,
    body: unknown,
    headers: Readonly<Record<string, string>>,
  ): Promise<Answer>
}

/** @param url such as `http://127.0.0.1:8000`. Requests end when `signal` aborts. */
export function openClient(url: string, signal?: AbortSignal): Client {
  const ask = async (
    method: string,
    path: string,
    body: string | Blob | undefined,
    headers: Record<string, string>,
  ) => {
    const init = { method, headers: { accept: 'application/json', ...headers }, ...(signal ? { signal } : {}) }
    const response = await fetch(new URL(path, url), body === undefined ? init : { ...init, body }).catch((thrown) => {
      if (signal?.aborted) throw new SluiceError('CANCELLED', 'It was interrupted')
      const reason = messageOf((thrown as Error).cause ?? thrown)
      throw new SluiceError('UNAVAILABLE', `Nothing answers at ${url} (${reason}). Start it with: sluice dev`, {
        cause: thrown,
      })
    })
    return answerOf(response, url)
  }
  const send = (method: string, path: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
    body === undefined
      ? ask(method, path, undefined, headers)
      : ask(method, path, JSON.stringify(body), { 'content-type': 'application/json', ...headers })
  return {
    url,
    send: send as Client['send'],
    request: send as Client['request'],
    async upload<Answer>(method: string, path: string, file: string, contentType: string) {
      // What cannot be read is told here: the blob would say so in the middle of the request.
      const body = await readable(file).then(openAsBlob, (thrown) => {
        throw new SluiceError('USAGE', `${file} cannot be read: ${messageOf(thrown)}`)
      })
      return (await ask(method, path, body, { 'content-type': contentType })) as Answer
    },
  }
}

/** The path, if a file can be read there. */
async function readable(path: string): Promise<string> {
  await access(path, constants.R_OK)
  if (!(await stat(path)).isFile()) throw new Error('it is not a file')
  return path
}

async function answerOf(response: Response, url: string): Promise<unknown> {
  const text = await response.text()
  const isJson = /[/+]json\b/.test(response.headers.get('content-type') ?? '')
  if (response.ok && (isJson || text === '')) return text === '' ? undefined : JSON.parse(text)
  if (isJson) throw errorOf(JSON.parse(text), response.status)
  throw new SluiceError(
    'UNAVAILABLE',
    `What answers at ${url} (status ${response.status}) is not Sluice; name its port with --port`,
  )
}

function errorOf(
  problem: { code?: string; detail?: string; title?: string; errors?: readonly Fault[] },
  status: number,
): SluiceError {
  const known = Object.hasOwn(errorTable, problem.code ?? '')
  const code = known ? (problem.code as ErrorCode) : status === 404 ? 'NOT_FOUND' : status < 500 ? 'USAGE' : 'INTERNAL'
  return new SluiceError(code, problem.detail ?? problem.title ?? `status ${status}`, { faults: problem.errors ?? [] })
}

/** All items of a list, page by page, `most` at most. */
export async function listAll<Item>(client: ApiClient, path: string, most: number): Promise<Item[]> {
  const items: Item[] = []
  let cursor: string | null = null
  do {
    const join = path.includes('?') ? '&' : '?'
    const limit = Math.min(1_000, most - items.length)
    const at: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`
    const page: { items: Item[]; nextCursor: string | null } = await client.request(
      'GET',
      `${path}${join}limit=${limit}${at}`,
    )
    items.push(...page.items)
    cursor = page.nextCursor
  } while (cursor !== null && items.length < most)
  return items
}
