import { nearest } from '../core/nearest.ts'
import { SluiceError } from '../errors.ts'

export interface JsonSchema {
  readonly type?: unknown
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly additionalProperties?: unknown
  readonly description?: string
  readonly default?: unknown
}

/**
 * Parameters of `name=value` texts. A value is read by the type that the schema gives it: text stays as it is, other
 * types are JSON; without a type it is JSON if it can be, else text.
 * @throws SluiceError USAGE naming the parameter and what is allowed.
 */
export function readParams(given: readonly string[], schema: JsonSchema): Record<string, unknown> {
  const params: Record<string, unknown> = {}
  for (const text of given) {
    const equals = text.indexOf('=')
    if (equals < 1) throw new SluiceError('USAGE', `${JSON.stringify(text)} is no parameter; write -p name=value`)
    const name = text.slice(0, equals)
    if (Object.hasOwn(params, name)) throw new SluiceError('USAGE', `The parameter ${name} is given twice`)
    params[name] = readValue(name, text.slice(equals + 1), propertyOf(name, schema))
  }
  return params
}

function propertyOf(name: string, { properties, additionalProperties }: JsonSchema): JsonSchema {
  if (properties === undefined || Object.hasOwn(properties, name) || additionalProperties)
    return properties?.[name] ?? {}
  const names = Object.keys(properties)
  const meant = nearest(name, names)
  const advice = meant === undefined ? `there are ${names.join(', ') || 'none'}` : `did you mean ${meant}?`
  throw new SluiceError('USAGE', `There is no parameter ${name}; ${advice}`)
}

export function readValue(name: string, text: string, { type }: JsonSchema): unknown {
  if (type === 'string') return text
  try {
    return JSON.parse(text)
  } catch {
    if (type === undefined || (Array.isArray(type) && type.includes('string'))) return text
    throw new SluiceError(
      'USAGE',
      `The parameter ${name} is ${JSON.stringify(text)}; allowed is JSON of type ${[type].flat().join(' or ')}`,
    )
  }
}
