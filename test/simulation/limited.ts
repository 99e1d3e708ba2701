/** Limits of a case: what its tasks share, how many runners there are, and how often people change it. */
import type { NodeManifest } from '../../src/core/manifest.ts'
import type { NodeLimits } from '../../src/sdk/pool.ts'
import type { Template } from '../../src/sdk/reference.ts'
import { Draw } from './draw.ts'
import type { Case, SimNode, SimWorkflow } from './plan.ts'

export interface SimLimits {
  /** Of each engine. */
  readonly runners: { readonly shared: number; readonly process: number }
  /** Of the runs that are started from outside, in turn. */
  readonly priorities: readonly number[]
  /** How often somebody sets a limit, and lets it be as defined again in the end. */
  readonly settings: number
  /** Words to the rows that are lost, or whose answers are; and news of limits that are never heard. */
  readonly lostWords: number
  /** Leases that lapse while an answer to a word is on its way. */
  readonly lateAnswers: number
}

const item = { $ref: { from: 'item', path: [] } } as unknown as Template

/** The case as it is, or with limits; what else is in it stays. */
export function limited(plan: Case, seed: number): Case {
  const draw = new Draw(seed ^ 0x51ce)
  if (draw.chance(0.65)) return plan
  const rough = draw.chance(0.6)
  const small = draw.chance(0.6)
  return {
    ...plan,
    workflows: plan.workflows.map((workflow) => limitedWorkflow(draw, workflow)),
    runs: small ? plan.runs : plan.runs + 1 + draw.below(2),
    owners: draw.chance(0.3) ? 1 : 2 + draw.below(2),
    limits: {
      runners: { shared: 1 + draw.below(4), process: 1 + draw.below(2) },
      priorities: draw.chance(0.4) ? [0, 1, 0, 2] : [0],
      settings: draw.chance(0.2) ? 1 + draw.below(2) : 0,
      lostWords: rough ? draw.below(4) : 0,
      lateAnswers: rough ? draw.below(3) : 0,
    },
  }
}

function limitedWorkflow(draw: Draw, workflow: SimWorkflow): SimWorkflow {
  return {
    ...workflow,
    nodes: workflow.nodes.map((sim) => limitedNode(draw, sim)),
    ...(draw.chance(0.15) ? { workers: 1 + draw.below(3) } : {}),
    ...(draw.chance(0.25) ? { maxActiveRuns: 1 + draw.below(2) } : {}),
  }
}

function limitedNode(draw: Draw, sim: SimNode): SimNode {
  const { kind = 'action' } = sim.manifest
  if (kind !== 'action' || draw.chance(0.3)) return sim
  return { ...sim, manifest: { ...sim.manifest, limits: drawLimits(draw, sim.manifest) } }
}

/** Two pools, a key with two values, a rate: few enough that tasks meet. */
function drawLimits(draw: Draw, { over }: NodeManifest): NodeLimits {
  const kinds = draw.pick(['pool', 'pool', 'key', 'rate', 'pool key', 'key rate', 'pool key rate', 'pool rate'])
  const pool = draw.pick([
    { name: 'wide', of: 3, slots: 1 + draw.below(3) },
    { name: 'narrow', of: 1, slots: 1 },
    { name: 'wide', of: 3, slots: 1 },
  ])
  const parts = over !== undefined && draw.chance(0.6) ? [item] : [draw.below(2)]
  return {
    ...(kinds.includes('pool') ? { pool } : {}),
    ...(kinds.includes('key') ? { key: { name: 'of', of: draw.chance(0.7) ? 1 : 2, parts } } : {}),
    ...(kinds.includes('rate') ? { rate: { name: 'pace', limit: 2, perMs: 400, burst: 2 } } : {}),
  }
}
