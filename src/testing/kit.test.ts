/** What a simulated world withstands, and what it takes: large results, attempts that hang, a year of ticks, limits. */
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import {
  action,
  cron,
  each,
  every,
  pool,
  program,
  rate,
  run,
  sensor,
  skip,
  tick,
  topic,
  wait,
  workflow,
  z,
} from '../sdk/index.ts'
import { simulate } from './index.ts'

const give = action('give', {
  input: z.object({ value: z.unknown() }),
  output: z.unknown(),
  run: ({ input }) => input.value,
})

describe('results', () => {
  it('of several MiB go from task to task', async () => {
    const large = action('large', {
      input: z.object({ letters: z.int() }),
      output: z.string(),
      run: ({ input }) => 'x'.repeat(input.letters),
    })
    const size = action('size', {
      input: z.object({ of: z.string() }),
      output: z.int(),
      run: ({ input }) => input.of.length,
    })
    const flow = workflow('flow', {
      params: z.object({ letters: z.int() }),
      define({ params }) {
        const text = large({ letters: params.letters })
        return { size: size({ of: text }) }
      },
    })
    await using world = await simulate([flow])
    // The engine makes objects of those over 256 KiB.
    for (const letters of [262_142, 262_143, 5_000_000]) {
      const one = await world.start(flow, { letters })
      expect(one).toMatchObject({ state: 'success', result: { size: letters } })
      expect(one.task('large')?.result).toHaveLength(letters)
    }
  })

  it('that look like a stored one are what they are', async () => {
    const like = { $object: 'a'.repeat(64), bytes: 3 }
    const flow = workflow('flow', { define: () => give({ value: give({ value: like }) }) })
    await using world = await simulate([flow])
    expect((await world.start(flow)).result).toEqual(like)
  })

  it('that are no JSON fail their task', async () => {
    const wrong = action('wrong', { run: () => 1n })
    const flow = workflow('flow', { define: () => void wrong() })
    await using world = await simulate([flow])
    expect((await world.start(flow)).task('wrong')?.error).toMatch(/^OUTPUT_MISMATCH: .*cannot be written as JSON/)
  })
})

describe('an attempt that never settles', () => {
  const stuck = action('stuck', { timeout: '1h', run: () => new Promise(() => {}) })
  const flow = workflow('stuck-flow', { define: () => void stuck() })

  it('fails after attemptLimitMs of real time, and says so', async () => {
    await using world = await simulate([flow], { attemptLimitMs: 50 })
    const one = await world.start(flow)
    expect(one.state).toBe('failed')
    expect(one.task('stuck')?.error).toBe(
      'TIMEOUT: the attempt took longer than 50 ms of real time, which is what attemptLimitMs of simulate(...) allows',
    )
  })

  it('fails by its own limit where that is shorter', async () => {
    const brief = workflow('brief', { define: () => void stuck({}, { timeout: '20ms' }) })
    await using world = await simulate([brief])
    expect((await world.start(brief)).task('stuck')?.error).toBe('TIMEOUT: the attempt took longer than 20 ms')
  })

  it('does not hold up the end of its world, which then refuses everything', async () => {
    const world = await simulate([flow])
    const started = world.start(flow)
    const refused = expect(started).rejects.toThrow('this simulated world is closed')
    await delay(5)
    await world.close()
    await refused
    await world.close()
    await expect(world.advance('1d')).rejects.toThrow('this simulated world is closed')
    await expect(world.start(flow)).rejects.toThrow('this simulated world is closed')
    await expect(world.drop('a', 'b')).rejects.toThrow('this simulated world is closed')
    expect(world.runs(flow)[0]?.state).not.toBe('queued')
  })
})

