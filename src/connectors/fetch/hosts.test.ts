import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { SluiceError } from '../../errors.ts'
import { systemClock } from '../../time.ts'
import { FetchFailure } from './fetch-failure.ts'
import { type HostPolicy, Hosts, type Place } from './hosts.ts'

const never = new AbortController().signal
const refused = new FetchFailure('refused', 'connect ECONNREFUSED')

function hosts(given: Partial<HostPolicy> = {}, maxHosts?: number) {
  const policy = {
    concurrent: 8,
    maxWaitMs: 10_000,
    circuit: { failures: 3, baseMs: 1_000, maxMs: 8_000 },
    patienceMs: 60_000,
    ...given,
  }
  return new Hosts({ policy, clock: systemClock, random: () => 0.999_999, ...(maxHosts && { maxHosts }) })
}

const sentBack = async (entering: Promise<unknown>) => {
  const thrown = await entering.then(
    () => 'let in',
    (error: unknown) => error,
  )
  if (!(thrown instanceof SluiceError)) throw new Error(String(thrown))
  return { code: thrown.code, retryAfterMs: thrown.retryAfterMs, isAttempt: thrown.isAttempt, text: thrown.message }
}

async function fail(all: Hosts, name: string, times: number, error: unknown = refused): Promise<void> {
  for (let count = 0; count < times; count += 1) {
    const place = await all.enter(name, never)
    place.failed(error)
    place.leave()
  }
}

const stateOf = (all: Hosts, name: string) => all.states.find(({ host }) => host === name)

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 })
})
afterEach(() => {
  vi.useRealTimers()
})

describe('turns at a host', () => {
  it('are given in order, as many as allowed, and each host has its own', async () => {
    const limits = hosts({ concurrent: 2 })
    const order: string[] = []
    const enter = (host: string, label: string) =>
      limits.enter(host, never).then((place) => {
        order.push(label)
        return place
      })
    const a = enter('a', 'a1')
    const rest = [enter('a', 'a2'), enter('a', 'a3'), enter('b', 'b1')]
    await vi.advanceTimersByTimeAsync(0)
    expect(order).toEqual(['a1', 'a2', 'b1'])
    expect(stateOf(limits, 'a')).toMatchObject({ inFlight: 2, queued: 1, retryAt: null, circuit: 'closed' })
    const place = await a
    place.leave()
    place.leave()
    await vi.advanceTimersByTimeAsync(0)
    expect(order).toEqual(['a1', 'a2', 'b1', 'a3'])
    for (const other of rest) (await other).leave()
    expect(limits.states.map(({ inFlight, queued }) => inFlight + queued)).toEqual([0, 0])
  })

  it('can be given up while waiting', async () => {
    const limits = hosts({ concurrent: 1 })
    const place = await limits.enter('a', never)
    const impatient = new AbortController()
    const second = limits.enter('a', impatient.signal)
    const third = limits.enter('a', never)
    impatient.abort(new Error('enough'))
    await expect(second).rejects.toThrow('enough')
    await expect(limits.enter('a', impatient.signal)).rejects.toThrow('enough')
    place.leave()
    ;(await third).leave()
    expect(stateOf(limits, 'a')).toMatchObject({ inFlight: 0, queued: 0 })
  })

  it('keep the rate: evenly apart, the burst at once', async () => {
    const limits = hosts({ rate: { intervalMs: 500, burst: 2 } })
    const started: number[] = []
    const enter = async () => {
      const place = await limits.enter('a', never)
      started.push(Date.now() - 1_000_000)
      place.leave()
    }
    const all = Promise.all(Array.from({ length: 5 }, enter))
    await vi.advanceTimersByTimeAsync(10_000)
    await all
    expect(started).toEqual([0, 0, 500, 1_000, 1_500])
  })

  it('that the rate gives too late are refused, with the time to come again', async () => {
    const limits = hosts({ rate: { intervalMs: 6_000, burst: 1 }, maxWaitMs: 10_000 })
    ;(await limits.enter('a', never)).leave()
    const second = limits.enter('a', never)
    expect(await sentBack(limits.enter('a', never))).toMatchObject({ code: 'HOST_RESTING', retryAfterMs: 12_000 })
    await vi.advanceTimersByTimeAsync(6_000)
    ;(await second).leave()
  })
})

