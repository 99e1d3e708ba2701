/**
 * Arguments that cannot fit the input schema of their action: a build knows every literal, so they are told before a run
 * finds out. What a reference will bring is not known; of what contains one, only the rest is judged.
 */
import { nearest } from '../../core/nearest.ts'
import type { NodeDefinition } from '../../sdk/graph-builder.ts'
import type { Schema } from '../../sdk/schema.ts'
import { fieldsOf } from './references.ts'

export interface WrongArgument {
  readonly node: NodeDefinition
  /** Into the arguments. */
  readonly path: readonly (string | number)[]
  readonly message: string
}

export function wrongArguments(nodes: readonly NodeDefinition[]): WrongArgument[] {
  return nodes.flatMap((node) => {
    const schema = node.action?.options.input
    return schema === undefined ? [] : wrongIn(schema, node.args).map((wrong) => ({ node, ...wrong }))
  })
}

/** As one sentence. */
export function told({ node, path, message }: WrongArgument): string {
  return `task ${node.id}: ${path.length === 0 ? '' : `argument ${path.join('.')}: `}${message}`
}

/** What is not known yet, by its path as JSON. */
type Holes = Set<string>

function wrongIn(schema: Schema, template: unknown): Omit<WrongArgument, 'node'>[] {
  const holes: Holes = new Set()
  const value = literalOf(template, [], holes)
  if (holes.has('[]')) return []
  const known = fieldsOf(schema, 'input')
  const unknown = Object.keys(value as object).filter((field) => known !== undefined && !known.has(field))
  if (known !== undefined && unknown.length > 0) {
    return unknown.map((field) => ({
      path: [field],
      message: `there is no argument ${field}; ${advice(field, known)}`,
    }))
  }
  return issuesOf(schema, value)
    .filter(({ path }) => !isOpen(path, holes))
    .map(({ path, message }) => ({ path, message }))
}

function advice(field: string, known: ReadonlySet<string>): string {
  const meant = nearest(field, known)
  return meant === undefined ? `there are ${[...known].join(', ') || 'none'}` : `did you mean ${meant}?`
}

interface Issue {
  readonly path: readonly (string | number)[]
  readonly message: string
}

/** A schema may do anything with what it is given: one that cannot judge a value with holes judges nothing. */
function issuesOf(schema: Schema, value: unknown): Issue[] {
  try {
    const parsed = schema.safeParse(value)
    return parsed.success
      ? []
      : parsed.error.issues.map(({ path, message }) => ({ path: path as Issue['path'], message }))
  } catch {
    return []
  }
}

/** Whether a path leads to a hole, into one, or to what has one inside. */
function isOpen(path: readonly (string | number)[], holes: Holes): boolean {
  for (const text of holes) {
    const hole = JSON.parse(text) as readonly (string | number)[]
    const shorter = Math.min(hole.length, path.length)
    if (hole.slice(0, shorter).every((key, index) => String(key) === String(path[index]))) return true
  }
  return false
}

function literalOf(template: unknown, path: readonly (string | number)[], holes: Holes): unknown {
  if (typeof template !== 'object' || template === null) return template
  if (Array.isArray(template)) return template.map((item, index) => literalOf(item, [...path, index], holes))
  if ('$ref' in template || '$text' in template) {
    holes.add(JSON.stringify(path))
    return undefined
  }
  const fields = '$literal' in template ? (template.$literal as object) : template
  return Object.fromEntries(
    Object.entries(fields).map(([key, field]) => [key, literalOf(field, [...path, key], holes)]),
  )
}
