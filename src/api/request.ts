/** A request of Fastify's, checked against the schemas of its route. */
import type { IncomingMessage } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type Fault, SluiceError } from '../errors.ts'
import { type Schema, z } from '../sdk/schema.ts'
import { faultsOf, invalid, isUnfit, pointer, unfitText } from './faults.ts'
import type { Route, RouteInput } from './route.ts'

/** The raw body of a request; what the parser of uploads puts in the place of a JSON value. */
export class Upload implements AsyncIterable<Uint8Array> {
  private readonly source: IncomingMessage
  private readonly maxBytes: number

  constructor(source: IncomingMessage, maxBytes: number) {
    this.source = source
    this.maxBytes = maxBytes
  }

  /** @throws SluiceError BODY_TOO_LARGE once more than the limit has come; USAGE when the client broke off. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    let bytes = 0
    try {
      for await (const chunk of this.source.iterator({ destroyOnReturn: false })) {
        bytes += (chunk as Buffer).length
        if (bytes > this.maxBytes) throw tooLarge(this.maxBytes)
        yield chunk as Buffer
      }
    } catch (thrown) {
      if (thrown instanceof SluiceError || !this.source.destroyed) throw thrown
      throw new SluiceError('USAGE', 'The body broke off before its end', { cause: thrown })
    }
  }
}

export function tooLarge(maxBytes: number): SluiceError {
  return new SluiceError('BODY_TOO_LARGE', `The body is over ${maxBytes} bytes`)
}

type Checked = Omit<RouteInput<never, never, never>, 'signal' | 'whenOver'>

/**
 * Waits only for schemas that have to be waited for.
 * @throws SluiceError NOT_FOUND; INVALID_INPUT, with every fault of path, query, headers and body.
 */
export function readInput(route: Route, request: FastifyRequest): Checked | Promise<Checked> {
  const upload = request.body instanceof Upload ? request.body : undefined
  if (unfitFaults(request.params, '/path').length > 0) throw new SluiceError('NOT_FOUND', 'Nothing has NUL in its name')
  const unfit = unfitFaults(request.query, '/query')
  if (unfit.length > 0) throw invalid(unfit)
  const results = [
    parse(route.params, request.params),
    parse(route.query ?? nothing, request.query),
    parse(route.headers, request.headers),
    upload ? undefined : parse(route.body ?? noBody, request.body ?? undefined),
  ]
  const finish = (parts: readonly (Result | undefined)[]): Checked => {
    const faults = parts.flatMap((part, at) => (part?.error ? faultsOf(part.error, places[at] as string) : []))
    if (faults.length > 0) throw invalid(faults.map((fault) => repeated(fault, request.query)))
    const [params, query, , body] = parts.map((part) => part?.data)
    return { params, query, body, upload, headers: request.headers } as Checked
  }
  return results.some((result) => result instanceof Promise)
    ? Promise.all(results).then(finish)
    : finish(results as readonly (Result | undefined)[])
}

/** What a route that declares no query, or no body, takes. */
const nothing = z.strictObject({})
const noBody = nothing.optional()

/** Path and query come percent-encoded, which can write what no text of the database holds. */
function unfitFaults(values: unknown, where: string): Fault[] {
  return Object.entries(values ?? {}).flatMap(([name, value]) =>
    [name, ...[value].flat()].some((text) => isUnfit(String(text)))
      ? [{ where: pointer(where, [name]), message: unfitText }]
      : [],
  )
}

/** Of a parameter that is given more than once, that is what is wrong. */
function repeated(fault: Fault, query: unknown): Fault {
  const name = fault.where.startsWith('/query/') ? fault.where.slice('/query/'.length) : undefined
  const value = name === undefined ? undefined : (query as Record<string, unknown>)[name]
  return Array.isArray(value) ? { ...fault, message: `is given ${value.length} times` } : fault
}

const places = ['/path', '/query', '/headers', '/body'] as const

type Result = { readonly data?: unknown; readonly error?: z.ZodError | undefined }

/** Schemas are synchronous but for authors' own checks that are not. Without a schema everything fits. */
export function parse(schema: Schema | undefined, value: unknown): Result | Promise<Result> {
  if (schema === undefined) return { data: value }
  try {
    return schema.safeParse(value)
  } catch (thrown) {
    if (thrown instanceof z.core.$ZodAsyncError) return schema.safeParseAsync(value)
    throw thrown
  }
}

/** Aborted when the client has gone before the answer was whole, or the server closes. */
export function signalOf(reply: FastifyReply, closing: AbortSignal): AbortSignal {
  const gone = new AbortController()
  const stop = () => gone.abort(new SluiceError('CANCELLED', 'The server closes'))
  const { raw } = reply
  raw.once('close', () => {
    closing.removeEventListener('abort', stop)
    if (!raw.writableFinished) gone.abort(new SluiceError('CANCELLED', 'The client has gone'))
  })
  if (closing.aborted) stop()
  else if (raw.destroyed) gone.abort(new SluiceError('CANCELLED', 'The client has gone'))
  else closing.addEventListener('abort', stop, { once: true })
  return gone.signal
}

/** Calls once: when the answer is whole, or its connection is closed. */
export function whenOver({ raw }: FastifyReply, call: () => void): void {
  if (raw.writableFinished || raw.destroyed) {
    call()
    return
  }
  const once = () => {
    raw.off('finish', once)
    raw.off('close', once)
    call()
  }
  raw.on('finish', once)
  raw.on('close', once)
}
