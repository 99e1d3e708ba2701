/**
 * JSON is the only body that is read, but for uploads. It is UTF-8, names nothing twice, is not deep, has no `__proto__`
 * and no `constructor.prototype`, and no text that cannot be stored. Numbers are those of JavaScript: what has more than
 * 53 bits loses some, and a schema of whole numbers refuses it.
 */
import { isUtf8 } from 'node:buffer'
import type { FastifyInstance } from 'fastify'
import { SluiceError } from '../errors.ts'
import { invalid, unfitPart } from './faults.ts'

/** What is wrong with a JSON text that `JSON.parse` would take. */
export type JsonFault = { readonly kind: 'deep' } | { readonly kind: 'doubled'; readonly name: string }

/**
 * Looks at brackets and names only, so that a bomb of brackets is refused before it is parsed and walked by recursive
 * code. A text that is no JSON is left to the parser.
 */
export function jsonFault(json: string, limit: number): JsonFault | undefined {
  /** The names of each object that is open; of an array, undefined. */
  const open: (Set<string> | undefined)[] = []
  let names: Set<string> | undefined
  let nameNext = false
  for (let at = 0; at < json.length; at += 1) {
    const unit = json.charCodeAt(at)
    if (unit === quote) {
      const end = endOfText(json, at)
      if (nameNext && names) {
        const name = nameOf(json.slice(at, end + 1))
        if (names.has(name)) return { kind: 'doubled', name }
        names.add(name)
        nameNext = false
      }
      at = end
    } else if (unit === openBrace || unit === openBracket) {
      if (open.length === limit) return { kind: 'deep' }
      names = unit === openBrace ? new Set() : undefined
      nameNext = true
      open.push(names)
    } else if (unit === closeBrace || unit === closeBracket) {
      open.pop()
      names = open.at(-1)
    } else if (unit === comma) nameNext = true
  }
  return undefined
}

const [quote, backslash, comma, colon, openBrace, openBracket, closeBrace, closeBracket] = [
  34, 92, 44, 58, 123, 91, 125, 93,
]

/** Where the text that begins at `from` has its closing quote; the end of the JSON when it has none. */
function endOfText(json: string, from: number): number {
  for (let at = from + 1; at < json.length; at += 1) {
    const unit = json.charCodeAt(at)
    if (unit === backslash) at += 1
    else if (unit === quote) return at
  }
  return json.length
}

function nameOf(quoted: string): string {
  if (!quoted.includes('\\')) return quoted.slice(1, -1)
  try {
    return JSON.parse(quoted) as string
  } catch {
    return quoted
  }
}

/** Only an escape writes such a text into UTF-8, and only a long number is too large: other bodies need not be walked. */
const mayBeUnfit = /\\u|\d[eE]\+?\d{3}|\d{300}/

/** A body that was read as bytes. @throws SluiceError MALFORMED_JSON, INVALID_INPUT as for every other body */
export function readJson(bytes: Uint8Array, maxDepth: number): unknown {
  const { value, suspect } = parseJson(Buffer.from(bytes), maxDepth)
  const unfit = suspect ? unfitPart(value, '/body') : undefined
  if (unfit) throw invalid([unfit])
  return value
}

/**
 * For those who judge parts of the body by themselves: `suspect` says that it may have a text or a number that cannot be
 * kept as it is. @throws SluiceError MALFORMED_JSON, INVALID_INPUT for what is no JSON, names twice, or is too deep.
 */
export function parseJson(bytes: Buffer, maxDepth: number): { readonly value: unknown; readonly suspect: boolean } {
  const text = textOf(bytes)
  if (text instanceof SluiceError) throw text
  if (!text.includes('\\u') && !mayBeMany(text)) {
    const value = parsed(text)
    const seen: Seen = { colons: 0, odd: false }
    if (look(value, maxDepth, seen) && seen.colons === countOf(text, ':')) {
      return { value, suspect: seen.odd }
    }
  }
  const fault = faultOf(text, maxDepth)
  if (fault) throw fault
  const value = parsed(text)
  const loss = lossOf(text, value)
  if (loss) throw loss
  return { value, suspect: true }
}

interface Seen {
  colons: number
  /** A number that is whole and not exact, or beyond all numbers. */
  odd: boolean
}

