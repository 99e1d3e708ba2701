import type { Log } from '../sdk/context.ts'
import type { Config } from './config.ts'

const levels = ['debug', 'info', 'warn', 'error'] as const

/** The log without what is below a level. */
export function fromLevel<SomeLog extends Log>(level: Config['logLevel'], log: SomeLog): SomeLog {
  const quiet = levels.slice(0, levels.indexOf(level)).map((below) => [below, () => {}] as const)
  return { ...log, ...Object.fromEntries(quiet) }
}
