/** Plans: why a workflow starts, besides by hand. A plan is plain data; what it says is checked when the project is built. */
import { SluiceError } from '../errors.ts'
import { type Duration, parseDuration } from '../time.ts'
import { checkDatasetName, type Dataset } from './dataset.ts'
import { checkName } from './name.ts'
import { type PlanParams, type PlanTemplate, planTemplate } from './plan-params.ts'
import type { SecretHandle } from './secret.ts'
import type { Topic } from './topic.ts'

/** What becomes of ticks that passed while nothing ran: all of them, only the last, or none. */
type CatchUp = 'all' | 'last' | 'none'

interface Named {
  /** Where the author gave one; else the plan is named by what it is. */
  readonly name?: string
  /** Where the author gave them. */
  readonly params?: PlanTemplate
}

export interface CronPlan extends Named {
  readonly kind: 'cron'
  readonly pattern: string
  readonly timezone: string
  readonly catchUp: CatchUp
}

export interface IntervalPlan extends Named {
  readonly kind: 'interval'
  /** As it was written. */
  readonly every: string
  readonly everyMs: number
  /** Ticks are counted from here on, and this is the first: milliseconds since the epoch. */
  readonly start?: number
  readonly catchUp: CatchUp
}

export interface FileArrivalPlan extends Named {
  readonly kind: 'file-arrival'
  /** A glob relative to the project's folder, such as `catalogs/*.txt`. */
  readonly glob: string
  /** A file has arrived when it did not change for this long. */
  readonly restMs: number
}

export interface WebhookPlan extends Named {
  readonly kind: 'webhook'
  /** The last part of its address. */
  readonly hook: string
  /** The name of the secret that deliveries are signed with. */
  readonly secret: string
  /** How far the time of a delivery may be from ours. */
  readonly toleranceMs: number
  readonly maxBytes: number
}

export interface TopicRecordPlan extends Named {
  readonly kind: 'topic-record'
  readonly topic: string
  /** Paths into the record (`a.b`), and the values of which one is there. */
  readonly match?: { readonly [path: string]: readonly MatchValue[] }
  readonly batch?: { readonly records: number; readonly withinMs: number }
}

export interface DatasetWrittenPlan extends Named {
  readonly kind: 'dataset-written'
  readonly datasets: readonly string[]
  readonly when: 'all' | 'any'
}

export type Plan = CronPlan | IntervalPlan | FileArrivalPlan | WebhookPlan | TopicRecordPlan | DatasetWrittenPlan

export type MatchValue = string | number | boolean | null

export interface PlanOptions {
  /** Tells plans apart that are the same but for their parameters. Default: what the plan is, such as `cron:0 2 * * *@UTC`. */
  readonly name?: string
  /** What its runs are started with, such as `{ day: tick.date }`; see `tick` and `event`. */
  readonly params?: PlanParams
}

const named = ({ name, params }: PlanOptions): Named => {
  if (name !== undefined) checkName('plan', name)
  if (name === 'manual') throw invalid('a plan cannot be named manual: that is how runs are called that people start')
  return {
    ...(name === undefined ? {} : { name }),
    ...(params === undefined ? {} : { params: planTemplate(params) }),
  }
}

/**
 * Starts a run at each tick. Five fields: minute, hour, day of month, month, day of week. Default zone UTC, catchUp `last`.
 * @throws SluiceError DEFINITION_INVALID for parameters that are no JSON.
 */
export function cron(pattern: string, options: PlanOptions & { timezone?: string; catchUp?: CatchUp } = {}): CronPlan {
  const { timezone = 'UTC', catchUp = 'last' } = options
  return { kind: 'cron', pattern, timezone, catchUp, ...named(options) }
}

const shortestMs = 1_000

/**
 * Starts a run each time so much has passed: at `start` and each interval after it, and without `start` at the whole
 * intervals since 1970-01-01T00:00Z. Elapsed time: clocks that are set change nothing. From `1s` to `100y`; default catchUp
 * `last`. @throws SluiceError DEFINITION_INVALID
 */
