import { z } from 'zod'
import { type Fault, SluiceError } from '../errors.ts'
import { canonicalName, nameAdvice, namePattern, nameRule } from './names.ts'
import { Secret, type Secrets } from './secrets.ts'

const prefix = 'SLUICE_CONNECTION_'

/** `kind` says which connector reads the other settings. A setting `{ "secret": "NAME" }` stands for a secret's text. */
export type ConnectionSettings = Readonly<{ kind: string; [setting: string]: unknown }>

export interface Connections {
  /**
   * The settings as configured, upper and lower case, `-` and `_` being the same in a name; of that kind, when given.
   * @throws SluiceError CONNECTION_UNKNOWN, CONFIGURATION (it is of another kind)
   */
  get(name: string, kind?: string): ConnectionSettings
  /** Sorted. */
  readonly names: readonly string[]
}

const settingsSchema = z.looseObject({ kind: z.string().min(1) })
const fileSchema = z.record(z.string().regex(namePattern, { error: nameRule }), settingsSchema)

/**
 * Connections from `SLUICE_CONNECTION_<NAME>` of `source` (each a JSON object with `kind`) and from a project's
 * configuration (`{ web: { kind: 'fetch', ... } }`). `source` wins, a whole connection at a time. An empty variable
 * counts as not set.
 * @throws SluiceError CONFIGURATION naming variable or key, and what is allowed
 */
export function parseConnections(
  source: Readonly<Record<string, string | undefined>>,
  fileContents: unknown = {},
): Connections {
  const faults: Fault[] = []
  const connections = new Map<string, ConnectionSettings>()

  const file = fileSchema.safeParse(fileContents)
  if (file.success) {
    for (const [name, settings] of Object.entries(file.data)) connections.set(canonicalName(name), settings)
  } else {
    faults.push(...faultsOf(file.error, 'connections'))
  }

  for (const [variable, text] of Object.entries(source)) {
    if (!variable.startsWith(prefix) || !text) continue
    const name = variable.slice(prefix.length)
    const settings = settingsSchema.safeParse(jsonOrUndefined(text))
    if (!namePattern.test(name)) faults.push({ where: variable, message: `"${name}" is not a name: ${nameRule}` })
    else if (settings.success) connections.set(canonicalName(name), settings.data)
    else faults.push({ where: variable, message: 'a JSON object with a text "kind" is needed' })
  }
  if (faults.length > 0) {
    const detail = faults.map((fault) => `${fault.where}: ${fault.message}`).join('; ')
    throw new SluiceError('CONFIGURATION', `The connections are not valid: ${detail}`, { faults })
  }

  const names = [...connections.keys()].sort()
  return {
    names,
    get(name, kind) {
      const settings = connections.get(canonicalName(name))
      if (settings === undefined) {
        const advice = nameAdvice(canonicalName(name), names)
        throw new SluiceError('CONNECTION_UNKNOWN', `There is no connection "${name}": ${advice}`)
      }
      if (kind !== undefined && settings.kind !== kind) {
        const found = `The connection "${name}" is of kind "${settings.kind}"`
        throw new SluiceError('CONFIGURATION', `${found}; "${kind}" is needed here`)
      }
      return settings
    },
  }
}

/**
 * A copy of settings in which each `{ "secret": "NAME" }` is the text of that secret: for the connector's own schema.
 * @throws SluiceError SECRET_UNKNOWN
 */
export function revealSettings(settings: ConnectionSettings, secrets: Secrets): ConnectionSettings {
  const reveal = (value: unknown): unknown => {
    if (value instanceof Secret) return value.reveal()
    if (Array.isArray(value)) return value.map(reveal)
    if (value === null || typeof value !== 'object') return value
    const entries = Object.entries(value)
    const [first] = entries
    if (entries.length === 1 && first?.[0] === 'secret' && typeof first[1] === 'string') {
      return secrets.get(first[1]).reveal()
    }
    return Object.fromEntries(entries.map(([key, inner]) => [key, reveal(inner)]))
  }
  return reveal(settings) as ConnectionSettings
}

function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function faultsOf(error: z.ZodError, where: string): Fault[] {
  return error.issues.map((issue) => ({ where: [where, ...issue.path].join('/'), message: issue.message }))
}
