import type { ActionDefinition, ActionOptions } from './action-definition.ts'
import { type CallOptions, placeNode } from './graph-builder.ts'
import { checkName } from './name.ts'
import type { MappedKey } from './pool.ts'
import type { Args, Ref } from './reference.ts'

type Call<In, Result> = object extends In
  ? (args?: Args<In>, options?: CallOptions) => Result
  : (args: Args<In>, options?: CallOptions) => Result

/** Called while a workflow is being defined, an action adds a task and gives a reference to its result. */
export type Action<In = unknown, Output = unknown> = Call<In, Ref<Output>> & {
  readonly kind: 'action'
  readonly definition: ActionDefinition
  /** One task per item of a list that is known when the run gets there; the results keep the order of the list. */
  map<Item>(
    list: Ref<readonly Item[]> | Ref<Item[]> | readonly Item[],
    each: (item: Ref<Item>) => Args<In>,
    options?: Omit<CallOptions, 'key'> & MappedKey<Item>,
  ): Ref<Output[]>
}

/** @throws SluiceError DEFINITION_INVALID */
export function action<Output, In = Record<never, never>, Input = In>(
  name: string,
  options: ActionOptions<In, Input, Output>,
): Action<In, Output> {
  checkName('action', name)
  const definition: ActionDefinition = { name, options: options as ActionOptions<unknown, unknown, unknown> }
  const { retry, timeout, within } = options
  const defaults = { retry, ...(timeout === undefined ? {} : { timeout }), ...(within === undefined ? {} : { within }) }
  const placed = { kind: 'action', target: name, called: `action ${name}`, action: definition, defaults } as const
  const call = (args?: unknown, callOptions?: CallOptions) => placeNode({ ...placed, args: args ?? {} }, callOptions)
  const map = (list: unknown, each: (item: never) => unknown, callOptions?: CallOptions) =>
    placeNode({ ...placed, args: {}, over: list, each }, callOptions)
  return Object.assign(call, { kind: 'action', definition, map }) as unknown as Action<In, Output>
}