describe('long times', () => {
  // A year of it takes 3 s and 300 MB outside of vitest.
  it('a quarter of a year of a plan every 15 minutes, with a sensor and retries, takes seconds', async () => {
    let looks = 0
    const there = sensor('there', {
      input: z.object({ time: z.string() }),
      output: z.string(),
      every: '1m',
      check({ input }) {
        looks += 1
        return looks % 2 === 0 ? input.time : undefined
      },
    })
    const weak = action('weak', {
      input: z.object({ time: z.string() }),
      retry: { attempts: 3, base: '10s' },
      run({ input, attempt }) {
        if (attempt.number === 1 && input.time.endsWith('00:00.000Z')) throw new Error('the first of an hour fails')
        return input.time
      },
    })
    const often = workflow('often', {
      params: z.object({ time: z.string() }),
      plans: [cron('*/15 * * * *', { params: { time: tick.time } })],
      define: ({ params }) => weak({ time: there({ time: params.time }) }),
    })
    await using world = await simulate([often])
    await world.advance('90d')
    await world.advance('10m')
    const runs = world.runs(often)
    expect(runs).toHaveLength(90 * 96)
    expect(runs.every((one) => one.state === 'success')).toBe(true)
    expect(looks).toBe(2 * 90 * 96)
    expect(runs.filter((one) => one.task('weak')?.attempt === 2)).toHaveLength(90 * 24)
  })

  it('ids stay different for many runs, in one millisecond and after another', async () => {
    const tiny = workflow('tiny', { define: () => void give({ value: 1 }) })
    const all = workflow('all', {
      params: z.object({ many: z.array(z.int()) }),
      plans: [every('1h', { params: { many: Array.from({ length: 1_000 }, (_, index) => index) } })],
      define: ({ params }) => void run.map(tiny, params.many, () => ({})),
    })
    await using world = await simulate([tiny, all])
    await world.advance('12h')
    const runs = world.runs()
    expect(runs).toHaveLength(12_012)
    expect(new Set(runs.map(({ id }) => id)).size).toBe(12_012)
    expect(runs.every(({ state }) => state === 'success')).toBe(true)
  })

  it('a plan for which no time ever comes, and a time that has passed', async () => {
    const flow = workflow('flow', { plans: [cron('0 0 29 2 *')], define: () => void give({ value: 1 }) })
    await using world = await simulate([flow])
    await world.advance('2y')
    expect(world.runs()).toHaveLength(0)
    expect(world.nextAt?.toISOString()).toBe('2028-02-29T00:00:00.000Z')
    await expect(world.advanceTo('2026-01-01T00:00:00Z')).rejects.toThrow('is no time from now (')
    await expect(world.advanceTo('soon')).rejects.toThrow('soon is no time from now')
  })
})

