/**
 * What a site's page is searched for: RE2 syntax, in time that grows with the length of the page and of the pattern alone.
 * https://github.com/google/re2/wiki/Syntax; `(?i)` for any case, `(?s)` for `.` that takes ends of lines too.
 */
import { RE2JS, RE2JSException } from 're2js'

/** Characters. */
export const longestPattern = 1_000
/** Instructions of its program, what a search costs per character at worst: a plain text of the longest length fits. */
const largestProgram = 1_100

/** @throws Error saying what is wrong with it. */
export function compilePattern(pattern: string): RE2JS {
  if (pattern.length > longestPattern) throw new Error(`it is longer than ${longestPattern} characters`)
  let compiled: RE2JS
  try {
    compiled = RE2JS.compile(pattern)
  } catch (thrown) {
    if (!(thrown instanceof RE2JSException)) throw thrown
    const found = thrown.message.replace(/^error parsing regexp: /, '')
    throw new Error(`${found} (RE2 syntax: no backreferences, no look-around, counts up to 1000)`)
  }
  const size = compiled.programSize()
  if (size > largestProgram) throw new Error(`it is too large: ${size} instructions, ${largestProgram} are allowed`)
  return compiled
}

/** Why it is refused, or undefined. */
export function patternFault(pattern: string): string | undefined {
  try {
    compilePattern(pattern)
    return undefined
  } catch (thrown) {
    return (thrown as Error).message
  }
}
