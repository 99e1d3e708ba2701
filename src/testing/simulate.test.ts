import { describe, expect, it } from 'vitest'
import {
  action,
  approve,
  connection,
  cron,
  dataset,
  datasetWritten,
  each,
  fileArrival,
  run,
  secret,
  sensor,
  topic,
  topicRecord,
  wait,
  webhook,
  workflow,
  z,
} from '../sdk/index.ts'
import { fakeFetch, simulate } from './index.ts'

const twice = action('twice', {
  input: z.object({ n: z.number() }),
  output: z.number(),
  run: ({ input }) => input.n * 2,
})

describe('a simulated world', () => {
  it('lets a year of ticks pass', async () => {
    let calls = 0
    const tick = action('tick', {
      input: z.object({}),
      run: () => {
        calls += 1
      },
    })
    const daily = workflow('daily', {
      plans: [cron('30 2 * * *', { timezone: 'Europe/Paris' })],
      define: () => void tick({}),
    })
    await using world = await simulate([daily], { start: '2026-01-01T00:00:00Z' })
    await world.advanceTo('2027-01-01T00:00:00Z')
    expect(world.runs('daily')).toHaveLength(365)
    expect(calls).toBe(365)
    expect(world.runs('daily').every(({ state }) => state === 'success')).toBe(true)
    // In the night of the change to summer time 02:30 is not shown.
    expect(world.ticks.map(({ logicalTime }) => logicalTime.toISOString())).toContain('2026-03-29T01:00:00.000Z')
  })

  it('retries, waits and gives up as policies say, in virtual time', async () => {
    let tries = 0
    const weak = action('weak', {
      input: z.object({}),
      retry: { attempts: 4, base: '1h', max: '1h' },
      run: () => {
        tries += 1
        throw new Error('no')
      },
    })
    const flow = workflow('flow', { define: () => void weak({}) })
    await using world = await simulate([flow])
    const one = await world.start(flow)
    expect(one.task('weak')).toMatchObject({ state: 'up_for_retry', attempt: 1 })
    await world.advance('1d')
    expect(tries).toBe(4)
    expect(one).toMatchObject({ state: 'failed', error: 'failed: weak' })
    expect(one.task('weak')?.error).toBe('ACTION_FAILED: no')
  })

  it('answers approvals, and lets their deadlines pass', async () => {
    const flow = workflow('flow', {
      define() {
        const given = approve('publish?', {
          form: z.object({ rows: z.number() }),
          deadline: '2d',
          show: { what: 'rows' },
        })
        return twice({ n: given.form.rows })
      },
    })
    await using world = await simulate([flow])
    const [yes, no, late] = [await world.start(flow), await world.start(flow), await world.start(flow)]
    expect(world.approvals).toHaveLength(3)
    expect(world.approvals[0]).toMatchObject({ title: 'publish?', shown: { what: 'rows' }, task: 'publish' })
    await expect(
      world.answer({ run: yes.id, task: 'publish' }, { approved: true, form: { rows: 'x' } }),
    ).rejects.toThrow('what is filled in does not fit: /rows')
    await world.answer({ run: yes.id, task: 'publish' }, { approved: true, form: { rows: 4 } })
    await world.answer({ run: no.id, task: 'publish' }, { approved: false, note: 'not today' })
    await world.advance('3d')
    expect(yes).toMatchObject({ state: 'success', result: 8 })
    expect(no.task('publish')).toMatchObject({ state: 'skipped', error: 'refused by test: not today' })
    expect(late.task('publish')).toMatchObject({ state: 'failed' })
  })

  it('runs sensors, sleeps and other workflows', async () => {
    let looks = 0
    const there = sensor('there', {
      input: z.object({}),
      output: z.number(),
      every: '1h',
      check: () => (++looks > 5 ? looks : undefined),
    })
    const inner = workflow('inner', {
      params: z.object({ n: z.number() }),
      define: ({ params }) => twice({ n: params.n }),
    })
    const outer = workflow('outer', {
      define() {
        const found = there({})
        wait.for('30d', { after: found })
        const all = each([1, 2, 3], (n) => twice({ n }))
        return { found: run(inner, { n: found }), all }
      },
    })
    await using world = await simulate([inner, outer])
    const one = await world.start(outer)
    expect(one.state).toBe('running')
    await world.advance('5h')
    expect(one.task('there')).toMatchObject({ state: 'success', attempt: 6 })
    await world.advance('30d')
    expect(one).toMatchObject({ state: 'success', result: { found: 12, all: [2, 4, 6] } })
    expect(world.runs('inner')).toHaveLength(1)
    expect(world.runs()).toHaveLength(5)
  })

  it('has files, topics, datasets, webhooks, documents, connections and secrets', async () => {
    const lines = topic('lines', { schema: z.object({ text: z.string() }) })
    const orders = dataset('prim.orders')
    const web = connection('web', 'fetch')
    const read = action('read', {
      input: z.object({ file: z.string() }),
      async run({ input, objects, publish }) {
        const { sha256 } = await objects.putFile(input.file)
        const text = Buffer.from(await objects.read(sha256)).toString()
        await publish(
          lines,
          text
            .trim()
            .split('\n')
            .map((line) => ({ text: line })),
        )
      },
    })
    const keep = action('keep', {
      input: z.object({ text: z.string() }),
      async run({ input, documents, connection: open, secret: tell, dataset: data }) {
        const answer = await open(web).get(`https://x.test/${input.text}?${await tell('key')}`)
        await documents('kept').put(input.text, { status: answer.status })
        await data(orders).write({ rows: 1 })
      },
    })
    const catalog = workflow('catalog', {
      params: z.object({ file: z.string() }),
      plans: [fileArrival('in/*.txt')],
      define: ({ params }) => void read({ file: params.file }),
    })
    const line = workflow('line', {
      params: z.object({ text: z.string() }),
      plans: [topicRecord(lines), webhook('line', { secret: secret('sign') })],
      define: ({ params }) => void keep({ text: params.text }),
    })
    const sums = workflow('sums', { plans: [datasetWritten(orders)], define: () => void twice({ n: 1 }) })
    const fake = fakeFetch((url) => (url.includes('bad') ? { status: 404 } : 'ok'))
    await using world = await simulate([catalog, line, sums, lines], {
      connections: { web: fake },
      secrets: { key: 'k' },
    })
    await world.drop('in/a.txt', ['good', 'bad'])
    await world.advance('10s')
    expect(world.runs(catalog)).toMatchObject([{ state: 'success', params: { file: 'in/a.txt' } }])
    expect(world.published(lines).map(({ value }) => value)).toEqual([{ text: 'good' }, { text: 'bad' }])
    expect(world.runs(line).map(({ state }) => state)).toEqual(['success', 'success'])
    expect(world.documents('kept')).toEqual([{ status: 200 }, { status: 404 }])
    expect(fake.asked).toEqual(['https://x.test/good?k', 'https://x.test/bad?k'])
    expect(world.dataset(orders)).toHaveLength(2)
    expect(world.runs(sums)).toHaveLength(2)
    await world.deliver(line, 'line', { text: 'hook' })
    expect(world.runs(line)).toHaveLength(3)
    await world.deliver(line, 'line', { wrong: 1 })
    expect(world.ticks.at(-1)).toMatchObject({ outcome: 'skipped', reason: expect.stringContaining('do not fit') })
  })

  it('pauses and cancels', async () => {
    const flow = workflow('flow', { plans: [cron('0 * * * *')], define: () => void wait.for('1d') })
    await using world = await simulate([flow])
    world.pause(flow)
    await world.advance('2h')
    expect(world.runs()).toEqual([])
    expect(world.ticks.map(({ outcome }) => outcome)).toEqual(['skipped', 'skipped'])
    await world.resume(flow)
    const one = await world.start(flow)
    await world.cancel(one)
    expect(one.state).toBe('cancelled')
  })

  it('is the same world for the same seed', async () => {
    const drawn: number[] = []
    const draw = action('draw', {
      input: z.object({}),
      retry: { attempts: 3 },
      run({ random }) {
        drawn.push(random())
        throw new Error('again')
      },
    })
    const flow = workflow('flow', { define: () => void draw({}) })
    for (const seed of [7, 7, 8]) {
      await using world = await simulate([flow], { seed })
      await world.start(flow)
      await world.advance('1h')
    }
    expect(drawn.slice(0, 3)).toEqual(drawn.slice(3, 6))
    expect(drawn.slice(0, 3)).not.toEqual(drawn.slice(6, 9))
  })

  it('says all that is wrong in definitions', async () => {
    const wrong = workflow('wrong', { plans: [cron('61 * * * *')], define: () => void twice({ n: 1 }) })
    await expect(simulate([wrong])).rejects.toThrow(
      'workflow wrong: The cron pattern "61 * * * *" is not valid: minute',
    )
  })
})
