import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  balances,
  countBatch,
  inCourse,
  mayMove,
  outcomeMoves,
  type RecordCount,
  type RecordOutcome,
  recordOutcomes,
  totals,
} from './ledger.ts'

const outcomes = fc.constantFrom(...recordOutcomes)
const batches = fc.array(fc.array(outcomes, { maxLength: 8 }), { maxLength: 6 })
const choices = fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 40 })

describe('totals', () => {
  it('are those of the records themselves, for any course of moves', () => {
    fc.assert(
      fc.property(batches, choices, (committed, moves) => {
        const records = committed.flat()
        const rows: RecordCount[] = records.map((outcome) => ({ was: null, outcome, count: 1 }))
        for (const [which, where] of moves) {
          const index = which % Math.max(1, records.length)
          const ways = outcomeMoves.filter((move) => move.was === records[index])
          if (ways.length === 0) continue
          const { was, outcome } = ways[where % ways.length]!
          records[index] = outcome
          rows.push({ was, outcome, count: 1 })
        }
        const sum = totals(committed.map(countBatch), rows)
        const standing = (outcome: RecordOutcome) => records.filter((one) => one === outcome).length
        expect(sum).toEqual({
          received: records.length,
          pending: standing('waiting'),
          written: standing('written'),
          duplicate: standing('duplicate'),
          filtered: standing('filtered'),
          rejected: standing('rejected'),
          dead: standing('dead'),
        })
        expect(balances(sum)).toBe(true)
      }),
    )
  })

  it('are the same for rows that were summed up beforehand', () => {
    const separate: RecordCount[] = [
      { was: 'waiting', outcome: 'dead', count: 1 },
      { was: 'waiting', outcome: 'dead', count: 1 },
    ]
    const batch = countBatch(['waiting', 'waiting', 'written'])
    const summed = totals([batch], [{ was: 'waiting', outcome: 'dead', count: 2 }])
    expect(totals([countBatch(['waiting', 'waiting']), countBatch(['written'])], separate)).toEqual(summed)
    expect(summed).toMatchObject({ received: 3, pending: 0, written: 1, dead: 2 })
  })

  it('refuse a move that is not legal', () => {
    expect(() => totals([], [{ was: 'written', outcome: 'dead', count: 3 }])).toThrow(
      'The ledger moves 3 records from written to dead',
    )
  })
})

describe('balances', () => {
  const balanced = { received: 6, pending: 1, written: 1, duplicate: 1, filtered: 1, rejected: 1, dead: 1 }

  it('says no when any one term is off by one', () => {
    expect(balances(balanced)).toBe(true)
    for (const term of Object.keys(balanced) as (keyof typeof balanced)[]) {
      for (const by of [1, -1]) expect(balances({ ...balanced, [term]: balanced[term] + by }), term).toBe(false)
    }
  })

  it('says no when a term is below 0, even if the sum is right', () => {
    expect(balances({ ...balanced, pending: -1, written: 3 })).toBe(false)
    expect(balances({ ...balanced, pending: 0, written: 2 })).toBe(true)
  })
})

describe('mayMove', () => {
  it('leads from what waits to every end, back from what ended badly, and nowhere else', () => {
    const ways = recordOutcomes.flatMap((was) =>
      recordOutcomes.filter((outcome) => mayMove(was, outcome)).map((outcome) => `${was} ${outcome}`),
    )
    expect(ways.toSorted()).toEqual([
      'dead waiting',
      'rejected waiting',
      'waiting dead',
      'waiting duplicate',
      'waiting filtered',
      'waiting rejected',
      'waiting written',
    ])
    for (const outcome of recordOutcomes) expect(mayMove(null, outcome)).toBe(true)
  })
})

describe('the rows of one record', () => {
  const course = fc.array(fc.nat(), { maxLength: 12 }).map((choices) => {
    const rows: { was: RecordOutcome | null; outcome: RecordOutcome }[] = [{ was: null, outcome: 'waiting' }]
    for (const choice of choices) {
      const ways = outcomeMoves.filter(({ was }) => was === rows.at(-1)!.outcome)
      if (ways.length === 0) break
      const { was, outcome } = ways[choice % ways.length]!
      rows.push({ was, outcome })
    }
    return rows
  })
  const happened = (rows: readonly { was: RecordOutcome | null; outcome: RecordOutcome }[]) =>
    rows.every(({ was }, nth) => was === (rows[nth - 1]?.outcome ?? null))

  it('are a chain in whichever order those of one instant come', () => {
    fc.assert(
      fc.property(
        course.chain((rows) => fc.tuple(fc.constant(rows), fc.shuffledSubarray(rows, { minLength: rows.length }))),
        ([rows, mixed]) => {
          expect(happened(rows)).toBe(true)
          const told = inCourse(mixed)
          expect(told).toHaveLength(rows.length)
          expect(happened(told)).toBe(true)
          expect(told.at(-1)!.outcome).toBe(rows.at(-1)!.outcome)
        },
      ),
    )
  })

  it('are told from where they are still known', () => {
    const known = [
      { was: 'dead', outcome: 'waiting' },
      { was: 'waiting', outcome: 'written' },
    ] as const
    expect(inCourse(known)).toEqual(known)
  })
})
