import fc from 'fast-check'
import { expect, it } from 'vitest'
import { afterPass, type BackFill, decideBackFill } from './back-fill.ts'

const grey = { name: 'grey', version: 1 }
const small = { name: 'small', version: 1 }
const minute = 60_000

/** What a run at a time does, when a pass makes so many things. */
function runAt(before: BackFill | undefined, transforms: (typeof grey)[], now: number, made: number, asked = false) {
  const decision = decideBackFill(before, transforms, `run ${now}`, now, asked)
  return decision.what === 'pass' ? { ...decision, after: afterPass(decision.before, made) } : decision
}

it('passes once when transforms are new, once more after shards have handed over, and then rests', () => {
  const first = runAt(undefined, [grey], 0, 5)
  expect(first).toMatchObject({ what: 'pass', after: { settled: false, run: null } })
  const second = runAt((first as { after: BackFill }).after, [grey], 10 * minute, 0)
  expect(second).toMatchObject({ what: 'pass', after: { settled: true } })
  const settled = (second as { after: BackFill }).after
  expect(runAt(settled, [grey], 20 * minute, 0)).toEqual({ what: 'settled' })
  expect(runAt(settled, [grey], 20 * minute, 0, true)).toMatchObject({ what: 'pass', after: { settled: true } })
  expect(runAt(settled, [grey, small], 20 * minute, 0)).toMatchObject({ what: 'pass', after: { settled: false } })
  expect(runAt(settled, [{ ...grey, version: 2 }], 20 * minute, 0)).toMatchObject({ what: 'pass' })
})

it('does not rest too early, nor while something was missing', () => {
  const first = (runAt(undefined, [grey], 0, 0) as { after: BackFill }).after
  expect(first.settled).toBe(false)
  const early = (runAt(first, [grey], 9 * minute, 0) as { after: BackFill }).after
  expect(early.settled).toBe(false)
  const missing = (runAt(early, [grey], 15 * minute, 1) as { after: BackFill }).after
  expect(missing.settled).toBe(false)
  expect((runAt(missing, [grey], 25 * minute, 0) as { after: BackFill }).after.settled).toBe(true)
})

it('leaves a pass to the run that is at it, until that is silent', () => {
  const { before } = decideBackFill(undefined, [grey], 'one', 0, false) as { before: BackFill }
  expect(decideBackFill(before, [grey], 'two', minute, true)).toEqual({ what: 'under way', run: 'one' })
  expect(decideBackFill(before, [grey], 'one', minute, false).what).toBe('pass')
  expect(decideBackFill(before, [grey], 'two', 3 * minute, false).what).toBe('pass')
  // Other transforms are another matter.
  expect(decideBackFill(before, [grey, small], 'two', minute, false).what).toBe('pass')
})

it('counts transforms as the same in any order', () => {
  fc.assert(
    fc.property(fc.shuffledSubarray([grey, small, { name: 'grey', version: 2 }], { minLength: 1 }), (transforms) => {
      const { before } = decideBackFill(undefined, transforms, 'one', 0, false) as { before: BackFill }
      const settled = { ...before, settled: true }
      expect(decideBackFill(settled, [...transforms].reverse(), 'two', minute, false).what).toBe('settled')
    }),
  )
})
