/** What tasks need of the limits, and what limits there are, as workflows say. */
import type { NodeLimits } from '../sdk/pool.ts'
import type { Template } from '../sdk/reference.ts'
import type { Need } from './limit-lines.ts'
import { type DeclaredLimit, limitId } from './limit-names.ts'

interface LimitedNode {
  readonly id: string
  readonly limits?: NodeLimits
}

interface LimitedWorkflow {
  readonly name: string
  readonly workers?: number
  readonly maxActiveRuns?: number
  readonly nodes: readonly LimitedNode[]
}

/**
 * The needs of a task, in the order of all needs: what is waited for longest comes first, so that who collects them one by
 * one keeps little while it waits; tokens come last, since they are soon there.
 * @param value what the key's parts come to; called only where there is a key.
 */
export function needsOf(
  workflow: Pick<LimitedWorkflow, 'name' | 'workers'>,
  limits: NodeLimits | undefined,
  value: (parts: readonly Template[]) => readonly unknown[],
): Need[] {
  const needs: Need[] = []
  if (workflow.workers !== undefined)
    needs.push({ limit: limitId({ kind: 'workers', name: workflow.name }), amount: 1 })
  if (limits?.key) {
    const { name, parts } = limits.key
    needs.push({ limit: limitId({ kind: 'key', name, value: keyValue(value(parts)) }), amount: 1 })
  }
  if (limits?.pool) needs.push({ limit: limitId({ kind: 'pool', name: limits.pool.name }), amount: limits.pool.slots })
  if (limits?.rate) needs.push({ limit: limitId({ kind: 'rate', name: limits.rate.name }), amount: 1 })
  return needs
}

/** Whether the tasks of a mapped node may differ in what they need. */
export function differsByTask(limits: NodeLimits | undefined): boolean {
  return limits?.key !== undefined && JSON.stringify(limits.key.parts).includes('"from":"item"')
}

/** Different parts never come to the same value: `:` and `%` inside of a part are written as in a URL. */
export function keyValue(parts: readonly unknown[]): string {
  return parts
    .map((part) => (typeof part === 'string' ? part : JSON.stringify(part ?? null)))
    .map((part) => part.replaceAll('%', '%25').replaceAll(':', '%3A').replaceAll('\0', '%00'))
    .join(':')
}

/**
 * The limits that workflows declare. Where two say different things of one, the smaller stands here, and `differing` says
 * so.
 */
export function declaredLimits(workflows: readonly LimitedWorkflow[]): {
  readonly limits: readonly DeclaredLimit[]
  readonly differing: readonly { readonly workflow: string; readonly message: string }[]
} {
  const limits = new Map<string, DeclaredLimit & { readonly by: string }>()
  const differing: { workflow: string; message: string }[] = []
  for (const workflow of workflows) {
    for (const { by, ...limit } of declaredIn(workflow)) {
      const id = `${limit.kind}:${limit.name}`
      const known = limits.get(id)
      if (known && sizeOf(known) !== sizeOf(limit)) {
        const message = `${limit.kind} ${limit.name} is ${sizeOf(limit)} by task ${by}, and ${sizeOf(known)} by ${known.by}; it can be one thing only`
        differing.push({ workflow: workflow.name, message })
      }
      const isSmaller = known && limit.slots / (limit.rate?.perMs ?? 1) < known.slots / (known.rate?.perMs ?? 1)
      if (!known || isSmaller) limits.set(id, { ...limit, by: `task ${by} of workflow ${workflow.name}` })
    }
  }
  return { limits: [...limits.values()].map(({ by, ...limit }) => limit), differing }
}

function declaredIn({
  name,
  workers,
  maxActiveRuns,
  nodes,
}: LimitedWorkflow): (DeclaredLimit & { readonly by: string })[] {
  const declared: (DeclaredLimit & { by: string })[] = []
  if (workers !== undefined) declared.push({ kind: 'workers', name, slots: workers, by: name })
  if (maxActiveRuns !== undefined) declared.push({ kind: 'runs', name, slots: maxActiveRuns, by: name })
  for (const { id: by, limits } of nodes) {
    if (limits?.key) declared.push({ kind: 'key', name: limits.key.name, slots: limits.key.of, by })
    if (limits?.pool) declared.push({ kind: 'pool', name: limits.pool.name, slots: limits.pool.of, by })
    if (limits?.rate) {
      const { limit: slots, perMs, burst } = limits.rate
      declared.push({ kind: 'rate', name: limits.rate.name, slots, rate: { perMs, burst }, by })
    }
  }
  return declared
}

function sizeOf({ slots, rate }: DeclaredLimit): string {
  return rate ? `${slots} per ${rate.perMs} ms, ${rate.burst} at once` : String(slots)
}
