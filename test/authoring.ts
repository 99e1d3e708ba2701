/** Compiled by `make check`, never run: what authors write must compile, and each mistake must not. */
import {
  action,
  approve,
  branch,
  dataset,
  documents,
  each,
  fileArrival,
  group,
  run,
  sensor,
  shortCircuit,
  stage,
  stream,
  topic,
  using,
  wait,
  workflow,
  z,
} from 'sluice'

const keep = action('keep', {
  input: z.object({ file: z.string() }),
  output: z.object({ sha256: z.string(), bytes: z.number(), urls: z.array(z.string()) }),
  run: async ({ input, objects }) => ({ ...(await objects.putFile(input.file)), urls: [] }),
})
const fetchOne = action('fetch-one', {
  input: z.object({ url: z.string(), tries: z.number().optional() }),
  output: z.object({ status: z.number() }),
  run: ({ input }) => ({ status: input.url.length }),
})
const report = action('report', {
  input: z.object({ results: z.array(z.object({ status: z.number() })) }),
  run: ({ input }) => input.results.length,
})
const nothing = action('nothing', { run: () => 1 })

export const good = workflow('good', {
  params: z.object({ file: z.string(), limit: z.number().default(3) }),
  plans: [fileArrival('catalogs/*.txt')],
  define({ params }) {
    const kept = keep({ file: params.file })
    const fetched = fetchOne.map(kept.urls, (url) => ({ url }))
    report({ results: fetched }, { rule: 'all_done', after: [kept] })
    stage('last', () => {
      nothing()
      fetchOne({ url: kept.sha256, tries: kept.bytes })
    })
  },
})

export const wrong = workflow('wrong', {
  params: z.object({ file: z.string(), limit: z.number() }),
  define({ params }) {
    const kept = keep({ file: params.file })
    // @ts-expect-error a number where a string is wanted
    keep({ file: params.limit })
    // @ts-expect-error a literal of the wrong type
    keep({ file: 5 })
    // @ts-expect-error an unknown parameter
    keep({ file: params.name })
    // @ts-expect-error an unknown field of a result
    fetchOne({ url: kept.sha1 })
    // @ts-expect-error a missing argument
    fetchOne({})
    // @ts-expect-error an argument too many
    fetchOne({ url: 'x', verb: 'GET' })
    // @ts-expect-error a result of the wrong type
    fetchOne({ url: kept.bytes })
    // @ts-expect-error mapping over what is no list
    fetchOne.map(kept.bytes, (url) => ({ url }))
    // @ts-expect-error an item of the wrong type
    fetchOne.map(kept.urls, (url) => ({ url: 'x', tries: url }))
    // @ts-expect-error an unknown trigger rule
    nothing({}, { rule: 'all_good' })
    // @ts-expect-error an edge from what is no task
    nothing({}, { after: ['keep'] })
  },
})

// @ts-expect-error the result does not fit the output schema
action('bad-output', { output: z.object({ n: z.number() }), run: () => ({ n: 'one' }) })

interface Picture {
  sha256: string
  sources: string[]
}
const urls = topic('urls', { schema: z.object({ url: z.string(), line: z.number() }), key: (record) => record.url })

// @ts-expect-error a key function that does not give a string
topic('bad', { schema: z.object({ url: z.string() }), key: (record) => record.url.length })

const addSource = (document: Picture, record: { url: string }): Picture => ({
  ...document,
  sources: [...document.sources, record.url],
})

export const pictures = stream('pictures', {
  from: urls,
  id: (record) => [record.url, record.line],
  key: (record) => record.url,
  distinct: true,
  concurrency: { total: 64, per: (record) => new URL(record.url).host, each: 8 },
  steps: (records) =>
    records
      .step((row, context) => (row.line > 0 ? { bytes: context.record.url.length } : context.reject('no line')))
      .step(({ bytes }): Picture => ({ sha256: String(bytes), sources: [] })),
  to: documents('pictures', { key: 'sha256', merge: addSource }),
})

stream('wrong', {
  from: urls,
  // @ts-expect-error an unknown field of the record
  id: (record) => record.uri,
  // @ts-expect-error the rows have no field that the sink takes as its key
  steps: (records) => records.step((row): Picture => ({ sha256: row.url, sources: [] })),
  to: documents('pictures', { key: 'sha1' }),
})

