/** Workflows for the tests of lineage and reproduction. */
import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { action, connection, dataset, topic, workflow, z } from 'sluice'

const place = z.object({ dir: z.string(), name: z.string() })
export const things = topic('things', { schema: z.object({ n: z.number() }) })
const orders = dataset('prim.orders', { doc: 'Orders as they came' })
const sales = dataset('mart.sales')

async function gate(at: z.infer<typeof place>, attempt: number, signal: AbortSignal): Promise<void> {
  writeFileSync(`${at.dir}/${at.name}.${attempt}.started`, String(process.pid))
  while (!existsSync(`${at.dir}/${at.name}.go`)) await delay(5, undefined, { signal })
}

/** Stores a file and writes it to a dataset. */
const load = action('load', {
  input: z.object({ file: z.string() }),
  async run({ input, objects, dataset }) {
    const stored = await objects.putFile(input.file)
    await dataset(orders).write({ objects: [stored.sha256], rows: 2, metadata: { file: input.file } })
    return stored
  },
})
/** Reads the latest version and writes what it makes of it. */
const sum = action('sum', {
  async run({ dataset, objects, publish, now, random, documents }) {
    const version = await dataset(orders).read()
    const texts = await Promise.all((version?.objects ?? []).map(async (sha256) => objects.read(sha256)))
    const text = texts.map((bytes) => Buffer.from(bytes).toString()).join('')
    const made = await objects.put(Buffer.from(text.toUpperCase()))
    await dataset(sales).write({ objects: [made.sha256], rows: 1 })
    const published = await publish(
      things,
      [1, 2, 3].map((n) => ({ n })),
    )
    await documents('sums').put('last', { text })
    return { version: version?.version ?? 0, text, at: now().toISOString(), draw: [random(), random()], published }
  },
})
const big = action('big', { run: () => ({ text: 'é'.repeat(300_000) }) })
const measure = action('measure', {
  input: z.object({ text: z.string() }),
  run: ({ input }) => Buffer.byteLength(input.text),
})
const square = action('square', { input: z.object({ n: z.number() }), run: ({ input }) => input.n ** 2 })
const list = action('list', { run: () => [1, 2, 3, 4, 5] })

export const pure = workflow('pure', {
  params: z.object({ file: z.string() }),
  define({ params }) {
    const loaded = load({ file: params.file })
    sum({}, { after: [loaded] })
    measure({ text: big().text })
    square.map(list(), (n) => ({ n }))
  },
})

const clocked = action('clocked', { run: () => Date.now() })
export const impure = workflow('impure', { define: () => void clocked() })

const outside = action('outside', {
  async run({ connection: open, secret, documents }) {
    open(web)
    const text = await secret('api')
    await documents('sums').get('last')
    return text.length
  },
})
const web = connection('web', 'fetch')
const fails = action('fails', { run: () => Promise.reject(new Error('no')) })
export const reaching = workflow('reaching', { define: () => void outside() })
export const failing = workflow('failing', { define: () => void fails() })

/** Writes, and then waits until it may end; its first attempt fails if it is told to. */
const gated = action('gated', {
  input: place.extend({ fail: z.boolean().default(false) }),
  retry: { attempts: 2, base: '1ms' },
  async run({ input, attempt, signal, dataset }) {
    await dataset(orders).write({ metadata: { attempt: attempt.number, name: input.name } })
    await gate(input, attempt.number, signal)
    if (input.fail && attempt.number === 1) throw new Error('after writing')
    return attempt.number
  },
})
const reads = action('reads', {
  async run({ dataset }) {
    const [first, second] = [await dataset(orders).read(), await dataset(orders).read()]
    return { version: first?.version ?? 0, same: first?.version === second?.version, metadata: first?.metadata ?? null }
  },
})
export const writing = workflow('writing', {
  params: place.extend({ fail: z.boolean() }),
  define({ params }) {
    const written = gated({ dir: params.dir, name: params.name, fail: params.fail })
    reads({}, { after: [written] })
  },
})

const wrong = action('wrong', {
  input: z.object({ what: z.string() }),
  async run({ input, dataset: open, step }) {
    const access = open(orders)
    const tries: Record<string, () => Promise<unknown>> = {
      step: () => step('write', () => access.write()),
      hash: () => access.write({ sha256: 'ABC' }),
      rows: () => access.write({ rows: -1 }),
      metadata: () => access.write({ metadata: 'x'.repeat(70_000) }),
      object: () => access.write({ objects: ['0'.repeat(64)] }),
      version: () => access.read(0),
      missing: () => access.read(999),
      name: async () => open({ kind: 'dataset', name: 'No Name', doc: undefined }).read(),
    }
    const error = await tries[input.what]!().then(
      () => undefined,
      (thrown: { code?: string; message: string }) => thrown,
    )
    return `${error?.code}: ${error?.message}`
  },
})
export const mistakes = workflow('mistakes', {
  params: z.object({ whats: z.array(z.string()) }),
  define: ({ params }) => void wrong.map(params.whats, (what) => ({ what })),
})

/** So many distinct things that the notes are full. */
const many = action('many', {
  async run({ objects }) {
    for (let n = 0; n < 1_005; n += 1) await objects.open(n.toString(16).padStart(64, '0')).catch(() => {})
    return null
  },
})
export const crowded = workflow('crowded', { define: () => void many() })

const steps = action('steps', {
  retry: { attempts: 2, base: '1ms' },
  async run({ attempt, step }) {
    const made = await step('make', () => attempt.number)
    if (attempt.number === 1) throw new Error('after the step')
    return made
  },
})
const republish = action('republish', {
  retry: { attempts: 2, base: '1ms' },
  async run({ attempt, publish }) {
    const { published, known } = await publish(things, [{ n: 9 }])
    if (attempt.number === 1) throw new Error('after publishing')
    return { published, known }
  },
})
export const retried = workflow('retried', {
  define() {
    steps()
    republish()
  },
})
