import { describe, expect, it } from 'vitest'
import { type Bucket, exchange, type Holding, type LimitState, type Wish, type Word } from './limit-exchange.ts'

const wish = (since: number, amount = 1, count = 1, priority = 0): Wish => ({ priority, since, amount, count })
const holding = (node: string, amount: number, line: readonly Wish[] = [], used = 0): Holding => {
  return { node, amount, used, line }
}
const word = (node: string, keep: number, line: readonly Wish[] = [], used = 0, usedAgoMs = 0): Word => {
  return { node, keep, used, usedAgoMs, line }
}
const slots = (capacity: number, ...holdings: Holding[]): LimitState => ({ capacity, bucket: undefined, holdings })
const amounts = ({ holdings }: LimitState) => Object.fromEntries(holdings.map(({ node, amount }) => [node, amount]))

describe('slots', () => {
  it('that nobody else wishes go to who asks, all of them', () => {
    const { state, answer, tell } = exchange(slots(5), word('a', 0, [wish(1)]), 0)
    expect([amounts(state), answer.amount, answer.line, tell]).toEqual([{ a: 5 }, 5, [], false])
  })

  it('go by priority, age and node, to whoever wishes; who did not ask is told', () => {
    const before = slots(
      3,
      holding('c', 3),
      holding('a', 0, [wish(2), wish(3)]),
      holding('b', 0, [wish(2), wish(9, 1, 1, 1)]),
    )
    const { state, answer, tell } = exchange(before, word('c', 0, [wish(1)]), 0)
    expect(amounts(state)).toEqual({ a: 1, b: 1, c: 1 })
    expect([answer.amount, answer.held, tell]).toEqual([1, 3, true])
    expect(answer.ahead).toEqual({ node: 'b', priority: 1, since: 9 })
  })

  it('wait for the first in line, but for one that could never be met', () => {
    const before = slots(3, holding('c', 3), holding('a', 0, [wish(1, 4), wish(2, 2)]), holding('b', 0, [wish(3)]))
    expect(amounts(exchange(before, word('c', 2), 0).state)).toEqual({ a: 0, b: 0, c: 2 })
    expect(amounts(exchange(before, word('c', 1), 0).state)).toEqual({ a: 2, b: 0, c: 1 })
  })

  it('are not kept by who no longer has them', () => {
    const before = slots(3, holding('a', 1), holding('b', 2))
    expect(amounts(exchange(before, word('a', 3), 0).state)).toEqual({ a: 1, b: 2 })
    expect(amounts(exchange(slots(3, holding('b', 3)), word('a', 3, [wish(1)]), 0).state)).toEqual({ a: 0, b: 3 })
  })

  it('are granted again only below a capacity that was lowered', () => {
    const before = slots(2, holding('a', 2), holding('b', 2))
    expect(exchange(before, word('a', 1, [wish(1)]), 0).answer).toMatchObject({ amount: 1, held: 3 })
    expect(exchange(slots(2, holding('a', 1), holding('b', 1)), word('a', 0, [wish(1)]), 0).answer.amount).toBe(1)
  })

  it('that all are its own need no line in the rows', () => {
    const { state } = exchange(slots(2, holding('a', 2)), word('a', 2, [wish(1)]), 0)
    expect(state.holdings[0]!.line).toEqual([])
  })
})

describe('tokens', () => {
  const bucket = (level: number, more: Partial<Bucket> = {}): Bucket => {
    return { limit: 1, perMs: 1_000, burst: 1, level, at: 0, ...more }
  }
  const rate = (of: Bucket, holdings: Holding[] = [], lapsed = 0): LimitState => {
    return { capacity: of.burst, bucket: of, holdings, lapsed }
  }
  const granted = (state: LimitState, said: Word, now: number) => exchange(state, said, now).answer

  it('come with time, and one that is held lets no other come', () => {
    expect(granted(rate(bucket(0)), word('a', 0, [wish(1)]), 500)).toMatchObject({ amount: 0, retryInMs: 500 })
    expect(granted(rate(bucket(0)), word('a', 0, [wish(1)]), 1_000).amount).toBe(1)
    const held = rate(bucket(0), [holding('a', 1)])
    expect(granted(held, word('b', 0, [wish(1)]), 60_000)).toMatchObject({ amount: 0, retryInMs: 1_000 })
  })

  it('make room when they were used, not before', () => {
    const held = rate(bucket(0), [holding('a', 1)])
    const usedAt = (ms: number) => granted(held, word('a', 0, [wish(1)], 1, 1_000 - ms), 1_000)
    expect(usedAt(0).amount).toBe(1)
    expect(usedAt(1)).toMatchObject({ amount: 0, retryInMs: 1 })
    expect(usedAt(900)).toMatchObject({ amount: 0, retryInMs: 900 })
    expect(usedAt(1_000)).toMatchObject({ amount: 0, retryInMs: 1_000 })
  })

  it('that are given back are there for the next', () => {
    const held = rate(bucket(0, { burst: 2 }), [holding('a', 2), holding('b', 0, [wish(1, 1, 2)])])
    const { state } = exchange(held, word('a', 0, [], 1), 0)
    expect(amounts(state)).toEqual({ a: 0, b: 1 })
  })

  it('of a dead node count as used when it is found dead', () => {
    const found = exchange(rate(bucket(0), [], 1), word('a', 0, [wish(1)]), 5_000)
    expect(found.answer).toMatchObject({ amount: 0, retryInMs: 1_000 })
    expect(granted({ ...found.state, lapsed: 0 }, word('a', 0, [wish(1)]), 6_000).amount).toBe(1)
  })

  it('are the same however often the same is said', () => {
    let state = rate(bucket(0, { burst: 2 }), [holding('a', 2)])
    for (let again = 0; again < 3; again += 1) {
      const said = exchange(state, word('a', 1, [], 1), 0)
      state = said.state
      expect([amounts(state), state.bucket!.level]).toEqual([{ a: 1 }, 0])
    }
  })

  it('of a closed rate never come', () => {
    const closed = rate(bucket(0, { limit: 0, burst: 0 }))
    expect(granted(closed, word('a', 0, [wish(1)]), 1e9)).toMatchObject({ amount: 0, retryInMs: undefined })
  })
})
