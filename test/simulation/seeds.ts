/** Plays the cases of a range of seeds, and tells of the first that fails what is needed to look into it. */
import { type Case, drawCase } from './plan.ts'
import { drawPlanCase } from './plans/case.ts'
import { shrinkPlans } from './plans/shrink.ts'
import { playPlans } from './plans/world.ts'
import { failureIn, failureOf, shrink } from './shrink.ts'

export interface Range {
  readonly from: number
  readonly seeds: number
}

/** What of a seed is played: its runs, or its plans. */
export type Played = 'runs' | 'plans'

export interface SeedFailure {
  readonly seed: number
  readonly of: Played
  readonly message: string
  /** Plays many cases to find a smaller one that fails, and gives its message and its picture. */
  readonly smallest: () => Promise<readonly string[]>
}

/** Gives the failures, `most` at the most; after these it stops. */
export async function playSeeds(
  { from, seeds }: Range,
  most = 1,
  parts: readonly Played[] = ['runs', 'plans'],
): Promise<SeedFailure[]> {
  const failures: SeedFailure[] = []
  for (let seed = from; seed < from + seeds && failures.length < most; seed += 1)
    for (const part of parts) {
      const failure = part === 'runs' ? await runsOf(seed) : await plansOf(seed)
      if (failure) failures.push(failure)
    }
  return failures
}

async function runsOf(seed: number): Promise<SeedFailure | undefined> {
  const failure = await failureOf(drawCase(seed))
  const smallest = async () => {
    const { message, plan } = await shrink(failure!)
    return [message, pictureOf(plan)]
  }
  return failure && { seed, of: 'runs', message: failure.message, smallest }
}

async function plansOf(seed: number): Promise<SeedFailure | undefined> {
  const failure = await failureIn(drawPlanCase(seed), playPlans)
  const smallest = async () => {
    const { message, plan } = await shrinkPlans(failure!)
    return [message, JSON.stringify(plan)]
  }
  return failure && { seed, of: 'plans', message: failure.message, smallest }
}

/** What is printed of a failure: how to replay it, and the smallest case that still fails. */
export async function told({ seed, of, message, smallest }: SeedFailure): Promise<string> {
  const [least, ...picture] = await smallest()
  return [
    `seed ${seed}, its ${of}: ${message}`,
    `replay it with: npm run -s simulate -- --replay ${seed}`,
    `the smallest case found: ${least}`,
    ...picture,
  ].join('\n')
}

function pictureOf({ workflows, ...rest }: Case): string {
  const nodes = workflows.flatMap(({ name, nodes: own, ...more }) => [
    `workflow ${name} ${JSON.stringify(more)}`,
    ...own.map(({ manifest, ...sim }) => {
      const { timeoutMs, ...shown } = manifest
      return `  ${JSON.stringify(shown)} ${JSON.stringify(sim)}`
    }),
  ])
  return [JSON.stringify(rest), ...nodes].join('\n')
}