stream('wrong-step', {
  from: urls,
  id: (record) => record.url,
  // @ts-expect-error the second step takes what the first does not give
  steps: (records) => records.step((row) => row.line).step((text: string) => ({ sha256: text })),
  to: documents('pictures', { key: 'sha256' }),
})

workflow('plans', {
  // @ts-expect-error a plan that is none
  plans: ['* * * * *'],
  define: () => nothing(),
})

stream('wrong-merge', {
  from: urls,
  id: (record) => record.url,
  // @ts-expect-error the merge is written for another document
  steps: (records) => records.step((row) => ({ sha256: row.url })),
  to: documents('pictures', { key: 'sha256', merge: addSource }),
})

stream('no-merge', {
  from: urls,
  id: (record) => record.url,
  steps: (records) => records.step((row) => ({ sha256: row.url })),
  to: documents('pictures', { key: 'sha256' }),
})

const there = sensor('there', {
  input: z.object({ path: z.string() }),
  output: z.object({ size: z.number() }),
  every: '1m',
  check: ({ input }) => (input.path === '' ? undefined : { size: input.path.length }),
})
const choose = action('choose', {
  input: z.object({ n: z.number() }),
  output: z.enum(['big', 'small']),
  run: () => 'big',
})
const isOpen = action('is-open', { output: z.boolean(), run: () => true })
const orders = dataset('prim.orders')

export const part = workflow('part', {
  params: z.object({ url: z.string(), tries: z.number().default(1) }),
  define: ({ params }) => ({ status: fetchOne({ url: params.url }).status, url: params.url }),
})

export const flows = workflow('flows', {
  params: z.object({ urls: z.array(z.string()), day: z.string() }),
  timeout: '1h',
  maxActiveRuns: 3,
  priority: 5,
  tags: ['daily'],
  define({ params }) {
    const found = there({ path: params.day }, { within: '2d', priority: 10 })
    const chosen = branch(choose({ n: found.size }), { big: () => nothing(), small: () => nothing() })
    shortCircuit(isOpen(), () => nothing(), { after: chosen })
    const parts = run.map(part, params.urls, (url) => ({ url }))
    const one = run(part, { url: 'x', tries: 2 })
    const bodies = each(params.urls, (url) => ({ url, status: fetchOne({ url, tries: found.size }).status }))
    wait.until(params.day)
    wait.for('2h', { after: group('last', () => nothing()) })
    const answer = approve('publish?', { form: z.object({ rows: z.number() }), deadline: '2d', onDeadline: 'skip' })
    using(
      () => keep({ file: 'a' }),
      (made) => fetchOne({ url: made.sha256 }),
      (made) => keep({ file: made.sha256 }),
    )
    fetchOne({ url: one.url, tries: answer.form.rows })
    report({ results: parts })
    report({ results: bodies })
    return { parts, first: one.status }
  },
})

export const usesResult = workflow('uses-result', {
  define() {
    const result = run(flows, { urls: ['a'], day: 'b' })
    fetchOne({ url: 'x', tries: result.first })
    report({ results: result.parts })
  },
})

export const wrongFlows = workflow('wrong-flows', {
  params: z.object({ urls: z.array(z.string()) }),
  define({ params }) {
    // @ts-expect-error a branch over a number
    branch(fetchOne({ url: 'x' }).status, { a: () => nothing() })
    // @ts-expect-error a workflow without its parameter
    run(part, {})
    // @ts-expect-error a parameter of the wrong type
    run(part, { url: 5 })
    // @ts-expect-error a field that the result does not have
    fetchOne({ url: run(part, { url: 'x' }).body })
    // @ts-expect-error a body over what is no list
    each(params.urls.length, () => nothing())
    // @ts-expect-error a field that the form does not have
    fetchOne({ url: 'x', tries: approve('yes?', { form: z.object({ rows: z.number() }) }).form.columns })
    // @ts-expect-error a deadline that leads nowhere
    approve('yes?', { onDeadline: 'wait' })
    // @ts-expect-error a sensor without its argument
    there()
  },
})

export const writes = action('writes', {
  async run({ dataset: data, sleep }) {
    await sleep('a while', '1h')
    await data(orders).write({ rows: 1 })
    // @ts-expect-error a dataset by its name alone
    await data('prim.orders').write()
  },
})
