/** Makes a case that fails smaller: what can be left out, or be plainer, without the failure going away, is. */
import type { NodeManifest } from '../../src/core/manifest.ts'
import type { Case, SimNode, SimWorkflow } from './plan.ts'
import { play } from './world.ts'

/** Most cases that are played on the way. */
const mostPlays = 4_000
/** Things take another course in a smaller case: it is given a few. */
const courses = 8

export interface Failure<Of = Case> {
  readonly plan: Of
  readonly message: string
}

export const failureOf = (plan: Case): Promise<Failure | undefined> => failureIn(plan, play)

export async function failureIn<Of>(plan: Of, play: (plan: Of) => Promise<unknown>): Promise<Failure<Of> | undefined> {
  try {
    await play(plan)
    return undefined
  } catch (error) {
    return { plan, message: error instanceof Error ? error.message : String(error) }
  }
}

export const shrink = (failure: Failure): Promise<Failure> => shrinkWith(failure, play, plainer)

/** @param plainer cases with one thing less, the largest steps first */
export async function shrinkWith<Of extends { readonly course: number }>(
  failure: Failure<Of>,
  play: (plan: Of) => Promise<unknown>,
  plainer: (plan: Of) => Iterable<Of>,
): Promise<Failure<Of>> {
  let least = failure
  let plays = 0
  for (let again = true; again; ) {
    again = false
    for (const smaller of plainer(least.plan)) {
      for (let course = 0; course < courses && !again && plays < mostPlays; course += 1) {
        plays += 1
        const found = await failureIn({ ...smaller, course: smaller.course + course * 7_919 }, play)
        if (!found) continue
        least = found
        again = true
      }
      if (again) break
    }
  }
  return least
}

/** The case with one thing less, the largest steps first. */
function* plainer(plan: Case): Generator<Case> {
  const { faults } = plan
  if (plan.runs > 1) yield { ...plan, runs: 1 }
  if (plan.runs > 2) yield { ...plan, runs: plan.runs - 1 }
  yield* withFewerLimits(plan)
  const last = plan.workflows.at(-1)!.name
  if (
    !plan.workflows.some(({ nodes }) => nodes.some(({ manifest }) => manifest.action === last)) &&
    plan.workflows.length > 1
  )
    yield { ...plan, workflows: plan.workflows.slice(0, -1) }
  if (plan.owners > 1) yield { ...plan, owners: 1 }
  if (faults.repeats) yield { ...plan, faults: { ...faults, repeats: false } }
  for (const [name, count] of Object.entries(faults))
    if (typeof count === 'number' && count > 0) yield { ...plan, faults: { ...faults, [name]: count - 1 } }
  for (const [at, workflow] of plan.workflows.entries()) {
    const changed = (other: SimWorkflow): Case => ({ ...plan, workflows: plan.workflows.with(at, other) })
    for (let node = workflow.nodes.length - 1; node >= 0 && workflow.nodes.length > 1; node -= 1)
      yield changed(without(workflow, node))
    for (const name of ['timeoutMs', 'workers', 'output', 'maxActiveRuns'] as const) {
      const { [name]: left, ...rest } = workflow
      if (left !== undefined) yield changed(rest as SimWorkflow)
    }
    for (const [node, sim] of workflow.nodes.entries())
      for (const other of plainerNodes(sim)) yield changed({ ...workflow, nodes: workflow.nodes.with(node, other) })
  }
}

function* withFewerLimits({ limits, ...plan }: Case): Generator<Case> {
  if (limits === undefined) return
  yield plan
  if (limits.priorities.length > 1) yield { ...plan, limits: { ...limits, priorities: [0] } }
  for (const name of ['settings', 'lostWords', 'lateAnswers'] as const)
    if (limits[name] > 0) yield { ...plan, limits: { ...limits, [name]: limits[name] - 1 } }
}

function without(workflow: SimWorkflow, gone: number): SimWorkflow {
  const at = (node: number) => (node > gone ? node - 1 : node)
  // What referred to the node refers to nothing.
  const moved = <Value>(template: Value): Value =>
    JSON.parse(JSON.stringify(template ?? null), (key, value) => {
      if (key !== '$ref' || value?.from !== 'node') return value
      return value.node === gone ? { from: 'param', path: ['nothing'] } : { ...value, node: at(value.node) }
    })
  const nodes = workflow.nodes.flatMap((sim, node): SimNode[] => {
    if (node === gone) return []
    const { upstream, arms, teardownOf, over, args, ...rest } = sim.manifest
    const left = arms?.filter(({ branch }) => branch !== gone).map(({ branch, arm }) => ({ branch: at(branch), arm }))
    const manifest: NodeManifest = {
      ...rest,
      upstream: upstream.filter((up) => up !== gone).map(at),
      args: moved(args),
      ...(over === undefined ? {} : { over: moved(over) }),
      ...(left === undefined || left.length === 0 ? {} : { arms: left }),
      ...(teardownOf === undefined || teardownOf === gone ? {} : { teardownOf: at(teardownOf) }),
    }
    return [{ ...sim, manifest }]
  })
  const { output, ...others } = workflow
  return { ...others, nodes, ...(output === undefined ? {} : { output: moved(output) }) }
}

const plain = { losses: 0, waits: 0, failures: [], last: 'success' } as const

/** Of a node that is not mapped no key can be of its item. */
function withoutItem(manifest: NodeManifest): NodeManifest {
  const { limits } = manifest
  if (limits?.key === undefined) return manifest
  const parts = limits.key.parts.map((part) => (typeof part === 'object' ? 0 : part))
  return { ...manifest, limits: { ...limits, key: { ...limits.key, parts } } }
}

function* plainerNodes(sim: SimNode): Generator<SimNode> {
  const { manifest } = sim
  for (const name of ['over', 'limits', 'withinMs', 'stage', 'arms', 'priority', 'teardownOf'] as const) {
    const { [name]: left, ...rest } = manifest
    if (left !== undefined) yield { ...sim, manifest: name === 'over' ? withoutItem(rest) : rest }
  }
  if (manifest.rule !== 'all_success') yield { ...sim, manifest: { ...manifest, rule: 'all_success' } }
  if (manifest.retry.errors) yield { ...sim, manifest: { ...manifest, retry: { ...manifest.retry, errors: {} } } }
  if (manifest.isolation !== 'shared') yield { ...sim, manifest: { ...manifest, isolation: 'shared' } }
  for (const up of manifest.upstream)
    if (up !== manifest.teardownOf && !manifest.arms?.some(({ branch }) => branch === up))
      yield { ...sim, manifest: { ...manifest, upstream: manifest.upstream.filter((other) => other !== up) } }
  if (sim.fates.length > 1) yield { ...sim, fates: sim.fates.slice(0, 1) }
  for (const [at, fate] of sim.fates.entries()) {
    if (JSON.stringify(fate) === JSON.stringify(plain)) continue
    yield { ...sim, fates: sim.fates.with(at, plain) }
    for (const [part, value] of Object.entries(plain))
      if (JSON.stringify(fate[part as keyof typeof fate]) !== JSON.stringify(value))
        yield { ...sim, fates: sim.fates.with(at, { ...fate, [part]: value }) }
  }
}
