import type { IncomingHttpHeaders } from 'node:http'
import { one } from './hop.ts'

const keptHeaders = [
  'content-type',
  'content-length',
  'content-encoding',
  'etag',
  'last-modified',
  'cache-control',
] as const

export type KeptHeader = (typeof keptHeaders)[number]

/** The headers that an answer is given with; cookies are never among them. */
export function keptOf(headers: IncomingHttpHeaders): Readonly<Partial<Record<KeptHeader, string>>> {
  const kept: Partial<Record<KeptHeader, string>> = {}
  for (const name of keptHeaders) {
    const value = one(headers[name])
    if (value !== undefined) kept[name] = value
  }
  return kept
}
