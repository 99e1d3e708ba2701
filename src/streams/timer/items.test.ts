import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { plainCapabilities } from '../../../test/stream-world.ts'
import { z } from '../../sdk/schema.ts'
import { timer } from '../../sdk/timer.ts'
import { systemClock } from '../../time.ts'
import { maxItemBytes, type ReadyItem, TimerItems } from './items.ts'

const site = z.object({
  id: z.union([z.string(), z.number()]),
  every: z.string().default('5s'),
  at: z.coerce.date().optional(),
})

/** A timer over a list that tests change; `asked` counts. */
function world(list: unknown[] | (() => unknown)) {
  const state = { list: list as unknown, asked: 0, signal: undefined as AbortSignal | undefined }
  const reports: Record<string, unknown>[] = []
  const sites = timer('sites', {
    schema: site,
    items: ({ signal }) => {
      state.asked += 1
      state.signal = signal
      const { list: given } = state
      return (typeof given === 'function' ? given() : given) as unknown[]
    },
    id: (one) =>
      one.id === 'thrower'
        ? (() => {
            throw new Error('no id today')
          })()
        : one.id,
    every: (one) => one.every,
    refresh: '5s',
  })
  const items = new TimerItems({
    timer: sites,
    capabilities: plainCapabilities,
    clock: systemClock,
    report: (message, fields) => reports.push({ message, ...fields }),
  })
  const lists: (readonly ReadyItem[])[] = []
  const stop = items.listen((given) => lists.push(given))
  return { items, state, reports, lists, stop }
}

const left = 'an item of a timer is left out'

describe('the items of a timer', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())
  const refresh = () => vi.advanceTimersByTimeAsync(5_000)

  it('are asked for once per refresh, however many listen, and told only when they change', async () => {
    const { items, state, lists, stop } = world([{ id: 'a' }])
    await vi.advanceTimersByTimeAsync(0)
    const others: unknown[] = []
    const stopOther = items.listen((given) => others.push(given))
    expect([lists.length, others.length, state.asked]).toEqual([1, 1, 1])
    await refresh()
    expect([lists.length, others.length, state.asked]).toEqual([1, 1, 2])
    state.list = [{ id: 'a' }, { id: 7, every: '1m' }]
    await refresh()
    expect(lists.at(-1)).toMatchObject([
      { id: 'a', intervalMs: 5_000 },
      { id: '7', intervalMs: 60_000 },
    ])
    expect(others).toHaveLength(2)
    stop()
    stopOther()
    await refresh()
    expect(state.asked).toBe(3)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('that are wrong are left out, reported once each, and counted; the others stand', async () => {
    const wrong: unknown[] = [
      { id: 1, every: 'soon' },
      { id: 2, every: '999ms' },
      { id: 3, every: '25h' },
      { every: '5s' },
      'a text',
      null,
      undefined,
      { id: '' },
      { id: 'x'.repeat(1_001) },
      { id: 'a\0b' },
      { id: 'thrower' },
      { id: 'a', at: 'tomorrow' },
      { id: 'good', every: '1h' },
      { id: 'big', text: 'x'.repeat(maxItemBytes) },
      { id: 4n },
    ]
    const { items, state, reports, lists } = world([{ id: 'good' }, ...wrong, { id: 'fine', at: new Date(0) }])
    await vi.advanceTimersByTimeAsync(0)
    expect(lists.at(-1)!.map(({ id }) => id)).toEqual(['good', 'fine'])
    expect(items.figures).toEqual({ refused: wrong.length, failure: null })
    expect(reports.map(({ message }) => message)).toEqual(wrong.map(() => left))
    expect(reports.map(({ fault }) => fault)).toEqual([
      expect.stringContaining('every: "soon" is not a duration'),
      'every: "999ms" is not allowed; write a duration from 1s to 24h',
      'every: "25h" is not allowed; write a duration from 1s to 24h',
      expect.stringContaining('/id:'),
      expect.stringContaining('/: '),
      expect.stringContaining('/: '),
      'it is not JSON',
      expect.stringContaining('id: "" is not an id'),
      expect.stringContaining('is not an id; give a number, or text of 1 to 1,000 bytes'),
      'it holds a zero byte',
      'id: no id today',
      expect.stringContaining('/at:'),
      'its id came before in the list',
      expect.stringContaining('bytes; 262144 are allowed'),
      expect.stringContaining('BigInt'),
    ])
    await refresh()
    expect(reports).toHaveLength(wrong.length)
    // Mended and wrong again: reported again.
    state.list = [{ id: 'good' }]
    await refresh()
    expect(items.figures.refused).toBe(0)
    state.list = [{ id: 'good' }, { id: 1, every: 'soon' }]
    await refresh()
    expect(reports).toHaveLength(wrong.length + 1)
  })

  it('that are wrong by the thousand are reported a hundred at a time', async () => {
    const { items, reports } = world(Array.from({ length: 250 }, (_, n) => ({ id: n, every: '1ms' })))
    await vi.advanceTimersByTimeAsync(0)
    expect([reports.length, items.figures.refused]).toEqual([100, 250])
    await refresh()
    await refresh()
    await refresh()
    expect(new Set(reports.map(({ item }) => item)).size).toBe(250)
  })

  it('that cannot be had leave the last list as it is, reported once per failure', async () => {
    const { items, state, reports, lists } = world([{ id: 'a' }])
    await vi.advanceTimersByTimeAsync(0)
    state.list = () => {
      throw new Error('no database')
    }
    await refresh()
    await refresh()
    expect(reports).toMatchObject([
      { message: expect.stringContaining('the last list stands'), error: 'no database', items: 1 },
    ])
    expect(items.figures.failure).toBe('no database')
    state.list = { not: 'a list' }
    await refresh()
    expect(reports.at(-1)).toMatchObject({ error: 'items must give a list' })
    expect(lists).toHaveLength(1)
    state.list = [{ id: 'b' }]
    await refresh()
    expect(items.figures.failure).toBeNull()
    expect(lists.at(-1)!.map(({ id }) => id)).toEqual(['b'])
  })

  it('that never come are given up after 30 s, and asked for again', async () => {
    const { items, state, reports } = world(() => new Promise(() => {}))
    await vi.advanceTimersByTimeAsync(30_000)
    expect(state.signal?.aborted).toBe(true)
    expect(items.figures.failure).toBe('items did not answer within 30000 ms')
    expect(reports).toHaveLength(1)
    state.list = [{ id: 'a' }]
    await refresh()
    expect(items.figures.failure).toBeNull()
  })

  it('are given up when nobody listens any more', async () => {
    const { state, stop, lists, reports } = world(
      () => new Promise((resolve) => setTimeout(() => resolve([{ id: 'a' }]), 1_000)),
    )
    await vi.advanceTimersByTimeAsync(0)
    stop()
    await vi.advanceTimersByTimeAsync(60_000)
    expect(state.signal?.aborted).toBe(true)
    expect([lists.length, reports.length, state.asked]).toEqual([0, 0, 1])
  })
})
