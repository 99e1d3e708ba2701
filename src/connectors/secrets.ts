import { inspect } from 'node:util'
import { z } from 'zod'
import { type Fault, SluiceError } from '../errors.ts'
import { canonicalName, nameAdvice, namePattern, nameRule } from './names.ts'

const prefix = 'SLUICE_SECRET_'

/** `SLUICE_SECRET_KEY` is the platform's own key, so no secret can be called `key` in the environment. */
const reserved = 'SLUICE_SECRET_KEY'

/** A text that shows itself as `[secret NAME]` wherever it is printed; only `reveal` gives it. */
export class Secret {
  readonly name: string
  readonly #text: string

  constructor(name: string, text: string) {
    this.name = name
    this.#text = text
  }

  reveal(): string {
    return this.#text
  }

  toString(): string {
    return `[secret ${this.name}]`
  }

  toJSON(): string {
    return this.toString()
  }

  [inspect.custom](): string {
    return this.toString()
  }
}

export interface Secrets {
  /** Upper and lower case, `-` and `_` are the same in a name. @throws SluiceError SECRET_UNKNOWN */
  get(name: string): Secret
  /** Sorted. */
  readonly names: readonly string[]
  /** The texts, for the redaction of logs. */
  reveal(): string[]
}

/**
 * Secrets from `SLUICE_SECRET_<NAME>` of `source` and from the contents of a file, whose owner and mode the caller has
 * checked: a JSON object of texts, or lines `name=value` (`#` begins a comment line; the value is all that follows the
 * first `=`, without surrounding blanks). `source` wins over the file. An empty variable counts as not set.
 * @throws SluiceError CONFIGURATION naming key or line, never a value
 */
export function parseSecrets(source: Readonly<Record<string, string | undefined>>, fileContents = ''): Secrets {
  const secrets = new Map<string, Secret>()
  const add = (name: string, text: string) => secrets.set(canonicalName(name), new Secret(canonicalName(name), text))
  for (const [name, text] of readFile(fileContents)) add(name, text)
  for (const [variable, text] of Object.entries(source)) {
    if (variable === reserved || !variable.startsWith(prefix) || !text) continue
    const name = variable.slice(prefix.length)
    if (!namePattern.test(name)) throw invalid([{ where: variable, message: `"${name}" is not a name: ${nameRule}` }])
    add(name, text)
  }

  const names = [...secrets.keys()].sort()
  return {
    names,
    get(name) {
      const secret = secrets.get(canonicalName(name))
      if (secret !== undefined) return secret
      throw new SluiceError('SECRET_UNKNOWN', `There is no secret "${name}": ${nameAdvice(canonicalName(name), names)}`)
    },
    reveal: () => [...secrets.values()].map((secret) => secret.reveal()),
  }
}

function readFile(contents: string): [string, string][] {
  return contents.trimStart().startsWith('{') ? readJson(contents) : readLines(contents)
}

const jsonFile = z.record(z.string().regex(namePattern, { error: nameRule }), z.string().min(1))

function readJson(contents: string): [string, string][] {
  let parsed: unknown
  try {
    parsed = JSON.parse(contents)
  } catch {
    // The parser's message quotes what it read, which may be a secret.
    throw invalid([{ where: 'file', message: 'it begins with { but is not JSON' }])
  }
  const checked = jsonFile.safeParse(parsed)
  if (checked.success) return Object.entries(checked.data)
  throw invalid(
    checked.error.issues.map((issue) => ({
      where: `/${issue.path.join('/')}`,
      message: issue.code === 'invalid_key' ? `the name must be ${nameRule}` : 'a text that is not empty is needed',
    })),
  )
}

function readLines(contents: string): [string, string][] {
  const faults: Fault[] = []
  const found: [string, string][] = []
  for (const [index, line] of contents.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.trimStart().startsWith('#')) continue
    const equals = line.indexOf('=')
    const name = line.slice(0, Math.max(equals, 0)).trim()
    const value = line.slice(equals + 1).trim()
    if (namePattern.test(name) && value !== '') found.push([name, value])
    else faults.push({ where: `line ${index + 1}`, message: `name=value is needed, the name being ${nameRule}` })
  }
  if (faults.length > 0) throw invalid(faults)
  return found
}

function invalid(faults: readonly Fault[]): SluiceError {
  const detail = faults.map((fault) => `${fault.where}: ${fault.message}`).join('; ')
  return new SluiceError('CONFIGURATION', `The secrets are not valid: ${detail}`, { faults })
}