describe('a host that asks to be left alone', () => {
  it('is asked by nobody until then: who waits and who comes is sent back, one after the other', async () => {
    const limits = hosts({ concurrent: 1 })
    const place = await limits.enter('a', never)
    const waiting = [limits.enter('a', never), limits.enter('a', never)].map(sentBack)
    place.answered()
    place.rest(3_000)
    place.leave()
    expect(await Promise.all(waiting)).toMatchObject([
      { code: 'HOST_RESTING', retryAfterMs: 3_000, isAttempt: false },
      { code: 'HOST_RESTING', retryAfterMs: 3_005, isAttempt: false },
    ])
    expect(stateOf(limits, 'a')).toMatchObject({ retryAt: 1_003_000, inFlight: 0, queued: 0 })
    ;(await limits.enter('b', never)).leave()
    await vi.advanceTimersByTimeAsync(2_999)
    expect(await sentBack(limits.enter('a', never))).toMatchObject({ retryAfterMs: 1 + 2 * 5 })
    await vi.advanceTimersByTimeAsync(1)
    ;(await limits.enter('a', never)).leave()
    expect(stateOf(limits, 'a')).toMatchObject({ retryAt: null })
  })

  it('keeps the longest of what it asked', async () => {
    const limits = hosts()
    const [one, two] = [await limits.enter('a', never), await limits.enter('a', never)]
    one.rest(5_000)
    two.rest(1_000)
    for (const place of [one, two]) place.leave()
    expect(stateOf(limits, 'a')?.retryAt).toBe(1_005_000)
  })
})

describe('a host that does not answer', () => {
  it('opens its circuit after failures in a row; the others go on', async () => {
    const limits = hosts()
    await fail(limits, 'dead', 3)
    const back = await sentBack(limits.enter('dead', never))
    expect(back).toMatchObject({ code: 'HOST_RESTING', retryAfterMs: 1_000, isAttempt: false })
    expect(back.text).toBe(
      'circuit-open: dead failed 3 times in a row, the last time with refused: connect ECONNREFUSED',
    )
    expect(stateOf(limits, 'dead')).toEqual({
      host: 'dead',
      circuit: 'open',
      inFlight: 0,
      queued: 0,
      requests: 3,
      lastError: 'refused: connect ECONNREFUSED',
      retryAt: 1_001_000,
    })
    ;(await limits.enter('alive', never)).leave()
  })

  it('is probed by one; its answer lets everyone in again', async () => {
    const limits = hosts()
    await fail(limits, 'dead', 3)
    await vi.advanceTimersByTimeAsync(1_000)
    const probe = await limits.enter('dead', never)
    expect(stateOf(limits, 'dead')).toMatchObject({ circuit: 'half-open', inFlight: 1 })
    expect(await sentBack(limits.enter('dead', never))).toMatchObject({ code: 'HOST_RESTING' })
    probe.answered()
    ;(await limits.enter('dead', never)).leave()
    probe.leave()
    expect(stateOf(limits, 'dead')).toMatchObject({ circuit: 'closed', lastError: null, retryAt: null })
  })

  it('stays open for longer when the probe fails, and as it is when the probe is given up', async () => {
    const limits = hosts()
    await fail(limits, 'dead', 3)
    await vi.advanceTimersByTimeAsync(1_000)
    await fail(limits, 'dead', 1, new SluiceError('CANCELLED', 'given up'))
    await fail(limits, 'dead', 1)
    expect(stateOf(limits, 'dead')?.retryAt).toBe(1_001_000 + 2_000)
  })

  it.each([
    [
      'an answer that went wrong after its head',
      async (place: Place) => {
        place.answered()
        place.failed(new FetchFailure('timeout', 'late'))
      },
    ],
    ['a blocked address', async (place: Place) => place.failed(new SluiceError('ADDRESS_BLOCKED', 'no'))],
    ['a fetch that was cancelled', async (place: Place) => place.failed(new SluiceError('CANCELLED', 'no'))],
  ])('is not one of %s', async (_, end) => {
    const limits = hosts()
    for (let count = 0; count < 10; count += 1) {
      const place = await limits.enter('a', never)
      await end(place)
      place.leave()
    }
    expect(stateOf(limits, 'a')).toMatchObject({ circuit: 'closed' })
  })

  it('sends back who waits in its queue when it opens', async () => {
    const limits = hosts({ concurrent: 1, circuit: { failures: 1, baseMs: 1_000, maxMs: 8_000 } })
    const place = await limits.enter('dead', never)
    const waiting = Array.from({ length: 20 }, () => sentBack(limits.enter('dead', never)))
    place.failed(refused)
    place.leave()
    const told = (await Promise.all(waiting)).map(({ retryAfterMs }) => retryAfterMs)
    expect(told).toEqual(Array.from({ length: 20 }, (_, index) => 1_000 + 5 * index))
  })

  it('makes what comes fail, and no longer wait, once it has been dead for longer than the patience', async () => {
    const limits = hosts({ patienceMs: 5_000 })
    await fail(limits, 'dead', 3)
    await vi.advanceTimersByTimeAsync(5_001)
    await fail(limits, 'dead', 1)
    const back = await sentBack(limits.enter('dead', never))
    expect(back).toMatchObject({ code: 'FETCH_FAILED', isAttempt: true, retryAfterMs: 2_000 })
    expect(back.text).toMatch(/^circuit-open: /)
  })
})

