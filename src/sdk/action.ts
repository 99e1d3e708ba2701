import type { Duration } from '../time.ts'
import type { ActionContext } from './context.ts'
import { type CallOptions, placeNode } from './graph-builder.ts'
import { checkName } from './name.ts'
import type { Args, Ref } from './reference.ts'
import type { Schema } from './schema.ts'

export interface RetryOptions {
  /** How often it is tried in all; 1 to 100, default 1. */
  readonly attempts?: number
  /** The first delay is at most this; it doubles from attempt to attempt, with full jitter. Default `1s`. */
  readonly base?: Duration
  /** No delay is longer than this. Default `5m`. */
  readonly max?: Duration
}

export interface ActionOptions<In, Input, Output> {
  readonly input?: Schema<Input, In>
  readonly output?: Schema<Output>
  readonly retry?: RetryOptions
  /** The time limit of one attempt; default `1h`. */
  readonly timeout?: Duration
  /** `process` gives each attempt a process of its own; default `shared`. */
  readonly isolation?: 'shared' | 'process'
  run(context: ActionContext<Input>): Promise<Output> | Output
}

type Call<In, Result> = object extends In
  ? (args?: Args<In>, options?: CallOptions) => Result
  : (args: Args<In>, options?: CallOptions) => Result

export interface ActionDefinition {
  readonly name: string
  readonly options: ActionOptions<unknown, unknown, unknown>
}

/** Called while a workflow is being defined, an action adds a task and gives a reference to its result. */
export type Action<In = unknown, Output = unknown> = Call<In, Ref<Output>> & {
  readonly kind: 'action'
  readonly definition: ActionDefinition
  /** One task per item of a list that is known when the run gets there; the results keep the order of the list. */
  map<Item>(
    list: Ref<readonly Item[]> | Ref<Item[]> | readonly Item[],
    each: (item: Ref<Item>) => Args<In>,
    options?: CallOptions,
  ): Ref<Output[]>
}

/** @throws SluiceError DEFINITION_INVALID */
export function action<Output, In = Record<never, never>, Input = In>(
  name: string,
  options: ActionOptions<In, Input, Output>,
): Action<In, Output> {
  checkName('action', name)
  const definition: ActionDefinition = { name, options: options as ActionOptions<unknown, unknown, unknown> }
  const call = (args?: unknown, callOptions?: CallOptions) => placeNode(definition, { args: args ?? {} }, callOptions)
  const map = (list: unknown, each: (item: never) => unknown, callOptions?: CallOptions) =>
    placeNode(definition, { over: list, each }, callOptions)
  return Object.assign(call, { kind: 'action', definition, map }) as unknown as Action<In, Output>
}
