/**
 * Random workflows over all that a workflow can be, played against crashes, zombies, lost answers and late messages: see
 * `world.ts`. Many more: `npm run -s simulate -- --seeds 1000000`.
 */
import { describe, expect, it } from 'vitest'
import { drawCase, drawPlain } from './plan.ts'
import { playSeeds, told } from './seeds.ts'
import { failureOf } from './shrink.ts'
import { play } from './world.ts'

/** How many are played: SIMULATED_SEEDS, default 10,000. */
const seeds = Number(process.env.SIMULATED_SEEDS ?? 10_000)
/** Each test plays a part, so that none comes near its time limit. */
const parts = 10

describe(`${seeds} simulated seeds`, () => {
  for (let part = 0; part < parts; part += 1) {
    const from = 1 + Math.floor((part * seeds) / parts)
    const range = { from, seeds: 1 + Math.floor(((part + 1) * seeds) / parts) - from }
    it(`from ${range.from} on have no violations`, { timeout: 300_000 }, async () => {
      const [failure] = await playSeeds(range, 1, ['runs'])
      // To make it smaller takes seconds, which those who play fewer seeds do not want.
      if (failure) expect.fail(process.env.SIMULATED_SEEDS === undefined ? await told(failure) : failure.message)
    })
  }
})

it('a seed draws the same case, and a case plays the same course', async () => {
  for (const seed of [3, 17, 4_711]) {
    expect(drawCase(seed)).toEqual(drawCase(seed))
    expect(await play(drawCase(seed))).toEqual(await play(drawCase(seed)))
  }
})

it.each([
  // A cancel long after a list of which some had begun: nobody was cancelled before it.
  36_599,
  // A task was told to stop for its time, and its run was cleared before it had: its time had been over.
  263_501,
  // The same, where a write failed meanwhile.
  557_885,
  // Runs of runs of runs, all of which are lost again and again: it takes 27,000 steps.
  448_708,
  // A list of which no task had begun again is cancelled as one, and then cleared by the name of a task that it has no more.
  809_820,
])('seed %i, without limits, has no violations', async (seed) => {
  expect(await failureOf(drawPlain(seed))).toBeUndefined()
})

it.each([
  // Its end was written, then cleared, and it was taken again by the engine that had not yet heard of that end.
  247_858,
  // An engine had ended an attempt since its lease was in doubt, went on, and was killed before it had written that end.
  452_872,
])('seed %i, with limits, has no violations', async (seed) => {
  expect(await failureOf(drawCase(seed))).toBeUndefined()
})
