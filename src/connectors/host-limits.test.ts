import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../time.ts'
import { HostLimits, rateWaitMs } from './host-limits.ts'

const never = new AbortController().signal

describe('the rate', () => {
  it('never lets more than count start within any span', () => {
    const gaps = fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 60 })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 1_000 }), gaps, (count, perMs, waits) => {
        const starts: number[] = []
        let now = 0
        for (const gap of waits) {
          now += gap
          now += rateWaitMs(starts.slice(-count), { count, perMs }, now)
          starts.push(now)
        }
        starts.forEach((start, index) => {
          const before = starts[index - count]
          if (before !== undefined) expect(start - before).toBeGreaterThanOrEqual(perMs)
        })
      }),
    )
  })

  it('does not wait while there is room', () => {
    expect(rateWaitMs([], { count: 2, perMs: 100 }, 0)).toBe(0)
    expect(rateWaitMs([0], { count: 2, perMs: 100 }, 1)).toBe(0)
    expect(rateWaitMs([0, 1], { count: 2, perMs: 100 }, 1)).toBe(99)
  })
})

describe('places at a host', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('are given in order, as many as allowed, and each host has its own', async () => {
    const limits = new HostLimits({ concurrent: 2, clock: systemClock })
    const order: string[] = []
    const enter = (host: string, label: string) =>
      limits.acquire(host, never).then((leave) => {
        order.push(label)
        return leave
      })
    const a = enter('a', 'a1')
    const rest = [enter('a', 'a2'), enter('a', 'a3'), enter('b', 'b1')]
    await vi.advanceTimersByTimeAsync(0)
    expect(order).toEqual(['a1', 'a2', 'b1'])
    const leave = await a
    leave()
    leave()
    await vi.advanceTimersByTimeAsync(0)
    expect(order).toEqual(['a1', 'a2', 'b1', 'a3'])
    for (const other of rest) (await other)()
    expect(limits.size).toBe(0)
  })

  it('can be given up while waiting', async () => {
    const limits = new HostLimits({ concurrent: 1, clock: systemClock })
    const leave = await limits.acquire('a', never)
    const impatient = new AbortController()
    const second = limits.acquire('a', impatient.signal)
    const third = limits.acquire('a', never)
    impatient.abort(new Error('enough'))
    await expect(second).rejects.toThrow('enough')
    await expect(limits.acquire('a', impatient.signal)).rejects.toThrow('enough')
    leave()
    ;(await third)()
    expect(limits.size).toBe(0)
  })

  it('keep the rate, and the host is forgotten when it no longer counts', async () => {
    const limits = new HostLimits({ concurrent: 8, rate: { count: 2, perMs: 1_000 }, clock: systemClock })
    let started = 0
    const enter = async () => {
      const leave = await limits.acquire('a', never)
      started += 1
      leave()
    }
    const all = Promise.all([enter(), enter(), enter(), enter(), enter()])
    await vi.advanceTimersByTimeAsync(999)
    expect(started).toBe(2)
    await vi.advanceTimersByTimeAsync(1)
    expect(started).toBe(4)
    await vi.advanceTimersByTimeAsync(1_000)
    expect(started).toBe(5)
    await all
    expect(limits.size).toBe(1)
    await vi.advanceTimersByTimeAsync(1_000)
    expect(limits.size).toBe(0)
  })
})
