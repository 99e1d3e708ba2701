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

const [quote, backslash, comma, openBrace, openBracket, closeBrace, closeBracket] = [34, 92, 44, 123, 91, 125, 93]

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
  const text = textOf(Buffer.from(bytes))
  if (text instanceof SluiceError) throw text
  const fault = faultOf(text, maxDepth)
  if (fault) throw fault
  const value = parsed(text)
  const unfit = mayBeUnfit.test(text) ? unfitPart(value, '/body') : undefined
  if (unfit) throw invalid([unfit])
  return value
}

/** As the parser of all bodies does, names that lead to a prototype are refused. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text, (name, value) => {
      const reaches = name === '__proto__' || (name === 'constructor' && Object.hasOwn(Object(value), 'prototype'))
      if (reaches) throw new SyntaxError(`it names ${name}`)
      return value
    })
  } catch (cause) {
    throw new SluiceError('MALFORMED_JSON', 'The body is not JSON', { cause })
  }
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
      const unfit = mayBeUnfit.test(body) ? unfitPart(value, '/body') : undefined
      if (unfit) return done(invalid([unfit]))
      done(null, value)
    })
  })
}

function textOf(bytes: Buffer): string | SluiceError {
  return isUtf8(bytes) ? bytes.toString() : new SluiceError('MALFORMED_JSON', 'The body is not UTF-8')
}
