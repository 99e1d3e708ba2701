/** Workflows for the tests of the engine. They wait for files, so that a test decides when what happens. */
import { appendFileSync, existsSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { action, topic, workflow, z } from 'sluice'

const place = z.object({ dir: z.string(), name: z.string() })

async function until(file: string, signal?: AbortSignal): Promise<void> {
  while (!existsSync(file)) await delay(5, undefined, signal ? { signal } : {})
}

/** Says `<name>.<attempt>.started` and goes on when `<name>.go` is there. */
const gate = action('gate', {
  input: place,
  async run({ input, attempt, signal }) {
    writeFileSync(`${input.dir}/${input.name}.${attempt.number}.started`, String(process.pid))
    await until(`${input.dir}/${input.name}.go`, signal)
    return { pid: process.pid, attempt: attempt.number }
  },
})
const stubborn = action('stubborn', {
  input: place,
  async run({ input, attempt }) {
    writeFileSync(`${input.dir}/${input.name}.${attempt.number}.started`, String(process.pid))
    await until(`${input.dir}/${input.name}.go`)
  },
})
const busy = action('busy', {
  input: place,
  run({ input, attempt }) {
    writeFileSync(`${input.dir}/${input.name}.${attempt.number}.started`, String(process.pid))
    while (attempt.number === 1);
    return attempt.number
  },
})
const busyForever = action('busy-forever', {
  input: place,
  timeout: '300ms',
  run() {
    while (true);
  },
})
const slow = action('slow', {
  timeout: '100ms',
  retry: { attempts: 2, base: '1ms' },
  run: ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
})
const alone = action('alone', {
  input: place,
  isolation: 'process',
  async run({ input, attempt, signal }) {
    writeFileSync(`${input.dir}/${input.name}.${attempt.mapIndex}.started`, String(process.pid))
    await until(`${input.dir}/${input.name}.go`, signal)
    return process.pid
  },
})
const noop = action('noop', { run: () => null })
const echo = action('echo', {
  input: z.object({ value: z.unknown() }),
  run: ({ input }) => input.value,
})
const count = action('count', {
  input: z.object({ n: z.number() }),
  run: ({ input }) => Array.from({ length: input.n }, (_, index) => index),
})
const fail = action('fail', {
  input: z.object({ message: z.string() }),
  run({ input }) {
    throw new Error(input.message)
  },
})
const flaky = action('flaky', {
  retry: { attempts: 3, base: '1ms' },
  run({ attempt }) {
    if (attempt.number < 3) throw new Error(`not at ${attempt.number}`)
    return attempt.number
  },
})
/** Fails once, and then waits long for its retry. */
const later = action('later', {
  input: place,
  retry: { attempts: 2, base: '20s', max: '20s' },
  run({ input, attempt }) {
    writeFileSync(`${input.dir}/${input.name}.${attempt.number}.started`, '')
    if (attempt.number < 2) throw new Error('later')
    return attempt.number
  },
})
const exits = action('exits', {
  run({ attempt }) {
    if (attempt.number === 1) process.exit(7)
    return attempt.number
  },
})
const large = action('large', {
  input: z.object({ bytes: z.number() }),
  run: ({ input }) => ({ text: 'é'.repeat(input.bytes / 2) }),
})
const measure = action('measure', {
  input: z.object({ text: z.string() }),
  output: z.number(),
  run: ({ input }) => Buffer.byteLength(input.text),
})
const wrongResult = action('wrong-result', {
  output: z.object({ n: z.number() }),
  retry: { attempts: 3, base: '1ms' },
  run: () => ({ n: 'seven' }) as never,
})
const circular = action('circular', {
  run() {
    const value: Record<string, unknown> = {}
    value.self = value
    return value
  },
})
const once = action('once', {
  input: place,
  retry: { attempts: 2, base: '1ms' },
  async run({ input, attempt, step }) {
    const result = await step('append', () => {
      appendFileSync(`${input.dir}/${input.name}.steps`, 'x')
      return { made: attempt.number }
    })
    if (attempt.number === 1) throw new Error('after the step')
    return result
  },
})
export const things = topic('things', { schema: z.object({ n: z.number() }), key: (thing) => String(thing.n) })
const publishes = action('publishes', {
  retry: { attempts: 2, base: '1ms' },
  async run({ attempt, publish, progress }) {
    const made = await publish(
      things,
      Array.from({ length: 2_500 }, (_, n) => ({ n })),
    )
    progress(2_500, 2_500)
    if (attempt.number === 1) throw new Error('after publishing')
    return made
  },
})
const logs = action('logs', {
  input: z.object({ lines: z.number(), length: z.number(), secret: z.string() }),
  async run({ input, log }) {
    console.log(`said aloud: ${input.secret}`)
    for (let line = 0; line < input.lines; line += 1) log.info(`line ${line} ${'x'.repeat(input.length)}`, { line })
    await delay(300)
    log.warn(`it is ${input.secret}`, { token: input.secret })
    throw new Error(`failed with ${input.secret}`)
  },
})

const onePlace = { params: place }
export const gated = workflow('gated', {
  ...onePlace,
  define: ({ params }) => void gate({ dir: params.dir, name: params.name }),
})
export const narrow = workflow('narrow', {
  ...onePlace,
  workers: 1,
  define: ({ params }) => void gate({ dir: params.dir, name: params.name }),
})
export const wayward = workflow('wayward', {
  ...onePlace,
  define: ({ params }) => void stubborn({ dir: params.dir, name: params.name }),
})
export const loops = workflow('loops', {
  ...onePlace,
  define: ({ params }) => void busy({ dir: params.dir, name: params.name }),
})
export const endless = workflow('endless', {
  ...onePlace,
  define: ({ params }) => void busyForever({ dir: params.dir, name: params.name }),
})
export const timed = workflow('timed', { define: () => void slow() })
export const isolated = workflow('isolated', {
  ...onePlace,
  define: ({ params }) => void alone.map([0, 1, 2], () => ({ dir: params.dir, name: params.name })),
})
export const none = workflow('none', { define: () => void noop() })
export const wide = workflow('wide', {
  params: z.object({ n: z.number() }),
  workers: 5,
  define: ({ params }) => void echo.map(count({ n: params.n }), (value) => ({ value })),
})
export const huge = workflow('huge', {
  params: z.object({ n: z.number() }),
  define: ({ params }) => void echo.map(count({ n: params.n }), (value) => ({ value })),
})
export const over = workflow('over', {
  params: z.object({ items: z.array(z.string()) }),
  define: ({ params }) => void echo.map(params.items, (value) => ({ value })),
})
export const says = workflow('says', {
  params: z.object({ value: z.unknown() }),
  define: ({ params }) => void echo({ value: echo({ value: params.value }) }),
})
export const fails = workflow('fails', {
  params: z.object({ message: z.string() }),
  define: ({ params }) => void fail({ message: params.message }),
})
export const retried = workflow('retried', { define: () => void flaky() })
export const delayed = workflow('delayed', {
  ...onePlace,
  define: ({ params }) => void later({ dir: params.dir, name: params.name }),
})
export const quits = workflow('quits', { define: () => void exits() })
export const weighs = workflow('weighs', {
  params: z.object({ bytes: z.number() }),
  define: ({ params }) => void measure({ text: large({ bytes: params.bytes }).text }),
})
export const wrong = workflow('wrong', { define: () => void wrongResult() })
export const mistaken = workflow('mistaken', { define: () => void measure({ text: count({ n: 3 }) as never }) })
export const turns = workflow('turns', { define: () => void circular() })
export const durable = workflow('durable', {
  ...onePlace,
  define: ({ params }) => void once({ dir: params.dir, name: params.name }),
})
export const publisher = workflow('publisher', { define: () => void publishes() })
export const chatty = workflow('chatty', {
  params: z.object({ lines: z.number(), length: z.number(), secret: z.string() }),
  define: ({ params }) => void logs({ lines: params.lines, length: params.length, secret: params.secret }),
})
