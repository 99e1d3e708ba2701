import { setTimeout as delay } from 'node:timers/promises'
import { expect, it, onTestFinished, vi } from 'vitest'
import { testApi, testManifest } from '../../../test/test-api.ts'
import { SluiceError } from '../../errors.ts'
import { type MetricSample, metrics } from '../../sdk/metrics.ts'

const gauges = { probe_success: 'Whether it\nwent well', probe_seconds: 'How long' }

/** Values of a text by name and labels, as they are written. */
function valuesOf(text: string): Map<string, string> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  const values = new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), line.slice(line.lastIndexOf(' ') + 1)]),
  )
  expect(values.size, 'no series comes twice').toBe(lines.length)
  return values
}

const scrape = async (api: Awaited<ReturnType<typeof testApi>>) => {
  const answer = await api.app.inject({ url: '/metrics', headers: { host: 'localhost' } })
  expect(answer.statusCode).toBe(200)
  expect(answer.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
  return answer.body
}

const insertRun = (state: string, id: number) => `
  insert into sluice.runs (id, workflow, version, params, state, finished_at) values
    ('00000000-0000-7000-8000-00000000000${id}', 'catalog', '${'a'.repeat(64)}', '{}', '${state}',
      case when '${state}' in ('success', 'failed') then sluice.sluice_now() end);`

it('tells of the process, of runs and tasks, and of streams', async () => {
  const api = await testApi()
  await api.db.script(`
    ${insertRun('running', 1)} ${insertRun('running', 2)} ${insertRun('success', 3)}
    insert into sluice.tasks (run_id, node, state) values ('00000000-0000-7000-8000-000000000001', 0, 'success'),
      ('00000000-0000-7000-8000-000000000001', 1, 'running');
    insert into sluice.topics (name, partitions) values ('urls', 2);
    insert into sluice.topic_partitions (topic, partition, next_offset) values ('urls', 0, 7), ('urls', 1, 0);
    insert into sluice.shards (stream, partition, topic, committed_offset) values ('images', 0, 'urls', 3), ('images', 1, 'urls', 0);`)
  const values = valuesOf(await scrape(api))
  expect(values.get('sluice_build_info{version="0.0.0-test"}')).toBe('1')
  expect(values.get('sluice_database_up')).toBe('1')
  expect(values.get('sluice_runs{state="queued"}')).toBe('0')
  expect(values.get('sluice_runs{state="running"}')).toBe('2')
  expect(values.get('sluice_runs_ended_5m{state="success"}')).toBe('1')
  expect(values.get('sluice_tasks{state="running"}')).toBe('1')
  expect(values.get('sluice_stream_lag{stream="images"}')).toBe('4')
  expect(values.get('sluice_stream_shards{stream="images"}')).toBe('2')
  expect(values.get('sluice_stream_shards_held{stream="images"}')).toBe('0')
  expect(values.get('sluice_stream_records{stream="images",outcome="received"}')).toBe('4')
  expect(Number(values.get('process_resident_memory_bytes'))).toBeGreaterThan(1_000_000)
})

it('tells of timers, of what was asked of streams, and of every stream what the API tells', async () => {
  const [images] = testManifest.streams
  const timed = (name: string, perProducer?: number) => ({
    ...images!,
    ...{ name, topic: 'timer:sites' },
    source: { kind: 'timer', name: 'sites', shards: 2, refreshMs: 5_000, ...(perProducer && { perProducer }) } as const,
  })
  const streams = [images!, timed('checks', 10), timed('rare'), { ...images!, name: 'idle' }]
  const manifest = { ...testManifest, streams }
  const api = await testApi({ manifest: () => manifest })
  await api.db.script(`
    insert into sluice.topics (name, partitions) values ('urls', 1);
    insert into sluice.topic_partitions (topic, partition, next_offset) values ('urls', 0, 9);
    insert into sluice.topic_records (topic, partition, "offset", id, value, bytes, published_at)
      values ('urls', 0, 7, 'x', '1', 1, '2026-03-01T00:00:00.5Z');
    insert into sluice.shards (stream, partition, topic, committed_offset) values ('images', 0, 'urls', 7);
    insert into sluice.shards
      (stream, partition, topic, committed_offset, holder, lease_until, items, items_refused, items_failure, ticks_missed, ticks_folded)
    values
      ('checks', 0, 'timer:sites', 1, gen_random_uuid(), 'infinity', 12, 2, null, 5, 1),
      ('checks', 1, 'timer:sites', 1, gen_random_uuid(), '-infinity', 13, 9, 'gone', 3, 0),
      ('rare', 0, 'timer:sites', 1, gen_random_uuid(), 'infinity', 1, 0, 'no database', 0, 0);
    insert into sluice.ledger_batches
      (stream, partition, from_offset, to_offset, received, written, duplicate, filtered, rejected, dead, waiting, committed_at, reasons)
    values ('images', 0, 0, 7, 7, 2, 1, 1, 1, 1, 1, sluice.sluice_now(), '{"malformed": 1}'),
      ('checks', 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, sluice.sluice_now(), null);
    insert into sluice.ledger_records (stream, partition, "offset", record_id, outcome, was, at)
      values ('checks', 0, 0, 'x', 'waiting', 'dead', sluice.sluice_now());
    insert into sluice.stream_controls (stream, mode) values ('checks', 'draining'), ('images', 'running');`)
  const values = valuesOf(await scrape(api))
  const timers = Object.fromEntries([...values].filter(([name]) => name.startsWith('sluice_timer_')))
  expect(timers).toEqual({
    'sluice_timer_items{stream="checks"}': '25',
    'sluice_timer_items{stream="rare"}': '1',
    'sluice_timer_items_refused{stream="checks"}': '2',
    'sluice_timer_items_refused{stream="rare"}': '0',
    'sluice_timer_items_up{stream="checks"}': '1',
    'sluice_timer_items_up{stream="rare"}': '0',
    'sluice_timer_ticks{stream="checks",outcome="missed"}': '8',
    'sluice_timer_ticks{stream="checks",outcome="folded"}': '1',
    'sluice_timer_ticks{stream="rare",outcome="missed"}': '0',
    'sluice_timer_ticks{stream="rare",outcome="folded"}': '0',
    'sluice_timer_producers{stream="checks",state="wanted"}': '3',
    'sluice_timer_producers{stream="checks",state="holding"}': '1',
  })
  const modesOf = (stream: string) =>
    ['running', 'paused', 'draining'].map((mode) => values.get(`sluice_stream_mode{stream="${stream}",mode="${mode}"}`))
  expect([modesOf('images'), modesOf('checks')]).toEqual([
    ['1', '0', '0'],
    ['0', '0', '1'],
  ])
  expect(values.get('sluice_stream_oldest_timestamp_seconds{stream="images",state="queued"}')).toBe('1772323200.5')
  expect(values.has('sluice_stream_oldest_timestamp_seconds{stream="idle",state="queued"}')).toBe(false)

  const list = await api.app.inject({ url: '/api/v1/streams', headers: { host: 'localhost' } })
  const { items } = list.json<{ items: { name: string; totals: Record<string, number> }[] }>()
  const outcomes = ['received', 'pending', 'written', 'duplicate', 'filtered', 'rejected', 'dead']
  expect(items.map(({ name }) => name)).toEqual(['checks', 'idle', 'images', 'rare'])
  for (const { name, totals } of items)
    for (const outcome of outcomes)
      expect([name, outcome, values.get(`sluice_stream_records{stream="${name}",outcome="${outcome}"}`)]).toEqual([
        ...[name, outcome],
        String(totals[outcome]),
      ])
  expect(items[2]!.totals).toMatchObject({
    received: 9,
    pending: 3,
    queued: 2,
    waiting: 1,
    rejectedByReason: { malformed: 1 },
  })
  expect(items[0]!.totals).toMatchObject({ received: 1, pending: 1, dead: 0 })
})

it('carries what projects add, with every label written as it is', async () => {
  const odd = 'https://x/?a="b"\\c\nd'
  const one = metrics('one', {
    gauges,
    collect: () => [
      { gauge: 'probe_success', labels: { target: odd }, value: 1 },
      { gauge: 'probe_seconds', value: Number.NaN },
      { gauge: 'probe_seconds', labels: { phase: 'tls' }, value: Number.POSITIVE_INFINITY },
    ],
  })
  // a gauge that another has is told of by the first alone
  const two = metrics('two', {
    gauges: { probe_success: 'x', two: 'x' },
    collect: async () => [{ gauge: 'probe_success', value: 5 }],
  })
  const api = await testApi({ metrics: [one, two] })
  const text = await scrape(api)
  expect(text).toContain('# HELP probe_success Whether it went well\n# TYPE probe_success gauge\n')
  expect(text).toContain('probe_success{target="https://x/?a=\\"b\\"\\\\c\\nd"} 1\n')
  const values = valuesOf(text)
  expect(values.get('probe_seconds')).toBe('NaN')
  expect(values.get('probe_seconds{phase="tls"}')).toBe('+Inf')
  expect(values.get('probe_success')).toBeUndefined()
  expect(values.get('sluice_metrics_up{name="one"}')).toBe('1')
  expect(values.get('sluice_metrics_dropped{name="one"}')).toBe('0')
})

it('goes on without those that throw, are late, or are too many', async () => {
  function* many(): Generator<MetricSample<'many'>> {
    for (let value = 0; value < 200_003; value += 1) yield { gauge: 'many', labels: { of: String(value) }, value }
  }
  const api = await testApi({
    metrics: [
      metrics('thrown', { gauges: { thrown: 'x' }, collect: () => Promise.reject(new SluiceError('TIMEOUT', 'no')) }),
      metrics('label', {
        gauges: { label: 'x' },
        collect: () => [{ gauge: 'label', labels: { 'a-b': '' }, value: 1 }],
      }),
      metrics('many', { gauges: { many: 'x' }, collect: many }),
      metrics('hangs', { gauges: { hangs: 'x' }, collect: () => new Promise<[]>(() => {}) }),
    ],
  })
  vi.useFakeTimers({ toFake: ['setTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  const asked = scrape(api)
  let over = false
  void asked.finally(() => {
    over = true
  })
  while (!over) {
    await vi.advanceTimersByTimeAsync(100)
    await new Promise((resolve) => setImmediate(resolve))
  }
  const values = valuesOf(await asked)
  const up = ['thrown', 'label', 'many', 'hangs'].map((name) => values.get(`sluice_metrics_up{name="${name}"}`))
  expect(up).toEqual(['0', '0', '1', '0'])
  expect(values.get('sluice_metrics_dropped{name="many"}')).toBe('3')
  expect(values.get('many{of="199999"}')).toBe('199999')
  expect(values.has('many{of="200000"}')).toBe(false)
})

it('is collected once a second at most, however many ask', async () => {
  let now = 1_000_000
  let asked = 0
  const api = await testApi({
    clock: { now: () => now },
    metrics: [
      metrics('counted', {
        gauges: { counted: 'x' },
        async collect() {
          asked += 1
          await delay(5)
          return [{ gauge: 'counted', value: asked }]
        },
      }),
    ],
  })
  const texts = await Promise.all(Array.from({ length: 20 }, () => scrape(api)))
  expect(new Set(texts).size).toBe(1)
  now += 999
  await scrape(api)
  expect(asked).toBe(1)
  now += 1
  expect(valuesOf(await scrape(api)).get('counted')).toBe('2')
})

it('answers also when the database does not', async () => {
  const api = await testApi({
    metrics: [metrics('there', { gauges: { there: 'x' }, collect: () => [{ gauge: 'there', value: 1 }] })],
  })
  await api.db.close()
  const values = valuesOf(await scrape(api))
  expect(values.get('sluice_database_up')).toBe('0')
  expect(values.has('sluice_engines')).toBe(false)
  expect(values.get('there')).toBe('1')
})

it.each([
  [{}, /at least one/],
  [{ 'a-b': 'x' }, /no name of a gauge/],
  [{ sluice_mine: 'x' }, /the platform's own/],
  [{ process_cpu_seconds_total: 'x' }, /the platform's own/],
])('refuses %j as gauges', (wrong, message) => {
  expect(() => metrics('wrong', { gauges: wrong as Record<string, string>, collect: () => [] })).toThrow(message)
})