export function every(
  interval: Duration,
  options: PlanOptions & { start?: string | Date; catchUp?: CatchUp } = {},
): IntervalPlan {
  const { start, catchUp = 'last' } = options
  const everyMs = milliseconds(`every(${JSON.stringify(interval)})`, interval)
  if (everyMs < shortestMs) throw invalid(`every("${interval}"): the shortest interval is 1s`)
  const first = start === undefined ? {} : { start: instantOf(start) }
  return { kind: 'interval', every: interval, everyMs, ...first, catchUp, ...named(options) }
}

function instantOf(start: string | Date): number {
  const text = start instanceof Date ? (Number.isNaN(start.getTime()) ? 'Invalid Date' : start.toISOString()) : start
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)$/.test(text)
    ? Date.parse(text)
    : Number.NaN
  if (time >= Date.UTC(1970) && time < Date.UTC(10_000)) return time
  throw invalid(
    `start of every(...) is ${JSON.stringify(text)}; write a time from 1970 on with its zone, such as 2026-03-01T02:00:00Z or 2026-03-01T03:00:00+01:00`,
  )
}

/**
 * Starts a run with the parameter `file` (the path relative to the project) when a file that matches appears or has
 * changed, and has rested for `rest` (default `2s`); a file that goes on changing starts one every 10 s.
 * @throws SluiceError DEFINITION_INVALID for a glob that leaves the project's folder.
 */
export function fileArrival(glob: string, options: PlanOptions & { rest?: Duration } = {}): FileArrivalPlan {
  if (glob.length === 0 || glob.startsWith('/') || glob.split('/').includes('..')) {
    throw invalid(`fileArrival(${JSON.stringify(glob)}): the glob must stay inside the project's folder`)
  }
  return { kind: 'file-arrival', glob, restMs: parseDuration(options.rest ?? '2s'), ...named(options) }
}

export const webhookLimits = Object.freeze({ tolerance: '5m', longestToleranceMs: 3_600_000, maxBytes: 1_048_576 })

/**
 * Starts a run for each delivery to `POST /api/v1/hooks/{workflow}/{name}` that is signed with the secret, with the JSON
 * body as its parameters. `tolerance` (default `5m`, at most `1h`) is how far the sender's clock may be from ours;
 * `maxBytes` (default and at most 1 MiB) how long a body may be. @throws SluiceError DEFINITION_INVALID
 */
export function webhook(
  name: string,
  options: Omit<PlanOptions, 'name'> & { secret: SecretHandle; tolerance?: Duration; maxBytes?: number },
): WebhookPlan {
  checkName('webhook', name)
  const { secret, tolerance = webhookLimits.tolerance, maxBytes = webhookLimits.maxBytes, params } = options ?? {}
  if ((secret as SecretHandle | undefined)?.kind !== 'secret') {
    throw invalid(`webhook("${name}") has no secret; write webhook("${name}", { secret: secret("${name}-signature") })`)
  }
  const toleranceMs = milliseconds(`tolerance of webhook("${name}")`, tolerance)
  if (toleranceMs > webhookLimits.longestToleranceMs) throw invalid(`tolerance of webhook("${name}") is over 1h`)
  checkWhole(`maxBytes of webhook("${name}")`, maxBytes, 1, webhookLimits.maxBytes)
  return {
    ...{ kind: 'webhook', hook: name, secret: secret.name, toleranceMs, maxBytes },
    ...named(params === undefined ? {} : { params }),
  }
}

export const batchLimits = Object.freeze({ records: 1_000, within: '1m' })

