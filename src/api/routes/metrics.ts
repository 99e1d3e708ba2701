/**
 * `/metrics` in the text format of Prometheus: this process, what the platform does now, and what definition files add.
 *
 * 1. It answers also when the database does not: `sluice_database_up` is 0 then, and what comes from there is left out.
 * 2. Many who ask within a second are told the same. Nothing that is asked looks at more than what goes on now.
 */
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import { reply } from '../../sdk/endpoint.ts'
import { streamTotals } from '../../store/ledger.ts'
import { readLiveFigures } from '../../store/reading/metrics.ts'
import { readEngines } from '../../store/reading/readiness.ts'
import { oldestOpen } from '../../store/stream-age.ts'
import { type StreamMode, streamModes } from '../../store/stream-controls.ts'
import { shardFigures } from '../../store/stream-figures.ts'
import type { ApiContext } from '../context.ts'
import { type Contribution, contributionOf } from '../contributed-metrics.ts'
import { type Route, route } from '../route.ts'
import { timerFiguresOf } from './timer-figures.ts'

const freshMs = 1_000
const databaseLimitMs = 3_000

export function metricsRoutes(context: ApiContext): Route[] {
  let scrape: (() => Promise<string>) | undefined
  return [
    route({
      method: 'GET',
      path: '/metrics',
      tag: 'health',
      summary: 'Metrics in the text format of Prometheus',
      answers: { 200: { description: 'They are at most a second old', type: 'text/plain' } },
      async handle() {
        scrape ??= remembered(context, openMetrics(context))
        return reply(200, await scrape(), { 'content-type': Registry.PROMETHEUS_CONTENT_TYPE })
      },
    }),
  ]
}

/** One at a time, and one a second. */
function remembered({ clock }: ApiContext, collect: () => Promise<string>): () => Promise<string> {
  let last: { readonly at: number; readonly text: Promise<string> } | undefined
  let underWay = false
  return () => {
    if (last && (underWay || Math.abs(clock.now() - last.at) < freshMs)) return last.text
    underWay = true
    const text = collect().finally(() => {
      underWay = false
    })
    last = { at: clock.now(), text }
    text.catch(() => {
      last = undefined
    })
    return text
  }
}

/** What the process does is watched from the first question on. */
function openMetrics(context: ApiContext): () => Promise<string> {
  const process = new Registry()
  collectDefaultMetrics({ register: process })
  const platform = new Registry()
  const gauges = platformGauges(platform)
  gauges.build.set({ version: context.version }, 1)
  return async () => {
    gauges.databaseUp.set((await fromDatabase(context, gauges)) ? 1 : 0)
    const contributions = await contributed(context, gauges)
    const texts = [await process.metrics(), await platform.metrics(), ...contributions.map(({ text }) => text)]
    return texts.map((text) => (text === '' || text.endsWith('\n') ? text : `${text}\n`)).join('')
  }
}

function platformGauges(registry: Registry) {
  const gauge = (name: string, help: string, labelNames: readonly string[] = []) =>
    new Gauge({ name, help, labelNames: [...labelNames], registers: [registry] })
  const fromDatabase = {
    engines: gauge('sluice_engines', 'Engine processes that hold their lease'),
    runs: gauge('sluice_runs', 'Runs that have not ended, by state', ['state']),
    ended: gauge('sluice_runs_ended_5m', 'Runs that ended in the last five minutes, by state', ['state']),
    tasks: gauge('sluice_tasks', 'Tasks of running runs that were begun and have not ended, by state', ['state']),
    records: gauge('sluice_stream_records', 'Records of a stream by where they ended, since it began', [
      'stream',
      'outcome',
    ]),
    lag: gauge('sluice_stream_lag', 'Records published and not yet passed by the offset', ['stream']),
    waiting: gauge('sluice_stream_waiting', 'Records in the durable table, by why', ['stream', 'state']),
    inFlight: gauge('sluice_stream_in_flight', 'Records in their steps', ['stream']),
    shards: gauge('sluice_stream_shards', 'Shards of a stream', ['stream']),
    held: gauge('sluice_stream_shards_held', 'Shards of a stream that a live process holds', ['stream']),
    mode: gauge('sluice_stream_mode', '1 for what was asked of a stream: running, paused, or draining', [
      'stream',
      'mode',
    ]),
    oldest: gauge(
      'sluice_stream_oldest_timestamp_seconds',
      'When the oldest record was published that the offset has not passed (queued), and since when the oldest waits',
      ['stream', 'state'],
    ),
    items: gauge('sluice_timer_items', 'Items of a timer', ['stream']),
    refused: gauge('sluice_timer_items_refused', 'Items that are left out since they are wrong', ['stream']),
    listed: gauge('sluice_timer_items_up', 'Whether the list of items could be had the last time', ['stream']),
    ticks: gauge('sluice_timer_ticks', 'Ticks that became no record, since the stream began: missed, or folded', [
      'stream',
      'outcome',
    ]),
    producers: gauge(
      'sluice_timer_producers',
      'Processes: as many as the items need (wanted), and those that hold shards (holding)',
      ['stream', 'state'],
    ),
  }
  return {
    build: gauge('sluice_build_info', 'The version of the platform', ['version']),
    databaseUp: gauge('sluice_database_up', 'Whether the database answered in time'),
    metricsUp: gauge('sluice_metrics_up', 'Whether contributed metrics could be collected', ['name']),
    metricsSeconds: gauge('sluice_metrics_duration_seconds', 'How long it took to collect them', ['name']),
    metricsDropped: gauge('sluice_metrics_dropped', 'Samples left out, since there are too many', ['name']),
    fromDatabase,
  }
}

