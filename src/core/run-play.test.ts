/** Random workflows played in random orders, with crashes and cancels; `test/run-world.ts` checks every step. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { expectedEnds, type NodePlan, upstreamOf, workflows } from '../../test/run-plans.ts'
import { courses, play } from '../../test/run-world.ts'
import type { RunProgress } from './run-progress.ts'

const statesOf = (progress: RunProgress) => progress.nodes.map(({ state }) => state)

/** A run is judged by the nodes that nothing waits for. */
function judged(plans: readonly NodePlan[], states: readonly string[]): 'success' | 'failed' {
  const awaited = new Set(plans.flatMap((_, index) => upstreamOf(plans, index)))
  const leaves = states.filter((_, index) => !awaited.has(index))
  return leaves.every((state) => state === 'success' || state === 'skipped') ? 'success' : 'failed'
}

describe('a run', () => {
  it('ends as its graph and the ends of its tasks say, in whatever order they come', () => {
    fc.assert(
      fc.property(workflows, courses({ cancel: false, crash: false }), (plans, course) => {
        const { progress } = play(plans, course)
        const states = statesOf(progress)
        expect(states).toEqual(expectedEnds(plans, (index) => states[index]!))
        expect(progress.state).toBe(judged(plans, states))
      }),
      { numRuns: 300 },
    )
  })

  it('ends the same when its owner is lost after any commit', () => {
    fc.assert(
      fc.property(workflows, courses({ cancel: false, crash: true }), (plans, course) => {
        const { progress } = play(plans, course)
        const states = statesOf(progress)
        expect(states).toEqual(expectedEnds(plans, (index) => states[index]!))
        expect(progress.state).toBe(judged(plans, states))
      }),
      { numRuns: 300 },
    )
  })

  it('starts nothing after a cancel, and ends as cancelled unless it had ended before', () => {
    fc.assert(
      fc.property(workflows, courses({ cancel: true, crash: true }), (plans, course) => {
        const { progress, rows } = play(plans, course)
        const cancelled = progress.cancelRequested
        expect(statesOf(progress)).toEqual(plans.map((_, index) => rows.stateOf(index, cancelled)))
        expect(progress.state).toBe(cancelled ? 'cancelled' : judged(plans, statesOf(progress)))
      }),
      { numRuns: 300 },
    )
  })
})