/**
 * Starts a run for each record that is published to the topic, with the record as its parameters; each record starts one
 * run, exactly once. With `match`, only for records that have one of the values at each path: `{ 'customer.country': ['FR',
 * 'DE'], paid: true }`. With `batch`, a run for every `records` of them (1 to 1,000), or for what has come when the oldest
 * has waited for `within` (default `1m`); its parameter is `records`. @throws SluiceError DEFINITION_INVALID
 */
export function topicRecord(
  topic: Pick<Topic, 'kind' | 'name'> | string,
  options: PlanOptions & {
    match?: { readonly [path: string]: MatchValue | readonly MatchValue[] }
    batch?: { readonly records: number; readonly within?: Duration }
  } = {},
): TopicRecordPlan {
  const name = typeof topic === 'string' ? topic : topic?.name
  if (typeof name !== 'string') throw invalid('topicRecord(...) needs a topic')
  const { match, batch } = options
  return {
    kind: 'topic-record',
    topic: name,
    ...(match === undefined ? {} : { match: matchOf(name, match) }),
    ...(batch === undefined ? {} : { batch: batchOf(name, batch) }),
    ...named(options),
  }
}

function matchOf(topic: string, match: { readonly [path: string]: MatchValue | readonly MatchValue[] }) {
  return Object.fromEntries(
    Object.entries(match).map(([path, wanted]) => {
      const values = [wanted].flat() as MatchValue[]
      const plain = values.every((value) => value === null || ['string', 'number', 'boolean'].includes(typeof value))
      if (plain && values.length > 0) return [path, values]
      throw invalid(
        `match of topicRecord("${topic}"): ${path} is ${JSON.stringify(wanted)}; give a text, number, boolean or null, or a list of them`,
      )
    }),
  )
}

function batchOf(topic: string, { records, within = batchLimits.within }: { records: number; within?: Duration }) {
  checkWhole(`batch.records of topicRecord("${topic}")`, records, 1, batchLimits.records)
  return { records, withinMs: milliseconds(`batch.within of topicRecord("${topic}")`, within) }
}

const mostDatasets = 100

type NamesDataset = string | Dataset

/**
 * Starts a run when another workflow has written a dataset: a run for each version of it. Of several datasets, `when: 'all'`
 * (the default) waits until each has a version that is new since the last run, and takes the newest of each; `'any'` starts
 * a run for each version of each. Versions that its own runs wrote do not count. @throws SluiceError DEFINITION_INVALID
 */
export function datasetWritten(
  datasets: NamesDataset | readonly NamesDataset[],
  options: PlanOptions & { when?: 'all' | 'any' } = {},
): DatasetWrittenPlan {
  const names = ([datasets].flat() as NamesDataset[]).map((one) => (typeof one === 'string' ? one : one?.name))
  for (const name of names) checkDatasetName(name)
  const { when = 'all' } = options
  if (names.length === 0 || names.length > mostDatasets || new Set(names).size < names.length) {
    throw invalid(
      `datasetWritten(${JSON.stringify(datasets)}): give the name of a dataset, or 1 to 100 names, each once`,
    )
  }
  if (when !== 'all' && when !== 'any') {
    throw invalid(`when of datasetWritten(...) is ${JSON.stringify(when)}; allowed are all, any`)
  }
  return { kind: 'dataset-written', datasets: names, when, ...named(options) }
}

function milliseconds(what: string, text: Duration): number {
  try {
    return parseDuration(text)
  } catch (cause) {
    const message = `${what}: ${JSON.stringify(text)} is not a length of time; write for example 30s, 15m, 2h (more than zero)`
    throw new SluiceError('DEFINITION_INVALID', message, { cause })
  }
}

function checkWhole(what: string, value: unknown, from: number, to: number): void {
  if (Number.isInteger(value) && (value as number) >= from && (value as number) <= to) return
  throw invalid(`${what} is ${JSON.stringify(value)}; allowed are whole numbers from ${from} to ${to}`)
}

function invalid(message: string): SluiceError {
  return new SluiceError('DEFINITION_INVALID', message)
}
