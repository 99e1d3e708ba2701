import { type ErrorCode, SluiceError } from '../errors.ts'
import type { Capabilities } from './context.ts'
import type { Schema } from './schema.ts'
import type { Workflow } from './workflow.ts'

export interface EndpointRequest<Params, Query, Body> extends Omit<Capabilities, 'signal'> {
  readonly params: Params
  readonly query: Query
  /** The JSON body; undefined when the request is an upload. */
  readonly body: Body
  /** The raw body where the endpoint takes uploads and the request has none of JSON. */
  readonly upload: AsyncIterable<Uint8Array> | undefined
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly signal: AbortSignal
  /** Starts a run; the same `idempotencyKey` gives the run of the first call. */
  start<RunParams>(
    workflow: Workflow<RunParams>,
    params: RunParams,
    options?: { readonly idempotencyKey?: string },
  ): Promise<{ readonly runId: string }>
}

export interface EndpointOptions<Params, Query, Body, Reply> {
  readonly summary: string
  /** `open` to whoever reaches the server; `users` (the default) to its users, which before any exist is loopback. */
  readonly auth?: 'open' | 'users'
  readonly params?: Schema<Params>
  readonly query?: Schema<Query>
  readonly body?: Schema<Body>
  /** Content types that are taken as raw bytes, and how many bytes at most. */
  readonly upload?: { readonly types: readonly string[]; readonly maxBytes: number }
  /** What a plain answer must look like. Left out: the endpoint answers with `reply`. */
  readonly reply?: Schema<Reply>
  /** Status of its answer when all went well, for a plain answer and for the documentation; default 200. */
  readonly status?: number
  /** Content type of its answer, for the documentation, where the endpoint answers with `reply` and bytes. */
  readonly type?: string
  /** @throws what is thrown as SluiceError becomes a problem document with its code. */
  handle(request: EndpointRequest<Params, Query, Body>): Promise<Reply | HttpReply> | Reply | HttpReply
}

/** An answer other than a plain 200 with JSON. */
export class HttpReply {
  readonly status: number
  readonly body: unknown
  readonly headers: Readonly<Record<string, string>>
  constructor(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}) {
    this.status = status
    this.body = body
    this.headers = headers
  }
}

/** `body` is JSON, bytes, or a stream of bytes (set `content-type` then). */
export function reply(status: number, body: unknown, headers?: Readonly<Record<string, string>>): HttpReply {
  return new HttpReply(status, body, headers)
}

/** Ends a request with a problem document. */
export function problem(code: ErrorCode, detail: string): never {
  throw new SluiceError(code, detail)
}

export interface Endpoint {
  readonly kind: 'endpoint'
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** With `:name` for parameters. */
  readonly path: string
  readonly options: EndpointOptions<never, never, never, unknown>
}

const route = /^(GET|POST|PUT|DELETE) (\/[A-Za-z0-9_:/.-]*)$/

/** `endpoint('GET /api/v1/images/:id', ...)`. @throws SluiceError DEFINITION_INVALID */
export function endpoint<Params = unknown, Query = unknown, Body = unknown, Reply = unknown>(
  methodAndPath: string,
  options: EndpointOptions<Params, Query, Body, Reply>,
): Endpoint {
  const parts = route.exec(methodAndPath)
  if (!parts) {
    throw new SluiceError(
      'DEFINITION_INVALID',
      `${JSON.stringify(methodAndPath)}: write METHOD /path with GET, POST, PUT or DELETE`,
    )
  }
  return {
    kind: 'endpoint',
    method: parts[1] as Endpoint['method'],
    path: parts[2] as string,
    options: options as unknown as Endpoint['options'],
  }
}
