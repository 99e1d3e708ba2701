import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Watermark } from './watermark.ts'

type Call = { admit: true } | { settle: number } | { take: true }

const calls = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constant<Call>({ admit: true }) },
    { weight: 4, arbitrary: fc.nat(1_000).map((settle): Call => ({ settle })) },
    { weight: 1, arbitrary: fc.constant<Call>({ take: true }) },
  ),
  { maxLength: 300 },
)

describe('Watermark', () => {
  it('gives what a list of all offsets gives, for any interleaving', () => {
    fc.assert(
      fc.property(fc.integer(), calls, fc.integer({ min: 1, max: 20 }), fc.nat(3), (first, steps, limit, gap) => {
        const watermark = new Watermark<string>()
        const all: { offset: number; ending?: string; taken?: true }[] = []
        for (const step of steps) {
          const above = all.filter((one) => !one.taken)
          const open = above.filter((one) => one.ending === undefined)
          if ('admit' in step) {
            expect(watermark.mayAdmit(limit)).toBe(above.length < limit)
            if (above.length >= limit) continue
            const offset = first + all.length * (1 + gap)
            watermark.admit(offset)
            all.push({ offset })
          } else if ('settle' in step && open.length > 0) {
            const one = open[step.settle % open.length]!
            one.ending = `ending ${step.settle}`
            watermark.settle(one.offset, one.ending)
          } else if ('take' in step) {
            const stop = above.findIndex((one) => one.ending === undefined)
            const ready = stop < 0 ? above : above.slice(0, stop)
            for (const one of ready) one.taken = true
            expect(watermark.take()).toEqual(
              ready.length === 0
                ? undefined
                : { to: ready.at(-1)!.offset + 1, endings: ready.map((one) => one.ending) },
            )
          }
          expect(watermark.inFlight).toBe(all.filter((one) => one.ending === undefined).length)
          expect(watermark.distance).toBe(all.filter((one) => !one.taken).length)
        }
      }),
    )
  })

  it('holds back what is settled above an open offset, until that one is settled', () => {
    const watermark = new Watermark<'written' | 'waiting'>()
    for (const offset of [7, 8, 9]) watermark.admit(offset)
    watermark.settle(8, 'written')
    watermark.settle(9, 'written')
    expect(watermark.take()).toBeUndefined()
    watermark.settle(7, 'waiting')
    expect(watermark.take()).toEqual({ to: 10, endings: ['waiting', 'written', 'written'] })
    expect(watermark.take()).toBeUndefined()
  })

  it('refuses offsets that do not ascend, and numbers that are none', () => {
    const watermark = new Watermark<string>()
    expect(() => watermark.admit(1.5)).toThrow('1.5 is not an offset')
    expect(() => watermark.admit(2 ** 53)).toThrow('is not an offset')
    watermark.admit(3)
    expect(() => watermark.admit(3)).toThrow('Offset 3 was admitted after 3')
    expect(() => watermark.admit(2)).toThrow('Offset 2 was admitted after 3')
    watermark.admit(5)
    expect(watermark.distance).toBe(2)
  })

  it('refuses to settle what is not in flight: below, above, twice, taken', () => {
    const watermark = new Watermark<string>()
    for (const offset of [3, 4, 5]) watermark.admit(offset)
    for (const offset of [2, 6, 3.5]) expect(() => watermark.settle(offset, 'x')).toThrow('is not in flight')
    watermark.settle(3, 'a')
    expect(() => watermark.settle(3, 'b')).toThrow('Offset 3 was settled and is not in flight')
    watermark.take()
    expect(() => watermark.settle(3, 'b')).toThrow('is not in flight')
    expect(watermark.inFlight).toBe(2)
  })
})