describe('all hosts', () => {
  it('are remembered up to a number: the one asked longest ago goes first, never one in use', async () => {
    const limits = hosts({}, 3)
    const used = await limits.enter('used', never)
    await fail(limits, 'dead', 3)
    for (const name of ['a', 'b']) (await limits.enter(name, never)).leave()
    expect(limits.states.map(({ host }) => host)).toEqual(['used', 'a', 'b'])
    ;(await limits.enter('a', never)).leave()
    ;(await limits.enter('c', never)).leave()
    expect(limits.states.map(({ host }) => host)).toEqual(['used', 'a', 'c'])
    used.leave()
  })

  it('whatever happens: within the concurrency, everyone has an end, nothing stays behind', async () => {
    const step = fc.record({
      host: fc.constantFrom('a', 'b'),
      wait: fc.integer({ min: 0, max: 3_000 }),
      act: fc.constantFrom('enter', 'enter', 'enter', 'answer', 'refuse', 'rest', 'cancel', 'abort'),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.boolean(), async (steps, rated) => {
        const rate = rated ? { intervalMs: 300, burst: 2 } : undefined
        const limits = hosts({ concurrent: 2, ...(rate && { rate }) })
        const held: { host: string; place: Place }[] = []
        const waiting = new Map<AbortController, string>()
        let [entered, ended] = [0, 0]
        for (const { host, wait, act } of steps) {
          await vi.advanceTimersByTimeAsync(wait)
          const mine = held.findIndex((one) => one.host === host)
          if (act === 'enter') {
            const stop = new AbortController()
            waiting.set(stop, host)
            entered += 1
            limits.enter(host, stop.signal).then(
              (place) => {
                waiting.delete(stop)
                ended += 1
                held.push({ host, place })
              },
              () => {
                waiting.delete(stop)
                ended += 1
              },
            )
          } else if (act === 'abort') [...waiting.keys()][0]?.abort(new Error('enough'))
          else if (mine >= 0) {
            const { place } = held.splice(mine, 1)[0]!
            if (act === 'answer') place.answered()
            if (act === 'refuse') place.failed(refused)
            if (act === 'rest') place.rest(2_000)
            place.leave()
          }
          await vi.advanceTimersByTimeAsync(0)
          for (const state of limits.states) {
            expect(state.inFlight).toBeLessThanOrEqual(2)
            expect(state.inFlight).toBe(held.filter((one) => one.host === state.host).length)
            if (state.retryAt !== null) expect(state.queued).toBe(0)
          }
        }
        for (let round = 0; round < 100 && ended < entered; round += 1) {
          for (const { place } of held.splice(0)) place.leave()
          await vi.advanceTimersByTimeAsync(10_000)
        }
        for (const { place } of held.splice(0)) place.leave()
        expect(ended).toBe(entered)
        expect(limits.states.every(({ inFlight, queued }) => inFlight + queued === 0)).toBe(true)
        expect(vi.getTimerCount()).toBe(0)
      }),
    )
  })
})
