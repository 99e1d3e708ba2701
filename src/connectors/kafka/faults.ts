/** What the client library throws, as errors of ours: what is wrong, without addresses' secrets, and whether it passes. */
import { messageOf, SluiceError } from '../../errors.ts'

interface Found {
  readonly apiIds: readonly string[]
  readonly texts: readonly string[]
}

/** The library nests errors: groups, causes. */
function walk(thrown: unknown, found: { apiIds: string[]; texts: string[] }, depth = 0): void {
  if (!(thrown instanceof Error) || depth > 6) return
  if ('apiId' in thrown && typeof thrown.apiId === 'string') found.apiIds.push(thrown.apiId)
  if (!('errors' in thrown)) found.texts.push(thrown.message)
  if (thrown instanceof AggregateError) for (const one of thrown.errors) walk(one, found, depth + 1)
  if (thrown.cause !== undefined) walk(thrown.cause, found, depth + 1)
}

function lookInto(thrown: unknown): Found {
  const found = { apiIds: [], texts: [] }
  walk(thrown, found)
  return found
}

/** Whether Kafka answered with that error, such as `OFFSET_OUT_OF_RANGE`. */
export const isKafkaError = (thrown: unknown, ...ids: readonly string[]): boolean =>
  lookInto(thrown).apiIds.some((id) => ids.includes(id))

const refusals = /AUTHORIZATION_FAILED|SASL|UNSUPPORTED_VERSION|INVALID_/

/** CONFIGURATION for what stays as it is until somebody changes it, else UNAVAILABLE. */
export function kafkaFault(what: string, thrown: unknown): SluiceError {
  if (thrown instanceof SluiceError) return thrown
  const { apiIds, texts } = lookInto(thrown)
  const said = [...new Set([...apiIds, ...texts])].slice(0, 4).join('; ') || messageOf(thrown)
  const denied = apiIds.some((id) => refusals.test(id)) || texts.some((text) => /[Aa]uthentication/.test(text))
  return new SluiceError(denied ? 'CONFIGURATION' : 'UNAVAILABLE', `Kafka: ${what}: ${said}`, { cause: thrown })
}
