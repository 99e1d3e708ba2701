/** Cases with limits, and cases of plans, played in the simulation: what its judges find is a breach of 6 or of 10. */
import { drawCase } from '../../simulation/plan.ts'
import { drawPlanCase } from '../../simulation/plans/case.ts'
import { playPlans } from '../../simulation/plans/world.ts'
import { play } from '../../simulation/world.ts'
import type { Findings } from '../findings.ts'

/** So many show nearly all that ten thousand show. */
const seeds = 900
/** Cases that fail, after which no more are played. */
const enough = 5

export default async function simulation(findings: Findings): Promise<void> {
  // Nothing of it is in a database.
  const world = { breaches: async () => [], close: async () => {} }
  await findings.within(world, async () => {
    let failed = 0
    for (let seed = 1; seed <= seeds && failed < enough; seed += 1) {
      const plan = drawCase(seed)
      const runs = plan.limits === undefined ? undefined : await messageOf(() => play(plan))
      const plans = await messageOf(() => playPlans(drawPlanCase(seed)))
      for (const [invariant, message] of [[6, runs] as const, [10, plans] as const]) {
        if (message === undefined) continue
        failed += 1
        findings.note(invariant, `seed ${seed}: ${message}`)
      }
    }
  })
}

async function messageOf(play: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await play()
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