describe('limits', () => {
  /** Counts how many attempts are under way at once, by name. */
  function counting() {
    const now = new Map<string, number>()
    const most = new Map<string, number>()
    const order: string[] = []
    const work = action('work', {
      input: z.object({ name: z.string(), on: z.string().default('') }),
      output: z.string(),
      async run({ input }) {
        order.push(input.name)
        const at = (now.get(input.on) ?? 0) + 1
        now.set(input.on, at)
        most.set(input.on, Math.max(most.get(input.on) ?? 0, at))
        await delay(1)
        now.set(input.on, now.get(input.on)! - 1)
        return input.name
      },
    })
    return { work, most, order }
  }
  const names = (count: number) => Array.from({ length: count }, (_, index) => `n${index}`)

  it('of a pool hold over all runs, the large request is not overtaken', async () => {
    const { work, most, order } = counting()
    const three = pool('three', 3)
    const small = workflow('small', {
      define: () => void work.map(names(10), (name) => ({ name }), { pool: three }),
    })
    const large = workflow('large', { define: () => void work({ name: 'large' }, { pool: three, slots: 3 }) })
    await using world = await simulate([small, large])
    await Promise.all([world.start(small), world.start(large), world.start(small)])
    expect(world.runs().map(({ state }) => state)).toEqual(['success', 'success', 'success'])
    expect(most.get('')).toBe(3)
    expect(order.indexOf('large')).toBe(10)
  })

  it('of a key hold for each value', async () => {
    const { work, most } = counting()
    const flow = workflow('flow', {
      params: z.object({ customer: z.string() }),
      define: ({ params }) =>
        void work.map(names(4), (name) => ({ name, on: params.customer }), { key: ['customer', params.customer] }),
    })
    await using world = await simulate([flow])
    await Promise.all(['a', 'b', 'a'].map((customer) => world.start(flow, { customer })))
    expect([...most]).toEqual([
      ['a', 1],
      ['b', 1],
    ])
    expect(world.runs().every(({ state }) => state === 'success')).toBe(true)
  })

  it('of the workers of a workflow hold, and priorities say who is first', async () => {
    const { work, most, order } = counting()
    const flow = workflow('flow', {
      workers: 2,
      define() {
        for (const [index, priority] of [0, 0, 0, 9].entries())
          work({ name: `p${priority}` }, { id: `t${index}`, priority })
      },
    })
    await using world = await simulate([flow])
    expect((await world.start(flow)).state).toBe('success')
    expect(most.get('')).toBe(2)
    expect(order[0]).toBe('p9')
  })

  it('of a rate let time pass', async () => {
    const stamp = action('stamp', { output: z.string(), run: ({ now }) => now().toISOString() })
    const slow = rate('slow', { limit: 1, per: '1h', burst: 2 })
    const flow = workflow('flow', {
      define: () => stamp.map([1, 2, 3, 4], () => ({}), { rate: slow }),
    })
    await using world = await simulate([flow])
    const one = await world.start(flow)
    await world.advance('1h')
    expect(one.tasks.filter(({ state }) => state === 'success')).toHaveLength(3)
    await world.advance('1h')
    expect(one.result).toEqual(['00:00', '00:00', '01:00', '02:00'].map((at) => `2026-01-01T${at}:00.000Z`))
  })

  it('of active runs let the others wait, the most urgent and oldest first', async () => {
    const nap = workflow('nap', { maxActiveRuns: 2, define: () => void wait.for('1h') })
    await using world = await simulate([nap])
    const runs = [await world.start(nap), await world.start(nap), await world.start(nap), await world.start(nap)]
    expect(runs.map(({ state }) => state)).toEqual(['running', 'running', 'queued', 'queued'])
    await world.cancel(runs[2]!)
    expect(runs[2]!.state).toBe('cancelled')
    await world.cancel(runs[0]!)
    expect(runs.map(({ state }) => state)).toEqual(['cancelled', 'running', 'cancelled', 'running'])
    await world.advance('2h')
    expect(runs.map(({ finishedAt }) => finishedAt?.toISOString().slice(11, 16))).toEqual([
      ...['00:00', '01:00', '00:00', '01:00'],
    ])
  })

  it('give back what a cancelled run held', async () => {
    const one = pool('one', 1)
    const hang = action('hang', {
      run: ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    })
    const holds = workflow('holds', { define: () => void hang({}, { pool: one }) })
    const wants = workflow('wants', { define: () => give({ value: 1 }, { pool: one }) })
    await using world = await simulate([holds, wants])
    const held = world.start(holds)
    const waiting = world.start(wants)
    expect(world.runs(wants)[0]?.task('give')).toBeUndefined()
    await world.cancel(world.runs(holds)[0]!)
    await Promise.all([held, waiting])
    expect(world.runs().map(({ state }) => state)).toEqual(['cancelled', 'success'])
  })
})

