/** What a check says. */
import type { Config } from '../../app/config.ts'
import { messageOf, SluiceError } from '../../errors.ts'

export interface Finding {
  readonly check: string
  readonly state: 'ok' | 'warn' | 'fail'
  /** What is so. */
  readonly detail: string
  /** Why that is a fault. */
  readonly why?: string
  /** What to do. */
  readonly fix?: string
}

/** What is looked at. Tests give another time and other limits of the machine. */
export interface Subject {
  readonly config: Config
  /** Milliseconds since the epoch, of this machine. */
  readonly now: () => number
  /** In [0, 1). */
  readonly random: () => number
}

/** A finding but for the name of its check. */
export type Told = Omit<Finding, 'check'>

export const ok = (detail: string): Told => ({ state: 'ok', detail })
export const warn = (detail: string, why: string, fix: string): Told => ({ state: 'warn', detail, why, fix })
export const fail = (detail: string, why: string, fix: string): Told => ({ state: 'fail', detail, why, fix })

/** Every text that an error has in it, and the codes of it and its causes. */
export function traceOf(thrown: unknown): { readonly text: string; readonly codes: readonly string[] } {
  const texts: string[] = []
  const codes: string[] = []
  for (let one: unknown = thrown, depth = 0; one !== undefined && depth < 8; depth += 1) {
    texts.push(messageOf(one))
    if (one instanceof Error && 'code' in one) codes.push(String(one.code))
    if (one instanceof AggregateError)
      for (const each of one.errors) codes.push(String((each as { code?: unknown }).code))
    one = one instanceof SluiceError || one instanceof Error ? one.cause : undefined
  }
  return { text: texts.join('\n'), codes }
}
