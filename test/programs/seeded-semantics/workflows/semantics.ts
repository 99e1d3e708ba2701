/** What the scenario `semantics` of test/seeded-bugs runs: what waits, branches, is set up and torn down, and runs in runs. */
import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { action, approve, branch, each, run, sensor, shortCircuit, skip, using, wait, workflow, z } from 'sluice'

const place = z.object({ dir: z.string(), name: z.string() })

/** Says `<name>.<attempt>.started` and goes on when `<name>.go` is there. */
const gate = action('gate', {
  input: place,
  output: z.number(),
  async run({ input, attempt, signal }) {
    writeFileSync(`${input.dir}/${input.name}.${attempt.number}.started`, String(process.pid))
    while (!existsSync(`${input.dir}/${input.name}.go`)) await delay(5, undefined, { signal })
    return attempt.number
  },
})
/** A gate that takes a while to end when it is told to. */
const slowGate = action('slow-gate', {
  input: place,
  output: z.number(),
  async run({ input, attempt, signal }) {
    writeFileSync(`${input.dir}/${input.name}.${attempt.number}.started`, String(process.pid))
    while (!existsSync(`${input.dir}/${input.name}.go`)) {
      if (signal.aborted) await delay(500)
      signal.throwIfAborted()
      await delay(5)
    }
    return attempt.number
  },
})
const give = action('give', {
  input: z.object({ value: z.unknown() }),
  output: z.unknown(),
  run: ({ input }) => input.value,
})
const yes = action('yes', { input: z.object({ is: z.boolean() }), output: z.boolean(), run: ({ input }) => input.is })
const double = action('double', {
  input: z.object({ n: z.number() }),
  output: z.number(),
  run: ({ input }) => input.n * 2,
})
const named = action('named', {
  input: z.object({ n: z.number() }),
  output: z.string(),
  run: ({ input }) => (input.n === 1 ? 'one' : 'two'),
})
const count = action('count', {
  input: z.object({ n: z.number() }),
  output: z.array(z.number()),
  run: ({ input }) => Array.from({ length: input.n }, (_, index) => index),
})
const fail = action('fail', {
  run() {
    throw new Error('it always fails')
  },
})
const leave = action('leave', {
  input: z.object({ n: z.number() }),
  output: z.number(),
  run({ input }) {
    if (input.n % 2 === 1) throw skip(`${input.n} is odd`)
    return input.n
  },
})

const absent = action('absent', {
  output: z.string(),
  run() {
    throw skip('there is none')
  },
})

export const chooses = workflow('chooses', {
  params: z.object({ arm: z.string(), go: z.boolean(), gate: place }),
  define({ params }) {
    const slow = gate(params.gate, { id: 'slow' })
    const chosen = branch(params.arm, {
      left: () => {
        const first = give({ value: 1 }, { id: 'left' })
        shortCircuit(yes({ is: params.go }), () => give({ value: first }, { id: 'inside', rule: 'always' }))
      },
      right: () => {
        give({ value: 2 }, { id: 'right', rule: 'always' })
        give({ value: slow }, { id: 'right-late', rule: 'all_done' })
      },
    })
    // What is in the arms of a branch that comes late waits for it, whatever its rule.
    const late = branch(named({ n: slow }), {
      one: () => give({ value: 'one' }, { id: 'one', rule: 'always' }),
      two: () => give({ value: 'two' }, { id: 'two', rule: 'always' }),
    })
    give({ value: chosen }, { id: 'join', after: [chosen, late], rule: 'none_failed_min_one_success' })
  },
})