describe('a paused workflow', () => {
  it('begins no run, starts nothing of those that have begun, and goes on after', async () => {
    const flow = workflow('flow', { define: () => void give({ value: 1 }, { after: wait.for('1h') }) })
    const outer = workflow('outer', { define: () => void run(flow, {}) })
    await using world = await simulate([flow, outer])
    const begun = await world.start(flow)
    world.pause(flow)
    const waiting = await world.start(flow)
    await world.advance('2h')
    expect(begun.task('give')).toBeUndefined()
    expect(waiting).toMatchObject({ state: 'queued', tasks: [] })
    await world.resume(flow)
    expect(begun.state).toBe('success')
    expect(waiting.state).toBe('running')
    await world.advance('1h')
    expect(waiting.state).toBe('success')
    expect(() => world.pause('flwo')).toThrow('There is no workflow flwo; did you mean flow?')
  })
})

describe('a run that is cleared', () => {
  const broken = new Set(['n1', 'n2'])
  const made: string[] = []
  const flaky = action('flaky', {
    input: z.object({ name: z.string() }),
    output: z.string(),
    async run({ input, step }) {
      const id = await step('made', () => {
        made.push(input.name)
        return `id of ${input.name}`
      })
      if (broken.has(input.name)) throw new Error('not yet')
      return id
    },
  })
  const flow = workflow('flow', {
    define() {
      const all = flaky.map(['n0', 'n1', 'n2'], (name) => ({ name }))
      give({ value: 'beside' }, { id: 'beside' })
      return give({ value: all }, { id: 'last' })
    },
  })

  it('runs what had failed again, and what is behind it, with the durable steps that there are', async () => {
    await using world = await simulate([flow])
    const one = await world.start(flow)
    expect(one).toMatchObject({ state: 'failed', error: 'failed: flaky' })
    expect(one.task('last')?.state).toBe('upstream_failed')
    broken.clear()
    await world.clear(one)
    expect(one).toMatchObject({ state: 'success', error: null, result: ['id of n0', 'id of n1', 'id of n2'] })
    expect(one.tasks.map(({ id, attempt }) => `${id} ${attempt}`).sort()).toEqual([
      ...['beside 1', 'flaky 1', 'flaky 2', 'flaky 2', 'last 1'],
    ])
    expect(made).toEqual(['n0', 'n1', 'n2'])
    await world.clear(one, { tasks: ['flaky[0]'] })
    expect(made).toEqual(['n0', 'n1', 'n2', 'n0'])
    expect(one.state).toBe('success')
    await expect(world.clear(one)).rejects.toThrow(`there is nothing of run ${one.id} to clear`)
    await expect(world.clear(one, { tasks: ['flakey'] })).rejects.toThrow('did you mean flaky?')
    await expect(world.clear({ id: 'x' })).rejects.toThrow('there is no run x')
  })

  it('must have ended', async () => {
    const waits = workflow('waits', { define: () => void wait.for('1h') })
    await using world = await simulate([waits])
    const one = await world.start(waits)
    await expect(world.clear(one)).rejects.toThrow('has not ended; cancel it first')
    await world.cancel(one)
    await world.clear(one)
    expect(one).toMatchObject({ state: 'running', finishedAt: null })
    await world.advance('1h')
    expect(one.state).toBe('success')
  })
})

describe('definitions', () => {
  it('that are none are named', async () => {
    await expect(simulate([undefined as never])).rejects.toThrow(
      'definition 0 of simulate([...]) is undefined, perhaps since its module imports this one',
    )
    const stream = { kind: 'stream', name: 'x' }
    await expect(simulate([stream as never])).rejects.toThrow('definition 0 of simulate([...]) is a stream')
    await expect(simulate(['missing.yaml'])).rejects.toMatchObject({ code: 'CONFIGURATION' })
  })

  it('that run another need that, too', async () => {
    const inner = workflow('inner', { define: () => void give({ value: 1 }) })
    const outer = workflow('outer', { define: () => void run(inner, {}) })
    await expect(simulate([outer])).rejects.toThrow('workflow outer: it runs workflow inner, which')
  })

  it('a start that is no time', async () => {
    await expect(simulate([], { start: 'today' })).rejects.toThrow('start is "today"; write 2026-01-01T00:00:00Z')
  })
})

