/** Makes a case of plans that fails smaller. */
import { type Failure, shrinkWith } from '../shrink.ts'
import type { PlanCase } from './case.ts'
import { playPlans } from './world.ts'

export const shrinkPlans = (failure: Failure<PlanCase>): Promise<Failure<PlanCase>> =>
  shrinkWith(failure, playPlans, plainer)

/** The case with one thing less, the largest steps first. */
function* plainer(plan: PlanCase): Generator<PlanCase> {
  const { topic, datasets, clocks, faults, most } = plan
  for (const name of ['topic', 'datasets'] as const) {
    const { [name]: left, ...rest } = plan
    if (left !== undefined) yield rest
  }
  if (plan.hook) yield { ...plan, hook: false }
  for (const at of clocks.keys()) yield { ...plan, clocks: clocks.toSpliced(at, 1) }
  if (plan.engines > 1) yield { ...plan, engines: plan.engines - 1 }
  if (plan.steps > 10) yield { ...plan, steps: Math.floor(plan.steps / 2) }
  if (faults.deaf) yield { ...plan, faults: { ...faults, deaf: false } }
  for (const [name, count] of Object.entries(faults))
    if (typeof count === 'number' && count > 0) yield { ...plan, faults: { ...faults, [name]: count - 1 } }
  for (const [at, clock] of clocks.entries()) {
    const { startMs, ...rest } = clock
    if (startMs !== undefined) yield { ...plan, clocks: clocks.with(at, rest) }
    if (clock.unfit) yield { ...plan, clocks: clocks.with(at, { ...clock, unfit: false }) }
  }
  if (topic?.batch) yield { ...plan, topic: { partitions: topic.partitions, onlyGood: topic.onlyGood } }
  if (topic && topic.partitions > 1) yield { ...plan, topic: { ...topic, partitions: 1 } }
  if (topic?.onlyGood) yield { ...plan, topic: { ...topic, onlyGood: false } }
  if (datasets && datasets.names.length > 1) yield { ...plan, datasets: { ...datasets, names: ['a'] } }
  for (const [name, count] of Object.entries(most)) if (count < 100) yield { ...plan, most: { ...most, [name]: 100 } }
}