/**
 * Walks a parsed value and counts the colons it was written with: one for each name, and those in its texts. Without escapes that write a colon, the text
 * has more only when a name was given twice, and what it stood for the first time is lost. (Measured: a sixth of what looking at each
 * character of the text costs.) False when it is too deep.
 */
function look(value: unknown, depth: number, seen: Seen): boolean {
  if (typeof value === 'string') {
    if (value.includes(':')) seen.colons += countOf(value, ':')
    return true
  }
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value) && (Number.isInteger(value) || !Number.isFinite(value))) seen.odd = true
    return true
  }
  if (typeof value !== 'object' || value === null) return true
  if (depth === 0) return false
  if (Array.isArray(value)) {
    for (let at = 0; at < value.length; at += 1) if (!look(value[at], depth - 1, seen)) return false
    return true
  }
  for (const name in value) {
    seen.colons += 1
    if (name.includes(':')) seen.colons += countOf(name, ':')
    if (!look((value as Record<string, unknown>)[name], depth - 1, seen)) return false
  }
  return true
}

function countOf(text: string, part: string): number {
  let count = 0
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + 1)) count += 1
  return count
}

/** So many brackets might be within one another, and would take memory before anybody counts how deep they are. */
const mayBeMany = (text: string) => text.length > 65_536 && countOf(text, '[') + countOf(text, '{') > 65_536

/** As the parser of all bodies does, names that lead to a prototype are refused. Asking about every name makes parsing four times as slow. */
function parsed(text: string): unknown {
  try {
    if (!text.includes('__proto__') && !text.includes('constructor') && !text.includes('\\u')) return JSON.parse(text)
    return JSON.parse(text, (name, value) => {
      const reaches = name === '__proto__' || (name === 'constructor' && Object.hasOwn(Object(value), 'prototype'))
      if (reaches) throw new SyntaxError(`it names ${name}`)
      return value
    })
  } catch (cause) {
    throw new SluiceError('MALFORMED_JSON', 'The body is not JSON', { cause })
  }
}

/**
 * V8's own parser loses some names that are written with escapes, by what it has parsed before: with Node 24.21 `{"b\\":0,"a\u0001":1,"a\"b":2}`
 * may come out with a name less. Nothing is taken of which a part is lost. Names that are given twice are refused before this.
 */
function lossOf(text: string, value: unknown): SluiceError | undefined {
  if (!text.includes('\\') || namesIn(text) === namesOf(value)) return undefined
  return new SluiceError('MALFORMED_JSON', 'The body has names with escapes that cannot be read; write them without')
}

/** A colon outside of texts is behind a name. */
function namesIn(json: string): number {
  let names = 0
  for (let at = 0; at < json.length; at += 1) {
    const unit = json.charCodeAt(at)
    if (unit === quote) at = endOfText(json, at)
    else if (unit === colon) names += 1
  }
  return names
}

function namesOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  const parts = Object.values(value)
  return parts.reduce((sum: number, part) => sum + namesOf(part), Array.isArray(value) ? 0 : parts.length)
}

function faultOf(text: string, maxDepth: number): SluiceError | undefined {
  const fault = jsonFault(text, maxDepth)
  if (fault?.kind === 'doubled') {
    return new SluiceError(
      'MALFORMED_JSON',
      `The body names ${JSON.stringify(fault.name.slice(0, 100))} twice in one object`,
    )
  }
  return fault && invalid([{ where: '/body', message: `is nested deeper than ${maxDepth} levels` }])
}

export function readJsonBodies(app: FastifyInstance, maxDepth: number): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, bytes, done) => {
    const body = textOf(bytes as Buffer)
    if (body instanceof SluiceError) return done(body)
    const fault = faultOf(body, maxDepth)
    if (fault) return done(fault)
    parse(request, body, (error, value) => {
      if (error) return done(error, undefined)
      const loss = lossOf(body, value)
      if (loss) return done(loss)
      const unfit = mayBeUnfit.test(body) ? unfitPart(value, '/body') : undefined
      if (unfit) return done(invalid([unfit]))
      done(null, value)
    })
  })
}

function textOf(bytes: Buffer): string | SluiceError {
  return isUtf8(bytes) ? bytes.toString() : new SluiceError('MALFORMED_JSON', 'The body is not UTF-8')
}