describe('what is around', () => {
  it('a topic record that does not fit fails the attempt, and starts nothing', async () => {
    const numbers = topic('numbers', { schema: z.object({ n: z.int() }) })
    const put = action('put', { run: ({ publish }) => publish(numbers, [{ n: 1.5 } as never]) })
    const flow = workflow('flow', { define: () => void put() })
    await using world = await simulate([flow, numbers])
    expect((await world.start(flow)).task('put')?.error).toMatch(/^INVALID_INPUT: a record for topic numbers/)
    expect(world.published(numbers)).toEqual([])
  })

  it('programs are stood for, or really run', async () => {
    const words = program('words', {
      command: ['tr', ' ', ','],
      args: ['a'],
      env: { GREETING: 'hello' },
      input: z.object({ text: z.string() }),
      output: z.int().nullable(),
    })
    const flow = workflow('flow', {
      params: z.object({ text: z.string() }),
      define: ({ params }) => words({ text: params.text }),
    })
    const given: unknown[] = []
    await using faked = await simulate([flow], {
      programs: {
        words(call) {
          given.push(call)
          const { text } = call.stdin as { text: string }
          if (text === '') throw skip('nothing to count')
          if (text === 'bad') throw new Error('refused')
          return text.split(' ').length
        },
      },
    })
    expect((await faked.start(flow, { text: 'a b c' })).result).toBe(3)
    expect(given).toEqual([{ command: ['tr', ' ', ',', 'a'], env: { GREETING: 'hello' }, stdin: { text: 'a b c' } }])
    expect((await faked.start(flow, { text: '' })).task('words')).toMatchObject({ state: 'skipped' })
    expect((await faked.start(flow, { text: 'bad' })).task('words')).toMatchObject({ error: 'ACTION_FAILED: refused' })
    await using real = await simulate([flow])
    expect((await real.start(flow, { text: 'a' })).task('words')?.error).toMatch(/^PROGRAM_FAILED: /)
  })

  it('a connection or a secret that is not given fails who asks for it', async () => {
    const ask = action('ask', { run: ({ secret: open }) => open('token') })
    const flow = workflow('flow', { define: () => void ask() })
    await using world = await simulate([flow])
    expect((await world.start(flow)).task('ask')?.error).toBe(
      'SECRET_UNKNOWN: secret token is not simulated: give it to simulate(...)',
    )
  })

  it('more tasks than are under way at once', async () => {
    let now = 0
    let most = 0
    const busy = action('busy', {
      input: z.object({ n: z.int() }),
      output: z.int(),
      async run({ input }) {
        now += 1
        most = Math.max(most, now)
        await delay(1)
        now -= 1
        return input.n
      },
    })
    const flow = workflow('flow', {
      params: z.object({ list: z.array(z.int()) }),
      define: ({ params }) => busy.map(params.list, (n) => ({ n })),
    })
    await using world = await simulate([flow])
    const list = Array.from({ length: 2_500 }, (_, index) => index)
    const [one, other] = await Promise.all([world.start(flow, { list }), world.start(flow, { list })])
    expect(one.result).toEqual(list)
    expect(other.state).toBe('success')
    expect(most).toBe(1_000)
  })

  it('a thousand bodies, each with a wait of its own', async () => {
    const flow = workflow('flow', {
      params: z.object({ count: z.array(z.int()) }),
      define: ({ params }) =>
        each(params.count, (n) => {
          const over = wait.for('1h')
          return give({ value: n }, { after: over })
        }),
    })
    await using world = await simulate([flow])
    const count = Array.from({ length: 1_000 }, (_, index) => index)
    const one = await world.start(flow, { count })
    await world.advance('1d')
    expect(one.result).toEqual(count)
    // 64 bodies at once.
    expect(one.finishedAt?.toISOString()).toBe('2026-01-01T16:00:00.000Z')
  })
})
