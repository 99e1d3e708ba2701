import { setTimeout as delay } from 'node:timers/promises'
import { expect, it, onTestFinished, vi } from 'vitest'
import { testApi } from '../../../test/test-api.ts'
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
