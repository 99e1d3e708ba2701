import type { Duration } from '../time.ts'
import { parseDuration } from '../time.ts'
import { buildGraph, type GraphDefinition } from './graph-builder.ts'
import { checkName } from './name.ts'
import type { Plan } from './plan.ts'
import type { Ref, Resolved } from './reference.ts'
import { type Schema, z } from './schema.ts'

export interface WorkflowOptions<Params, ParamsIn, Returned> {
  /** One sentence, up to 1,000 characters. */
  readonly description?: string
  /** Names by which lists of workflows are narrowed; up to 20. */
  readonly tags?: readonly string[]
  /** What a run is started with. Default: nothing. */
  readonly params?: Schema<Params, ParamsIn>
  /** Why it starts, besides by hand. */
  readonly plans?: readonly Plan[]
  /** How many of its tasks may be running at once; 1 to 10,000. Default: as many as the runners take. */
  readonly workers?: number
  /** How many of its runs may be running at once; 1 to 100,000. The others wait. Default: any number. */
  readonly maxActiveRuns?: number
  /** The time limit of a run from its start on: then its tasks are stopped, and it ends as failed. Default: none. */
  readonly timeout?: Duration
  /** Whole number of -1,000 to 1,000: runs of higher priority go first. Default 0. */
  readonly priority?: number
  /**
   * Calls actions; runs when the project is built, never with values. What it returns, references or an object of them, is
   * the result of its runs.
   */
  define(scope: { readonly params: { readonly [K in keyof Params]-?: Ref<Params[K]> } }): Returned
}

/** `Params` is what a run can be started with, `Output` what it results in. */
export interface Workflow<Params = unknown, Output = unknown> {
  readonly kind: 'workflow'
  readonly name: string
  readonly description: string | undefined
  readonly tags: readonly string[]
  readonly params: Schema<Params>
  readonly plans: readonly Plan[]
  readonly workers: number | undefined
  readonly maxActiveRuns: number | undefined
  readonly timeoutMs: number | undefined
  readonly priority: number | undefined
  readonly define: (params: unknown) => unknown
  /** Never set: carries the type. */
  readonly output?: Output
}

/** @throws SluiceError DEFINITION_INVALID */
export function workflow<Params extends object = Record<never, never>, ParamsIn = Params, Returned = void>(
  name: string,
  options: WorkflowOptions<Params, ParamsIn, Returned>,
): Workflow<ParamsIn, Resolved<Returned>> {
  checkName('workflow', name)
  for (const tag of options.tags ?? []) checkName('tag', tag)
  return {
    kind: 'workflow',
    name,
    description: options.description,
    tags: options.tags ?? [],
    params: (options.params ?? z.object({})) as unknown as Schema<ParamsIn>,
    plans: options.plans ?? [],
    workers: options.workers,
    maxActiveRuns: options.maxActiveRuns,
    timeoutMs: options.timeout === undefined ? undefined : parseDuration(options.timeout),
    priority: options.priority,
    define: (params) => options.define({ params: params as never }),
  }
}

/** Runs `define`. @throws SluiceError DEFINITION_INVALID */
export function graphOf(workflow: Workflow): GraphDefinition {
  return buildGraph(workflow.name, workflow.define)
}
