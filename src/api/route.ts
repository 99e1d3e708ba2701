/**
 * A route is a value: what it takes, what it answers, and a function. The server mounts it, the OpenAPI document
 * describes it, the table of methods knows it; all from the same schemas.
 */
import type { ErrorCode } from '../errors.ts'
import { type Schema, z } from '../sdk/schema.ts'

export interface RouteInput<Params, Query, Body> {
  readonly params: Params
  readonly query: Query
  readonly body: Body
  /** The raw body, where the route takes uploads and the request has none of JSON. */
  readonly upload: AsyncIterable<Uint8Array> | undefined
  readonly headers: Readonly<Record<string, string | undefined>>
  /** Aborted when the client has gone or the server closes. */
  readonly signal: AbortSignal
  /** Calls once the answer is over, whole or not; at once when it is over already. */
  whenOver(call: () => void): void
}

export interface Answer {
  readonly description: string
  readonly schema?: Schema
  /** Default `application/json`. */
  readonly type?: string
  readonly example?: unknown
}

export interface RouteOf<Params, Query, Body> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** With `:name` for parameters. */
  readonly path: string
  readonly tag: string
  readonly summary: string
  readonly description?: string
  readonly params?: Schema<Params>
  readonly query?: Schema<Query>
  readonly headers?: Schema
  readonly body?: Schema<Body>
  readonly bodyExample?: unknown
  /** Content types that are taken as raw bytes, and how many bytes at most. */
  readonly upload?: { readonly types: readonly string[]; readonly maxBytes: number }
  readonly answers: Readonly<Record<number, Answer>>
  /** Errors that callers should expect, besides those of every route. */
  readonly errors?: readonly ErrorCode[]
  /** A plain value is answered as JSON with status 200, an `HttpReply` as it says. */
  handle(input: RouteInput<Params, Query, Body>): unknown
}

export type Route = RouteOf<never, never, never>

/** Keeps the types of a route's schemas for its function. */
export function route<Params = unknown, Query = unknown, Body = unknown>(parts: RouteOf<Params, Query, Body>): Route {
  return parts as unknown as Route
}

/** `limit` and `cursor` of every list. */
export const pageQuery = {
  limit: z.coerce.number().int().min(1).max(1_000).default(50).meta({ description: 'Items at most' }),
  cursor: z.string().max(500).optional().meta({ description: 'The nextCursor of the page before' }),
}

export function pageOf(item: Schema, name: string) {
  return z.object({
    items: z.array(item).meta({ description: `Of ${name}` }),
    nextCursor: z.string().nullable().meta({ description: 'Pass it as cursor to read on; null at the end' }),
  })
}

export const idempotencyHeader = z.object({
  'idempotency-key': z
    .string()
    .regex(/^[\x21-\x7e]{1,200}$/, 'is 1 to 200 printable ASCII characters without spaces')
    .optional()
    .meta({
      description: 'The same key with the same request gives the same answer; with another request it is refused',
    }),
})
