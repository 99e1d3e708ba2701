/** What the scenarios of test/seeded-bugs run: every kind of start, end, wait and write that the engine has. */
import { existsSync, renameSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { action, cron, fileArrival, stage, topic, workflow, z } from 'sluice'

const place = z.object({ dir: z.string(), name: z.string() })

/** Says `<name>.<attempt>.started` and goes on when `<name>.go` is there. */
const gate = action('gate', {
  input: place,
  async run({ input, attempt, signal }) {
    writeFileSync(`${input.dir}/${input.name}.${attempt.number}.started`, String(process.pid))
    while (!existsSync(`${input.dir}/${input.name}.go`)) await delay(5, undefined, { signal })
    return attempt.number
  },
})
const noop = action('noop', { run: () => null })
const echo = action('echo', {
  input: z.object({ value: z.unknown() }),
  async run({ input }) {
    await delay(Number(input.value) % 3)
    return input.value
  },
})
const count = action('count', {
  input: z.object({ n: z.number() }),
  run: ({ input }) => Array.from({ length: input.n }, (_, index) => index),
})
const fail = action('fail', {
  retry: { attempts: 3, base: '1ms', max: '1ms' },
  run() {
    throw new Error('it always fails')
  },
})
const flaky = action('flaky', {
  retry: { attempts: 3, base: '1ms', max: '1ms' },
  run({ attempt }) {
    if (attempt.number < 3) throw new Error(`not at ${attempt.number}`)
    return attempt.number
  },
})
/** Fails once, and has a while to wait for its retry. */
const later = action('later', {
  retry: { attempts: 2, base: '3s', max: '3s' },
  run({ attempt }) {
    if (attempt.number < 2) throw new Error('later')
    return attempt.number
  },
})
const exits = action('exits', {
  isolation: 'process',
  run({ attempt }) {
    if (attempt.number === 1) process.exit(7)
    return attempt.number
  },
})
const large = action('large', {
  input: z.object({ bytes: z.number(), seed: z.string() }),
  run: ({ input }) => input.seed.repeat(input.bytes / input.seed.length),
})
const size = action('size', { input: z.object({ text: z.string() }), run: ({ input }) => input.text.length })
const steps = action('steps', {
  retry: { attempts: 2, base: '1ms', max: '1ms' },
  async run({ attempt, step, progress }) {
    const made = await step('first', () => attempt.number)
    progress(1, 2)
    if (attempt.number === 1) throw new Error('after the step')
    return made
  },
})
export const things = topic('things', {
  schema: z.object({ n: z.number() }),
  key: (thing) => String(thing.n % 7),
  partitions: 2,
})
const publishes = action('publishes', {
  retry: { attempts: 2, base: '1ms', max: '1ms' },
  async run({ attempt, publish }) {
    const made = await publish(
      things,
      Array.from({ length: 300 }, (_, n) => ({ n })),
    )
    if (attempt.number === 1) throw new Error('after publishing')
    return made
  },
})
export const leftovers = topic('leftovers', { schema: z.object({ n: z.number() }), partitions: 1 })
/**
 * Writes all that an attempt can write: the first when `<name>.first.go` is there, others when `<name>.others.go` is. Tells what
 * became of each write in `<name>.<attempt>.writes`.
 */
const lingers = action('lingers', {
  input: place,
  async run({ input: { dir, name }, attempt: { number: n }, signal, publish, step, documents, objects }) {
    writeFileSync(`${dir}/${name}.${n}.started`, String(process.pid))
    while (!existsSync(`${dir}/${name}.${n === 1 ? 'first' : 'others'}.go`)) await delay(5, undefined, { signal })
    const writes = {
      publishing: () => publish(leftovers, [{ n }]),
      step: () => step('last', () => n),
      document: () => documents('lingering').put(name, { n }),
      object: () => objects.put(Buffer.from(`the bytes of attempt ${n} of ${name}`)),
    }
    const ends: [string, string][] = []
    for (const [what, write] of Object.entries(writes)) ends.push([what, await write().then(() => 'accepted', String)])
    writeFileSync(`${dir}/${name}.${n}.writing`, JSON.stringify(ends))
    renameSync(`${dir}/${name}.${n}.writing`, `${dir}/${name}.${n}.writes`)
    return n
  },
})
const keeps = action('keeps', {
  input: z.object({ name: z.string() }),
  async run({ input, objects, documents }) {
    const { sha256 } = await objects.put(Buffer.from(`the bytes of ${input.name}`))
    await documents('kept').put(input.name, { name: input.name, sha256 }, { objects: [sha256] })
    return sha256
  },
})
/** Puts a secret wherever an author may put one by mistake. */
const careless = action('careless', {
  async run({ secret, log }) {
    const text = await secret('api')
    console.log(`the token is ${text}`)
    process.stderr.write(`the token is ${Buffer.from(text).toString('base64')}\n`)
    log.info(`the token is ${text}`, { token: text, nested: { token: [text] } })
    throw new Error(`refused: ${text}`)
  },
})

/** One node for each rule, behind a good, a bad, a slow and a skipped one. */
export const rules = workflow('rules', {
  params: place,
  workers: 3,
  define({ params }) {
    const good = noop({}, { id: 'good' })
    const bad = fail({}, { id: 'bad' })
    const slow = gate({ dir: params.dir, name: params.name }, { id: 'slow' })
    const skipped = noop({}, { id: 'skipped', after: good, rule: 'all_failed' })
    const all = [
      noop({}, { id: 'all-success', after: [good, slow] }),
      noop({}, { id: 'blocked', after: [bad, good] }),
      noop({}, { id: 'after-skipped', after: [skipped, good] }),
      noop({}, { id: 'all-done', after: [good, bad, slow, skipped], rule: 'all_done' }),
      noop({}, { id: 'all-failed', after: [bad], rule: 'all_failed' }),
      noop({}, { id: 'one-success', after: [good, slow], rule: 'one_success' }),
      noop({}, { id: 'one-failed', after: [bad, slow], rule: 'one_failed' }),
      noop({}, { id: 'one-done', after: [slow, good], rule: 'one_done' }),
      noop({}, { id: 'none-failed', after: [good, slow, skipped], rule: 'none_failed' }),
      noop({}, { id: 'none-failed-min', after: [good, slow, skipped], rule: 'none_failed_min_one_success' }),
      noop({}, { id: 'none-skipped', after: [good, slow], rule: 'none_skipped' }),
      noop({}, { id: 'always', after: [slow], rule: 'always' }),
    ]
    noop({}, { id: 'end', after: all, rule: 'all_done' })
  },
})
export const stages = workflow('stages', {
  define() {
    stage('first', () => {
      for (let n = 0; n < 5; n += 1) echo({ value: n }, { id: `first-${n}` })
      flaky({}, { id: 'first-flaky' })
    })
    stage('second', () => {
      for (let n = 0; n < 5; n += 1) echo({ value: n }, { id: `second-${n}` })
    })
    stage('third', () => void noop({}, { id: 'third' }))
  },
})
export const maps = workflow('maps', {
  params: z.object({ n: z.number() }),
  workers: 4,
  define({ params }) {
    const list = count({ n: params.n }, { id: 'list' })
    const mapped = echo.map(list, (value) => ({ value }), { id: 'mapped' })
    const empty = echo.map([], (value) => ({ value }), { id: 'empty' })
    const tries = flaky.map([1, 2, 3], () => ({}), { id: 'tries' })
    noop({}, { id: 'end', after: [mapped, empty, tries] })
  },
})
export const gated = workflow('gated', {
  params: place,
  define({ params }) {
    gate({ dir: params.dir, name: params.name })
  },
})
export const fails = workflow('fails', { define: () => void fail() })
export const delayed = workflow('delayed', { define: () => void later.map([1, 2, 3, 4], () => ({})) })
export const postponed = workflow('postponed', {
  define: () => void later({}, { retry: { attempts: 2, base: '10m', max: '10m' } }),
})
export const lingering = workflow('lingering', { params: place, define: ({ params }) => void lingers(params) })
export const quits = workflow('quits', { define: () => void exits() })
export const writes = workflow('writes', {
  define() {
    steps()
    publishes()
  },
})
export const weighs = workflow('weighs', {
  params: z.object({ seed: z.string() }),
  define({ params }) {
    size({ text: large({ bytes: 300_000, seed: params.seed }) })
  },
})
export const keeping = workflow('keeping', {
  params: z.object({ name: z.string() }),
  define: ({ params }) => void keeps({ name: params.name }),
})
export const telling = workflow('telling', { define: () => void careless({}, { retry: { attempts: 2, base: '1ms' } }) })

export const planned = workflow('planned', {
  plans: [
    cron('* * * * *', { catchUp: 'all' }),
    cron('*/5 * * * *', { catchUp: 'last' }),
    cron('7 * * * *', { catchUp: 'none' }),
  ],
  define: () => void noop(),
})
export const paused = workflow('paused', {
  plans: [cron('*/3 * * * *', { catchUp: 'all', timezone: 'Asia/Tokyo' })],
  define: () => void noop(),
})
export const arrivals = workflow('arrivals', {
  params: z.object({ file: z.string() }),
  plans: [fileArrival('inbox/*.txt', { rest: '20ms' })],
  define: ({ params }) => void size({ text: params.file }),
})
