import { type Duration, parseDuration } from '../time.ts'
import { type Action, action } from './action.ts'
import type { ActionOptions } from './action-definition.ts'
import type { ActionContext } from './context.ts'
import { Deferral } from './ends.ts'

export interface SensorOptions<In, Input, Output> extends Omit<ActionOptions<In, Input, Output>, 'run' | 'within'> {
  /** How long after one look the next one begins; default `1m`. */
  readonly every?: Duration
  /** The time limit of one look; default `1m`. */
  readonly timeout?: Duration
  /** How long it looks in all before its task fails; default `1d`. */
  readonly within?: Duration
  /** Looks once: gives what it found, or undefined or false when that is not there yet. */
  check(context: ActionContext<Input>): Promise<Output | undefined | false> | Output | undefined | false
}

/** An action that looks again and again until it finds something; between two looks it holds no runner. */
export function sensor<Output, In = Record<never, never>, Input = In>(
  name: string,
  { every = '1m', within = '1d', timeout = '1m', check, ...options }: SensorOptions<In, Input, Output>,
): Action<In, Output> {
  const everyMs = parseDuration(every)
  return action<Output, In, Input>(name, {
    ...options,
    timeout,
    within,
    async run(context) {
      const found = await check(context)
      if (found === undefined || found === false) throw new Deferral(everyMs, { kind: 'sensor', every })
      return found
    },
  })
}
