/** Takes parts of a document as what they must be; says of each that is something else where it stands and what is allowed. */
import { nearest } from '../../../core/nearest.ts'
import { type Fault, messageOf, SluiceError } from '../../../errors.ts'
import { parseDuration } from '../../../time.ts'
import { below, type Places } from './pointer.ts'

export type Fields = Readonly<Record<string, unknown>>

/** More are not told of one file: looking for what was meant by each of ten thousand names takes minutes. */
const maxFaults = 50

export class Reader {
  readonly faults: Fault[] = []
  /** How many there were, also those that are not told. */
  count = 0
  readonly places: Places

  constructor(places: Places) {
    this.places = places
  }

  fault(pointer: string, message: string | (() => string), part: 'key' | 'value' = 'value'): undefined {
    this.count += 1
    if (this.faults.length >= maxFaults) return undefined
    const text = typeof message === 'string' ? message : message()
    this.faults.push({ where: this.places.of(pointer, part), message: text })
    return undefined
  }

  /** One that knows its place. */
  add(fault: Fault): void {
    this.count += 1
    this.faults.push(fault)
  }

  /** What `work` gives; what it throws becomes a fault at `pointer`. */
  attempt<Result>(pointer: string, work: () => Result): Result | undefined {
    try {
      return work()
    } catch (thrown) {
      if (!(thrown instanceof SluiceError)) throw thrown
      return this.fault(pointer, messageOf(thrown))
    }
  }

  map(value: unknown, pointer: string, what: string): Fields | undefined {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields
    return this.fault(pointer, `${what} is ${kindOf(value)}; a map is wanted (key: value)`)
  }

  /** A map with no other keys than these. */
  fields(value: unknown, pointer: string, what: string, known: readonly string[]): Fields | undefined {
    const fields = this.map(value, pointer, what)
    for (const key of Object.keys(fields ?? {})) {
      if (!known.includes(key)) this.fault(below(pointer, key), () => unknownName(`${what} has no`, key, known), 'key')
    }
    return fields
  }

  list(value: unknown, pointer: string, what: string): readonly unknown[] | undefined {
    return Array.isArray(value) ? value : this.fault(pointer, `${what} is ${kindOf(value)}; a list is wanted`)
  }

  text(value: unknown, pointer: string, what: string): string | undefined {
    if (typeof value === 'string' && value !== '') return value
    const hint = typeof value === 'number' || typeof value === 'boolean' ? '; write it in quotes' : ''
    return this.fault(pointer, `${what} is ${kindOf(value)}; a text is wanted${hint}`)
  }

  boolean(value: unknown, pointer: string, what: string): boolean | undefined {
    return typeof value === 'boolean' ? value : this.fault(pointer, `${what} is ${kindOf(value)}; write true or false`)
  }

  oneOf<Value extends string>(
    value: unknown,
    pointer: string,
    what: string,
    allowed: readonly Value[],
  ): Value | undefined {
    if (allowed.includes(value as Value)) return value as Value
    const meant = typeof value === 'string' ? nearest(value, allowed) : undefined
    const advice = meant === undefined ? '' : `; did you mean ${meant}?`
    return this.fault(pointer, `${what} is ${kindOf(value)}; allowed are ${allowed.join(', ')}${advice}`)
  }

  whole(value: unknown, pointer: string, what: string, from: number, to: number): number | undefined {
    if (Number.isInteger(value) && (value as number) >= from && (value as number) <= to) return value as number
    return this.fault(pointer, `${what} is ${kindOf(value)}; allowed are whole numbers from ${from} to ${to}`)
  }

  duration(value: unknown, pointer: string, what: string): string | undefined {
    const text = typeof value === 'string' ? value : undefined
    try {
      if (text !== undefined && parseDuration(text) > 0) return text
    } catch {
      // It is told below.
    }
    return this.fault(
      pointer,
      `${what} is ${kindOf(value)}, not a duration; write for example 250ms, 30s, 10m, 2h, 7d (more than zero)`,
    )
  }

  /** One text or a list of texts. */
  texts(value: unknown, pointer: string, what: string): readonly { text: string; pointer: string }[] {
    const some = Array.isArray(value) ? value : [value]
    return some.flatMap((one, index) => {
      const at = Array.isArray(value) ? below(pointer, index) : pointer
      const text = this.text(one, at, what)
      return text === undefined ? [] : [{ text, pointer: at }]
    })
  }
}

/** `task has no "aftr"; did you mean after?` */
export function unknownName(what: string, name: string, known: Iterable<string>): string {
  const all = [...known]
  const meant = nearest(name, all)
  const shown = all.length > 20 ? `${all.slice(0, 20).join(', ')} and ${all.length - 20} more` : all.join(', ')
  const advice =
    meant !== undefined ? `did you mean ${meant}?` : `there ${all.length === 1 ? 'is' : 'are'} ${shown || 'none'}`
  return `${what} ${JSON.stringify(name)}; ${advice}`
}

/** A value as people call it. */
function kindOf(value: unknown): string {
  if (value === null) return 'empty'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a map'
  return JSON.stringify(value)
}
