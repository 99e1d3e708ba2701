/** Turns the template of a task's arguments into JSON text, once what it refers to is known. */
import type { Pointer, Template } from '../sdk/reference.ts'

/** Gives the whole value a pointer starts from; the path is followed here. */
export type Lookup = (pointer: Pointer) => unknown

/** The value of a template; what a path does not find is left out of objects and is null in lists. */
export function resolveTemplate(template: Template, lookup: Lookup): unknown {
  if (template === null || typeof template !== 'object') return template
  if (Array.isArray(template)) {
    return (template as readonly Template[]).map((item) => resolveTemplate(item, lookup) ?? null)
  }
  const object = template as { readonly [key: string]: Template }
  if ('$ref' in object)
    return follow(lookup(object.$ref as unknown as Pointer), (object.$ref as unknown as Pointer).path)
  if ('$text' in object) return (object.$text as readonly Template[]).map((part) => written(part, lookup)).join('')
  const fields = '$literal' in object ? (object.$literal as { readonly [key: string]: Template }) : object
  return Object.fromEntries(Object.entries(fields).map(([key, field]) => [key, resolveTemplate(field, lookup)]))
}

/** A part of a text. */
function written(part: Template, lookup: Lookup): string {
  const value = resolveTemplate(part, lookup) ?? ''
  return typeof value === 'string' ? value : JSON.stringify(value)
}

/** What a path leads to inside of a value; undefined where it leads nowhere. */
export function follow(value: unknown, path: readonly string[]): unknown {
  let found = value
  for (const key of path) {
    if (found === null || typeof found !== 'object' || !Object.hasOwn(found, key)) return undefined
    found = (found as { readonly [key: string]: unknown })[key]
  }
  return found
}