export const child = workflow('child', {
  params: z.object({ n: z.number(), fails: z.boolean().default(false) }),
  define({ params }) {
    const doubled = double({ n: params.n })
    shortCircuit(params.fails, () => fail())
    return { doubled }
  },
})
export const parent = workflow('parent', {
  params: z.object({ n: z.number() }),
  define({ params }) {
    const list = count({ n: params.n })
    const one = run(child, { n: 5 })
    const many = run.map(child, list, (n) => ({ n }))
    const bodies = each([1, 2], (item) => each(count({ n: item }, { id: 'inner' }), (n) => double({ n })))
    const last = double({ n: one.doubled }, { id: 'last', after: many })
    return { last, many, bodies }
  },
})
export const unlucky = workflow('unlucky', {
  define: () => void run(child, { n: 1, fails: true }, { retry: { attempts: 2, base: '20ms', max: '20ms' } }),
})
export const held = workflow('held', { params: place, define: ({ params }) => gate(params) })
export const holds = workflow('holds', {
  params: z.object({ first: place, second: place }),
  define({ params }) {
    run.map(held, [0, 1], () => params.first)
    run(held, params.second)
  },
})

export const asks = workflow('asks', {
  define() {
    const answered = approve('publish?', { deadline: '1h' })
    give({ value: answered.by }, { id: 'published' })
    const refused = approve('remove?', { onRefuse: 'skip' })
    give({ value: refused }, { id: 'removed' })
    const late = approve('late?', { deadline: '1500ms', onDeadline: 'approve' })
    return { by: answered.by, late: late.approved }
  },
})

export const waits = workflow('waits', {
  params: z.object({ ms: z.number() }),
  define() {
    wait.for('2s', { id: 'while' })
    const looks = sensor('looks', {
      every: '700ms',
      retry: { attempts: 2, base: '10ms', max: '10ms' },
      output: z.number(),
      check({ attempt }) {
        // Twice nothing, a failure, nothing, and then it is there.
        if (attempt.number === 3) throw new Error('it cannot look')
        return attempt.number >= 5 ? attempt.number : undefined
      },
    })
    const naps = action('naps', {
      output: z.number(),
      async run({ attempt, sleep, step }) {
        const first = await step('first', () => attempt.number)
        await sleep('nap', '900ms')
        return first * 10 + attempt.number
      },
    })
    return { looked: looks(), napped: naps() }
  },
})

const open = action('open', { output: z.string(), run: () => 'opened' })
const close = action('close', {
  input: z.object({ what: z.string(), fails: z.boolean() }),
  run({ input }) {
    if (input.fails) throw new Error('it cannot be closed')
    return input.what
  },
})
export const sets = workflow('sets', {
  params: z.object({ gate: place, fails: z.boolean() }),
  define({ params }) {
    using(
      () => open(),
      () => {
        const first = slowGate(params.gate, { id: 'work' })
        give({ value: first }, { id: 'after-work' })
      },
      (what) => close({ what, fails: params.fails }),
    )
  },
})

class Refused extends Error {
  override readonly name = 'Refused'
}
const picky = action('picky', {
  input: z.object({ refused: z.boolean() }),
  retry: { attempts: 1, base: '1ms', max: '1ms', errors: { Refused: { attempts: 3 } } },
  run({ input }) {
    throw input.refused ? new Refused('no') : new Error('other')
  },
})
export const policies = workflow('policies', {
  define() {
    picky({ refused: true }, { id: 'refused' })
    picky({ refused: false }, { id: 'other' })
  },
})

export const skips = workflow('skips', {
  define() {
    const odd = leave({ n: 1 }, { id: 'odd' })
    give({ value: odd }, { id: 'after-odd' })
    branch(absent(), { a: () => give({ value: 1 }, { id: 'in-a', rule: 'always' }) })
    const some = leave.map([0, 1, 2], (n) => ({ n }), { id: 'some' })
    return give({ value: some }, { id: 'after-some' })
  },
})

const tries = action('tries', {
  retry: { attempts: 100, base: '100ms', max: '100ms' },
  within: '2s',
  run() {
    throw new Error('not yet')
  },
})
export const tired = workflow('tired', { define: () => void tries() })

const hang = action('hang', {
  run: ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
})
export const limited = workflow('limited', {
  timeout: '1500ms',
  define() {
    using(
      () => open(),
      () => hang(),
      (what) => close({ what, fails: false }),
    )
  },
})
