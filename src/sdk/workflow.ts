import { buildGraph, type GraphDefinition } from './graph-builder.ts'
import { checkName } from './name.ts'
import type { Plan } from './plan.ts'
import { type Ref, reference } from './reference.ts'
import { type Schema, z } from './schema.ts'

export interface WorkflowOptions<Params, ParamsIn> {
  /** What a run is started with. Default: nothing. */
  readonly params?: Schema<Params, ParamsIn>
  /** Why it starts, besides by hand. */
  readonly plans?: readonly Plan[]
  /** How many tasks of one run may be running at once; 1 to 10,000. Default: as many as the runners take. */
  readonly workers?: number
  /** Calls actions; runs when the project is built, never with values. */
  define(scope: { readonly params: { readonly [K in keyof Params]-?: Ref<Params[K]> } }): void
}

/** `Params` is what a run can be started with. */
export interface Workflow<Params = unknown> {
  readonly kind: 'workflow'
  readonly name: string
  readonly params: Schema<Params>
  readonly plans: readonly Plan[]
  readonly workers: number | undefined
  readonly define: () => void
}

/** @throws SluiceError DEFINITION_INVALID */
export function workflow<Params extends object = Record<never, never>, ParamsIn = Params>(
  name: string,
  options: WorkflowOptions<Params, ParamsIn>,
): Workflow<ParamsIn> {
  checkName('workflow', name)
  return {
    kind: 'workflow',
    name,
    params: (options.params ?? z.object({})) as unknown as Schema<ParamsIn>,
    plans: options.plans ?? [],
    workers: options.workers,
    define: () => options.define({ params: reference({ from: 'param', path: [] }) as never }),
  }
}

/** Runs `define`. @throws SluiceError DEFINITION_INVALID */
export function graphOf(workflow: Workflow): GraphDefinition {
  return buildGraph(workflow.name, workflow.define)
}
