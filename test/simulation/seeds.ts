/** Plays the cases of a range of seeds, and tells of the first that fails what is needed to look into it. */
import { type Case, drawCase } from './plan.ts'
import { type Failure, failureOf, shrink } from './shrink.ts'

export interface Range {
  readonly from: number
  readonly seeds: number
}

export interface SeedFailure extends Failure {
  readonly seed: number
}

/** Gives the failures, `most` at the most; after these it stops. */
export async function playSeeds({ from, seeds }: Range, most = 1): Promise<SeedFailure[]> {
  const failures: SeedFailure[] = []
  for (let seed = from; seed < from + seeds && failures.length < most; seed += 1) {
    const failure = await failureOf(drawCase(seed))
    if (failure) failures.push({ seed, ...failure })
  }
  return failures
}

/** What is printed of a failure: how to replay it, and the smallest case that still fails. */
export async function told({ seed, plan, message }: SeedFailure): Promise<string> {
  const least = await shrink({ plan, message })
  return [
    `seed ${seed}: ${message}`,
    `replay it with: npm run -s simulate -- --replay ${seed}`,
    `the smallest case found: ${least.message}`,
    pictureOf(least.plan),
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
