/** Every semantic of workflows in its smallest form. */
import { appendFileSync, existsSync } from 'node:fs'
import { action, approve, branch, each, group, run, sensor, shortCircuit, skip, using, wait, workflow, z } from 'sluice'

const give = action('give', {
  input: z.object({ value: z.unknown() }),
  output: z.unknown(),
  run: ({ input }) => input.value,
})
const size = action('size', {
  input: z.object({ of: z.string() }),
  output: z.number(),
  run: ({ input }) => input.of.length,
})
const twice = action('twice', {
  input: z.object({ n: z.number() }),
  output: z.number(),
  run: ({ input }) => input.n * 2,
})
const names = action('names', {
  input: z.object({ count: z.number() }),
  output: z.array(z.string()),
  run: ({ input }) => Array.from({ length: input.count }, (_, index) => 'x'.repeat(index + 1)),
})
const list = action('list', {
  input: z.object({ count: z.number() }),
  output: z.array(z.number()),
  run: ({ input }) => Array.from({ length: input.count }, (_, index) => index),
})
const flag = action('flag', {
  input: z.object({ on: z.boolean() }),
  output: z.boolean(),
  run: ({ input }) => input.on,
})
const fail = action('fail', {
  input: z.object({}),
  run: () => {
    throw new Error('it fails')
  },
})
const leave = action('leave', {
  input: z.object({ why: z.string() }),
  run: ({ input }) => {
    throw skip(input.why)
  },
})

export const choose = workflow('choose', {
  params: z.object({ arm: z.string(), go: z.boolean() }),
  define({ params }) {
    const chosen = branch(params.arm, {
      left: () => give({ value: 1 }, { id: 'left' }),
      right: () => {
        const first = give({ value: 2 }, { id: 'right' })
        give({ value: first }, { id: 'right-always', rule: 'always' })
      },
    })
    give({ value: chosen }, { id: 'join', after: chosen, rule: 'none_failed_min_one_success' })
    shortCircuit(flag({ on: params.go }), () => give({ value: 3 }, { id: 'inside' }))
  },
})

export const inner = workflow('inner', {
  params: z.object({ n: z.number(), fails: z.boolean().default(false) }),
  define({ params }) {
    const doubled = twice({ n: params.n })
    shortCircuit(params.fails, () => fail({}))
    return { doubled, n: params.n }
  },
})

export const outer = workflow('outer', {
  params: z.object({ count: z.number(), fails: z.boolean().default(false) }),
  define({ params }) {
    const one = run(inner, { n: 5, fails: params.fails })
    const many = run.map(inner, list({ count: params.count }), (n) => ({ n }))
    const last = twice({ n: one.doubled })
    return { last, many }
  },
})

export const nested = workflow('nested', {
  params: z.object({ count: z.number(), label: z.string() }),
  define({ params }) {
    const prefix = size({ of: params.label })
    const all = each(names({ count: params.count }), (name) => {
      const length = size({ of: name })
      const inside = each(list({ count: length }), (index) => twice({ n: index }))
      return { name, length, inside, prefix }
    })
    return all
  },
})

export const timers = workflow('timers', {
  params: z.object({ until: z.string(), file: z.string() }),
  define({ params }) {
    wait.until(params.until, { id: 'time' })
    wait.for('300ms', { id: 'while' })
    const there = sensor('there', {
      input: z.object({ file: z.string() }),
      output: z.string(),
      every: '50ms',
      within: '1m',
      check: ({ input }) => (existsSync(input.file) ? 'found' : undefined),
    })
    return there({ file: params.file })
  },
})

const napping = action('napping', {
  input: z.object({}),
  output: z.number(),
  async run({ step, sleep, attempt }) {
    const first = await step('first', () => attempt.number)
    await sleep('nap', '200ms')
    return first * 10 + attempt.number
  },
})
export const naps = workflow('naps', { define: () => napping({}) })

export const asks = workflow('asks', {
  params: z.object({ what: z.string() }),
  define({ params }) {
    const answer = approve('publish?', {
      form: z.object({ rows: z.number().int().min(1) }),
      show: { what: params.what },
      deadline: '1h',
    })
    const late = approve('late', { deadline: '100ms', onDeadline: 'approve' })
    const never = approve('never', { deadline: '100ms' })
    give({ value: never }, { id: 'after-never' })
    return { rows: answer.form.rows, by: answer.by, late: late.approved }
  },
})

const open = action('open', { input: z.object({}), output: z.string(), run: () => 'opened' })
const close = action('close', { input: z.object({ what: z.string() }), run: ({ input }) => `closed ${input.what}` })
const hang = action('hang', {
  input: z.object({}),
  run: ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
})

export const sets = workflow('sets', {
  params: z.object({ fails: z.boolean(), hangs: z.boolean() }),
  define({ params }) {
    using(
      () => open({}),
      () => {
        shortCircuit(params.fails, () => fail({}), { id: 'may-fail' })
        shortCircuit(params.hangs, () => hang({}), { id: 'may-hang' })
      },
      (what) => close({ what }),
    )
  },
})

export const limited = workflow('limited', { timeout: '1s', define: () => hang({}) })

const weak = action('weak', {
  input: z.object({}),
  within: '400ms',
  retry: { attempts: 100, base: '50ms', max: '50ms' },
  run: () => {
    throw new Error('weak')
  },
})
export const tired = workflow('tired', { define: () => weak({}) })

class Refused extends Error {
  override readonly name = 'Refused'
}
const picky = action('picky', {
  input: z.object({ refused: z.boolean() }),
  retry: { attempts: 1, base: '1ms', max: '1ms', errors: { Refused: { attempts: 3 } } },
  run: ({ input }) => {
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
    const left = leave({ why: 'nothing came' })
    give({ value: left }, { id: 'behind' })
    group('load', () => {
      give({ value: 1 }, { id: 'a' })
      give({ value: 2 }, { id: 'b' })
    })
    const after = group('then', () => give({ value: 3 }, { id: 'c' }), { after: left })
    give({ value: 4 }, { id: 'end', after, rule: 'all_done' })
  },
})

export const urgent = workflow('urgent', {
  workers: 1,
  priority: 7,
  define() {
    for (const priority of [0, 5, -5, 10])
      give({ value: priority }, { id: `p${priority < 0 ? `m${-priority}` : priority}`, priority })
  },
})

/** Tells when its run began to the file of its group. */
const note = action('note', {
  input: z.object({ file: z.string(), text: z.string() }),
  run: ({ input }) => appendFileSync(input.file, input.text),
})
const inLine = z.object({ file: z.string(), text: z.string() })
export const ordinary = workflow('ordinary', { params: inLine, define: ({ params }) => void note(params) })
export const first = workflow('first', { params: inLine, priority: 10, define: ({ params }) => void note(params) })
