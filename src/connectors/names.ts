import { nearest } from '../core/nearest.ts'

/** Names of connections and secrets: what is one, which are the same, which is near. */
export const namePattern = /^[a-z][a-z0-9_-]{0,62}$/i
export const nameRule = 'a letter, then up to 62 letters, digits, - or _'

/** Upper and lower case, `-` and `_` are the same in a name: `WEB_SITE` in a variable is `web-site` in a definition. */
export function canonicalName(name: string): string {
  return name.toLowerCase().replaceAll('_', '-')
}

/** The sentence after "there is no X": what was perhaps meant, and what there is. */
export function nameAdvice(wanted: string, known: readonly string[]): string {
  if (known.length === 0) return 'none is configured'
  const meant = nearest(wanted, known)
  const listed = [...known].sort().join(', ')
  return meant === undefined ? `known are: ${listed}` : `did you mean "${meant}"? Known are: ${listed}`
}
