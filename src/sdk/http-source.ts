import { SluiceError } from '../errors.ts'
import type { Duration } from '../time.ts'
import type { Schema } from './schema.ts'

export interface HttpSourceOptions<Event, Input = Event> {
  /** Of one event. Checks must not be asynchronous. */
  readonly schema: Schema<Event, Input>
  /** `POST /path` that takes a JSON array of events. Default: there is none. */
  readonly batch?: string
  /** Events in one batch at most; 1 to 10,000, default 1,000. */
  readonly maxBatch?: number
  /** Bytes of the body of a single event at most; 1 to 1,048,576, default 65,536. */
  readonly maxBytes?: number
  /** Bytes of the body of a batch at most; up to 67,108,864, default 8,388,608 (or `maxBytes` if that is more). */
  readonly maxBatchBytes?: number
  /** `open` to whoever reaches the server; `users` (the default) to its users, which before any exist is loopback. */
  readonly auth?: 'open' | 'users'
  /** How long the id of an event is remembered at least; `1m` to `1y`, default `24h`. */
  readonly rememberIds?: Duration
}

/** Events that are POSTed to the serving processes. */
export interface HttpSource<Event = unknown> {
  readonly kind: 'http'
  /** `POST /path` of single events. */
  readonly name: string
  readonly path: string
  readonly batchPath: string | undefined
  readonly schema: Schema<Event>
  readonly maxBatch: number
  readonly maxBytes: number
  readonly maxBatchBytes: number
  readonly auth: 'open' | 'users'
  readonly rememberIds: Duration
}

const route = /^POST (\/[A-Za-z0-9_.-]+(?:\/[A-Za-z0-9_.-]+)*)$/

/**
 * Events by HTTP: `http('POST /stats', { schema })`. A request is answered once what it brought is committed.
 * @throws SluiceError DEFINITION_INVALID
 */
export function http<Event, Input = Event>(
  methodAndPath: string,
  options: HttpSourceOptions<Event, Input>,
): HttpSource<Event> {
  const { schema, batch, maxBatch = 1_000, maxBytes = 65_536, auth = 'users', rememberIds = '24h' } = options
  const path = pathOf(methodAndPath)
  const batchPath = batch === undefined ? undefined : pathOf(batch)
  if (batchPath === path) throw invalid(`batch is ${path} too: single events and batches need a path each`)
  return {
    kind: 'http',
    name: `POST ${path}`,
    path,
    batchPath,
    schema: schema as Schema<Event>,
    maxBatch,
    maxBytes,
    maxBatchBytes: options.maxBatchBytes ?? Math.max(8_388_608, maxBytes),
    auth,
    rememberIds,
  }
}

function pathOf(methodAndPath: string): string {
  const path = route.exec(methodAndPath)?.[1]
  if (path === undefined) {
    throw invalid(
      `${JSON.stringify(methodAndPath)}: write POST /path, of letters, digits, _ . and -, without parameters and without a slash at its end`,
    )
  }
  return path
}

const invalid = (message: string) => new SluiceError('DEFINITION_INVALID', message)