type Gauges = ReturnType<typeof platformGauges>

/** Whether the database answered. What is known of it is all of one look, or none. */
async function fromDatabase(context: ApiContext, { fromDatabase: gauges }: Gauges): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), databaseLimitMs)
  })
  const look = lookAt(context).catch(() => undefined)
  const found = await Promise.race([look, late]).finally(() => clearTimeout(timer))
  for (const gauge of Object.values(gauges)) gauge.reset()
  if (!found) {
    // one without labels would be 0
    gauges.engines.remove()
    return false
  }
  const { live, figures } = found
  gauges.engines.set(live)
  for (const state of ['queued', 'running']) gauges.runs.set({ state }, 0)
  for (const { state, count } of figures.runs) gauges.runs.set({ state }, count)
  for (const { state, count } of figures.tasks) gauges.tasks.set({ state }, count)
  for (const { state, count } of figures.ended) gauges.ended.set({ state }, count)
  setStreams(found, gauges)
  return true
}

const modes: readonly StreamMode[] = ['running', 'paused', 'draining']

function setStreams({ streams, shards, sums, asked, oldest }: Look, gauges: Gauges['fromDatabase']): void {
  for (const { stream, holder, lag, inFlight, waiting, retrying, dead } of shards) {
    gauges.shards.inc({ stream })
    gauges.held.inc({ stream }, holder === null ? 0 : 1)
    gauges.lag.inc({ stream }, lag)
    gauges.inFlight.inc({ stream }, inFlight)
    for (const [state, count] of Object.entries({ waiting, retry: retrying, dead })) {
      gauges.waiting.inc({ stream, state }, count)
    }
  }
  for (const [stream, { received, pending, written, duplicate, filtered, rejected, dead }] of sums) {
    const ends = { received, pending, written, duplicate, filtered, rejected, dead }
    for (const [outcome, count] of Object.entries(ends)) gauges.records.set({ stream, outcome }, count)
  }
  for (const definition of streams) {
    const { name: stream } = definition
    for (const mode of modes) gauges.mode.set({ stream, mode }, mode === (asked.get(stream) ?? 'running') ? 1 : 0)
    for (const [state, at] of Object.entries(oldest.get(stream) ?? {})) {
      if (at !== null) gauges.oldest.set({ stream, state }, at.getTime() / 1_000)
    }
    const own = shards.filter((shard) => shard.stream === stream)
    setTimer(stream, timerFiguresOf(definition, own), gauges)
  }
}

function setTimer(stream: string, timer: ReturnType<typeof timerFiguresOf>, gauges: Gauges['fromDatabase']): void {
  if (timer === null) return
  gauges.items.set({ stream }, timer.items)
  gauges.refused.set({ stream }, timer.refused)
  gauges.listed.set({ stream }, timer.failure === null ? 1 : 0)
  gauges.ticks.set({ stream, outcome: 'missed' }, timer.missed)
  gauges.ticks.set({ stream, outcome: 'folded' }, timer.folded)
  if (timer.producers === null) return
  gauges.producers.set({ stream, state: 'wanted' }, timer.producers.wanted)
  gauges.producers.set({ stream, state: 'holding' }, timer.producers.holding)
}

type Look = Awaited<ReturnType<typeof lookAt>>

async function lookAt({ db, manifest }: ApiContext) {
  const { live } = await readEngines(db)
  const figures = await readLiveFigures(db)
  const { streams } = manifest()
  const names = streams.map(({ name }) => name)
  const shards = (await shardFigures(db, null)).filter(({ stream }) => names.includes(stream))
  const sums = await streamTotals(db, names)
  return {
    live,
    figures,
    streams,
    shards,
    sums,
    asked: await streamModes(db, names),
    oldest: await oldestOpen(db, null),
  }
}

/** One after another: each has its own time, and none meets the others at the database. */
async function contributed(context: ApiContext, gauges: Gauges): Promise<Contribution[]> {
  const taken = new Set<string>()
  const contributions: Contribution[] = []
  for (const metrics of context.metrics ?? []) {
    contributions.push(await contributionOf(metrics, taken, context))
    for (const gauge of Object.keys(metrics.options.gauges)) taken.add(gauge)
  }
  for (const { name, up, seconds, dropped } of contributions) {
    gauges.metricsUp.set({ name }, up ? 1 : 0)
    gauges.metricsSeconds.set({ name }, seconds)
    gauges.metricsDropped.set({ name }, dropped)
  }
  return contributions
}
