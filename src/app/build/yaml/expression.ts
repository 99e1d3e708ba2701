/**
 * References in a document: `${{ params.day }}`, `${{ tasks.load.result.rows[0] }}`, `${{ item["a b"] }}`. A text that is
 * one expression stands for the value, of whatever type; one with more around it is a text. `$${{` writes `${{` itself.
 */
import { text } from '../../../sdk/reference.ts'
import { below } from './pointer.ts'
import type { Reader } from './reader.ts'

/** What an expression names: a root, and a path into it. */
export class Expression {
  readonly path: readonly string[]
  readonly pointer: string

  constructor(path: readonly string[], pointer: string) {
    this.path = path
    this.pointer = pointer
  }
}

class Text {
  readonly parts: readonly (string | Expression)[]

  constructor(parts: readonly (string | Expression)[]) {
    this.parts = parts
  }
}

/** The value with its expressions read. Faults go to the reader. */
export function readExpressions(value: unknown, pointer: string, reader: Reader): unknown {
  if (typeof value === 'string') return value.includes('${{') ? readText(value, pointer, reader) : value
  if (Array.isArray(value)) return value.map((item, index) => readExpressions(item, below(pointer, index), reader))
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value)
  return Object.fromEntries(entries.map(([key, field]) => [key, readExpressions(field, below(pointer, key), reader)]))
}

function readText(source: string, pointer: string, reader: Reader): unknown {
  const parts: (string | Expression)[] = []
  let plain = ''
  for (let from = 0; from < source.length; ) {
    const open = source.indexOf('${{', from)
    if (open < 0) {
      plain += source.slice(from)
      break
    }
    if (source[open - 1] === '$' && open > from) {
      plain += `${source.slice(from, open - 1)}\${{`
      from = open + 3
      continue
    }
    plain += source.slice(from, open)
    const close = source.indexOf('}}', open)
    if (close < 0) return reader.fault(pointer, `${source.slice(open, open + 40)} has no end: }} is missing`)
    const path = pathOf(source.slice(open + 3, close).trim())
    if (path === undefined) {
      const written = source.slice(open, close + 2)
      return reader.fault(
        pointer,
        `${written} is no reference; write \${{ params.name }}, \${{ tasks.id.result.field }} or \${{ item.field }}`,
      )
    }
    if (plain !== '') parts.push(plain)
    plain = ''
    parts.push(new Expression(path, pointer))
    from = close + 2
  }
  if (plain !== '') parts.push(plain)
  if (parts.length === 1) return parts[0]
  return parts.every((part) => typeof part === 'string') ? parts.join('') : new Text(parts)
}

/** `a.b[0]["c d"]` */
function pathOf(source: string): string[] | undefined {
  const path: string[] = []
  const part = /(?:^|\.)([A-Za-z_][\w-]*)|\[(\d+)\]|\["([^"\\]*)"\]|\['([^'\\]*)'\]/y
  while (part.lastIndex < source.length) {
    const at = part.lastIndex
    const found = part.exec(source)
    if (found === null || (at === 0 && found[1] === undefined)) return undefined
    path.push(found[1] ?? found[2] ?? found[3] ?? (found[4] as string))
  }
  return path.length === 0 ? undefined : path
}

/**
 * The task that a path behind `tasks` names, whose id has dots when it stands in groups, and the path into its result.
 * Undefined when the path names no result.
 */
export function resultNamed(
  path: readonly string[],
  isKnown: (id: string) => boolean,
): { readonly id: string; readonly path: readonly string[] } | undefined {
  const idOf = (end: number) => path.slice(1, end).join('.')
  const ends = path.flatMap((part, at) => (at >= 2 && part === 'result' ? [at] : []))
  const end = ends.find((at) => isKnown(idOf(at))) ?? ends[0]
  return end === undefined ? undefined : { id: idOf(end), path: path.slice(end + 1) }
}

/** All expressions in a value that was read. */
export function expressionsIn(value: unknown): Expression[] {
  if (value instanceof Expression) return [value]
  if (value instanceof Text) return value.parts.filter((part) => part instanceof Expression)
  if (typeof value !== 'object' || value === null) return []
  return Object.values(value).flatMap(expressionsIn)
}

/** The value with references in the place of expressions. */
export function withReferences(value: unknown, referenceTo: (expression: Expression) => unknown): unknown {
  if (value instanceof Expression) return referenceTo(value)
  if (value instanceof Text) {
    const parts = value.parts.map((part) => (typeof part === 'string' ? part : referenceTo(part)))
    return text(['', ...parts.map(() => '')], ...parts)
  }
  if (Array.isArray(value)) return value.map((item) => withReferences(item, referenceTo))
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value)
  return Object.fromEntries(entries.map(([key, field]) => [key, withReferences(field, referenceTo)]))
}

/** Follows a path into a reference. */
export function into(reference: unknown, path: readonly string[]): unknown {
  return path.reduce((found, key) => (found as Record<string, unknown>)[key], reference)
}
