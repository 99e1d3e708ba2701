import { SluiceError } from '../errors.ts'

/**
 * While a workflow is being defined no value exists yet: calling an action gives a reference to its future result, and
 * reading a field of a reference gives a reference to that field. A reference is turned into a template in the
 * manifest, and the engine resolves the template when the task starts.
 */
declare const referenced: unique symbol

export type Ref<T> = { readonly [referenced]: T } & ([T] extends [readonly unknown[]]
  ? unknown
  : [T] extends [object]
    ? { readonly [K in keyof T]-?: Ref<T[K]> }
    : unknown)

/** What may be passed where a `T` is wanted: a literal, a reference, or a literal with references inside. */
export type Arg<T> =
  | T
  | Ref<T>
  | (T extends readonly (infer Item)[]
      ? readonly Arg<Item>[]
      : T extends object
        ? { readonly [K in keyof T]: Arg<T[K]> }
        : never)

/** The value that a literal with references inside will have. */
export type Resolved<T> = [T] extends [undefined | never]
  ? null
  : T extends Ref<infer Value>
    ? Value
    : T extends readonly unknown[]
      ? { [K in keyof T]: Resolved<T[K]> }
      : T extends object
        ? { [K in keyof T]: Resolved<T[K]> }
        : T

/** The arguments of a call: every field of the input, each a literal or a reference. */
export type Args<Input> = { readonly [K in keyof Input]: Arg<Input[K]> }

/**
 * Where a reference points: a node's result, a run's parameter, or the item of a map. `path` leads into the value.
 * `scope` names the graph in which it stands while a workflow is being defined; templates have none.
 */
export type Pointer = (
  | { readonly from: 'node'; readonly node: number; readonly path: readonly string[] }
  | { readonly from: 'param'; readonly path: readonly string[] }
  | { readonly from: 'item'; readonly path: readonly string[] }
) & { readonly scope?: number }

/**
 * JSON with references: `{ "$ref": Pointer }` stands for a value that is not known yet, `{ "$text": parts }` for a text with
 * such values inside, `{ "$literal": value }` for an object of the author's that has a key starting with `$`.
 */
export type Template = null | boolean | number | string | readonly Template[] | { readonly [key: string]: unknown }

const pointerOf = Symbol('sluice.pointer')
const partsOf = Symbol('sluice.text')

/**
 * A text with references inside: text`in/${params.day}.csv`. Numbers and booleans are written as JSON writes them, so are
 * objects and lists; null, and what is not there, are an empty text.
 */
export function text(strings: readonly string[], ...values: readonly unknown[]): Ref<string> {
  const parts = strings.flatMap((part, index) => (index < values.length ? [part, values[index]] : [part]))
  return Object.freeze({ [partsOf]: parts.filter((part) => part !== '') }) as unknown as Ref<string>
}

/** A reference at run time: reading any field gives a deeper reference; using it as a value is an error. */
export function reference<T>(pointer: Pointer): Ref<T> {
  const proxy = new Proxy(Object.create(null) as object, {
    get(_, key) {
      if (key === pointerOf) return pointer
      if (key === Symbol.toPrimitive || key === 'toString' || key === 'valueOf' || key === 'toJSON') {
        throw new SluiceError(
          'DEFINITION_INVALID',
          `${describe(pointer)} has no value while the workflow is being defined; pass it to an action as an argument`,
        )
      }
      if (typeof key === 'symbol') return undefined
      return reference({ ...pointer, path: [...pointer.path, key] })
    },
    set() {
      throw new SluiceError('DEFINITION_INVALID', `${describe(pointer)} cannot be changed`)
    },
    has: (_, key) => key === pointerOf,
  })
  return proxy as Ref<T>
}

export function pointer(value: unknown): Pointer | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  return (value as { [pointerOf]?: Pointer })[pointerOf]
}

function describe(pointer: Pointer): string {
  const path = pointer.path.length === 0 ? '' : `.${pointer.path.join('.')}`
  if (pointer.from === 'param') return `the parameter ${path.slice(1)}`
  return pointer.from === 'item' ? `the item${path} of a map` : `the result${path} of an action`
}

function insteadOf(found: Pointer, given: unknown): Pointer {
  return typeof given === 'object' && given !== null ? (given as Pointer) : found
}

/**
 * The template of an argument. `seen` is told each pointer, so that the caller learns the upstream nodes; it may give
 * another one that stands in its place.
 * @throws SluiceError DEFINITION_INVALID for what JSON cannot hold (functions, NaN, dates, class instances, cycles).
 */
export function toTemplate(value: unknown, seen: (pointer: Pointer) => unknown, where = 'args', depth = 0): Template {
  const found = pointer(value)
  if (found) {
    const { scope, ...plain } = insteadOf(found, seen(found))
    return { $ref: plain }
  }
  const parts = typeof value === 'object' ? (value as { [partsOf]?: readonly unknown[] } | null)?.[partsOf] : undefined
  if (parts) return { $text: parts.map((part) => toTemplate(part, seen, where, depth + 1)) }
  if (depth > 64)
    throw new SluiceError('DEFINITION_INVALID', `${where} is nested deeper than 64 levels, or contains itself`)
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value
  if (typeof value === 'number' && Number.isFinite(value)) return value
  if (Array.isArray(value)) return value.map((item, index) => toTemplate(item, seen, `${where}[${index}]`, depth + 1))
  if (typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype) {
    const entries = Object.entries(value).filter(([, field]) => field !== undefined)
    const object = Object.fromEntries(
      entries.map(([key, field]) => [key, toTemplate(field, seen, `${where}.${key}`, depth + 1)]),
    )
    return entries.some(([key]) => key.startsWith('$')) ? { $literal: object } : object
  }
  throw new SluiceError(
    'DEFINITION_INVALID',
    `${where} is ${typeof value === 'object' ? `a ${value?.constructor?.name ?? 'object'}` : typeof value}; only JSON values and references can be passed`,
  )
}
