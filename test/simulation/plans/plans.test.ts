/**
 * Random plans by the clock and by events, followed by several engines that die, lose connections and are not told: see
 * `world.ts`. Many more: `npm run -s simulate -- --seeds 1000000`.
 */
import { describe, expect, it } from 'vitest'
import { playSeeds, told } from '../seeds.ts'
import { drawPlanCase } from './case.ts'
import { playPlans } from './world.ts'

/** How many are played: SIMULATED_SEEDS, default 10,000. */
const seeds = Number(process.env.SIMULATED_SEEDS ?? 10_000)
/** Each test plays a part, so that none comes near its time limit. */
const parts = 10

describe(`the plans of ${seeds} simulated seeds`, () => {
  for (let part = 0; part < parts; part += 1) {
    const from = 1 + Math.floor((part * seeds) / parts)
    const range = { from, seeds: 1 + Math.floor(((part + 1) * seeds) / parts) - from }
    it(`from ${range.from} on have no violations`, { timeout: 300_000 }, async () => {
      const [failure] = await playSeeds(range, 1, ['plans'])
      if (failure) expect.fail(process.env.SIMULATED_SEEDS === undefined ? await told(failure) : failure.message)
    })
  }
})

it('a seed draws the same case, and a case plays the same course', async () => {
  for (const seed of [3, 17, 4_711]) {
    expect(drawPlanCase(seed)).toEqual(drawPlanCase(seed))
    expect(await playPlans(drawPlanCase(seed))).toEqual(await playPlans(drawPlanCase(seed)))
  }
})
