/**
 * The reference for plans, said without any of `src/core`: which ticks and events there were is counted anew from the
 * beginning, and what became of each is compared with what is stated in docs/plans.md.
 */
import { began, type PlanCase, patterns, type SimClock } from './case.ts'
import type { Notes, Rows } from './rows.ts'
import type { RecordRow, RunRow, TickRow, VersionRow } from './statements.ts'

/** What a sender wants to be there once. */
export interface Delivery {
  readonly body: string
  readonly signedAt: number
  readonly signature: string
  readonly id: string | undefined
  readonly fits: boolean
  /** Its signature is none. */
  readonly forged: boolean
  /** Nobody can sign it again, and it was signed too long ago. */
  expired?: boolean
  busy: boolean
  /** The last signature under which it was taken with its own id. */
  taken?: string
  /** As it was answered, each time. */
  readonly runs: string[]
}

interface Judged {
  readonly plan: PlanCase
  readonly rows: Rows
  readonly now: number
  /** From then on everything is there in time. */
  readonly calmSince: number
  readonly deliveries: readonly Delivery[]
}

/** A tick as it was written, with what was so when it was. */
interface Handled extends TickRow {
  readonly notes: Notes
  readonly run: RunRow | undefined
}

/** @throws saying what is not as it must be */
export function judgePlans(judged: Judged): void {
  const handled = handledOf(judged.rows)
  const told = new Map(Map.groupBy(handled, ({ plan }) => plan))
  for (const [at, clock] of judged.plan.clocks.entries())
    judgeClock(`clock-${at}`, clock, told.get(`clock-${at}`) ?? [], judged)
  judgeRecords(told.get('records') ?? [], judged)
  judgeDatasets(told.get('datasets') ?? [], judged)
  judgeDeliveries(told.get('told') ?? [], judged)
}

/** All ticks in the order in which they were committed; each run is of one of them. */
function handledOf(rows: Rows): Handled[] {
  const ticks = rows.table<TickRow>('ticks')
  const runs = new Map(rows.table<RunRow>('runs'))
  // What was skipped and comes again in the same millisecond has one row.
  const last = new Map(rows.log.flatMap((notes) => notes.ticks.map((key) => [key, notes] as const)))
  const handled = rows.log.flatMap((notes) =>
    notes.ticks
      .filter((key) => last.get(key) === notes)
      .map((key) => {
        const tick = ticks.get(key)!
        const run = tick.runId === null ? undefined : runs.get(tick.runId)
        if ((run === undefined) !== (tick.outcome === 'skipped'))
          throw new Error(
            `tick ${tick.time} of ${tick.plan} was ${tick.outcome} (${tick.reason}), with run ${tick.runId}`,
          )
        if (run) runs.delete(run.id)
        return { ...tick, notes, run }
      }),
  )
  for (const run of runs.values()) throw new Error(`run ${run.id} of ${run.plan} has no tick`)
  if (handled.length !== ticks.size) throw new Error(`${ticks.size} ticks were written, ${handled.length} noted`)
  return handled
}

function judgeClock(
  name: string,
  clock: SimClock,
  handled: readonly Handled[],
  { rows, plan, now, calmSince }: Judged,
): void {
  const cursor = rows.table<{ since: number }>('cursors').get(`clocked ${name}`)
  if (!cursor) throw new Error(`${name} never began`)
  const [first] = [...rows.log].filter(({ ticks }) => ticks.some((key) => key.startsWith(`clocked ${name} `)))
  const due = ticksOf(clock, now)
  const times = handled.map(({ time }) => time)
  if (times.some((time, at) => at > 0 && time <= times[at - 1]!))
    throw new Error(`${name} is handled out of order: ${times}`)
  // It began between two ticks, before the first that was handled.
  const from = times[0] ?? cursor.since + 1
  const wanted = due.filter((time) => time >= from && time <= now)
  if (String(wanted) !== String(times))
    throw new Error(`${name} (${JSON.stringify(clock)}) has the ticks ${show(wanted)}; handled were ${show(times)}`)
  if (first && from > began + 5_000_000 && due.some((time) => time < from && time > first.begunAt))
    throw new Error(`${name} left out its first ticks`)
  for (const tick of handled) {
    const at = tick.notes.begunAt
    if (tick.time > at) throw new Error(`${name}: the tick ${tick.time} is handled at ${at}`)
    if (tick.time > calmSince && at > tick.time + 1_000)
      throw new Error(`${name}: the tick ${tick.time} is late, at ${at}`)
    const taken = rows.table<{ id: string }>('runs of ticks').get(`clocked ${name} ${tick.time}`)?.id === 'of somebody'
    const wantedOutcome = outcomeOf(
      clock,
      tick,
      due.filter((time) => time > tick.time && time <= at).length,
      plan,
      taken,
    )
    if (tick.outcome !== wantedOutcome)
      throw new Error(
        `${name}: the tick ${tick.time}, at ${at}, was ${tick.outcome} (${tick.reason}), not ${wantedOutcome}`,
      )
    if (!tick.run) continue
    const before = ticksOf(clock, tick.time - 1).at(-1)
    const params = JSON.parse(tick.run.params)
    if (params.at !== new Date(tick.time).toISOString() || tick.run.logicalTime !== tick.time)
      throw new Error(`${name}: the run of ${tick.time} has ${tick.run.params}`)
    if (before !== undefined && params.start !== new Date(before).toISOString())
      throw new Error(`${name}: the run of ${tick.time} has ${tick.run.params}, the tick before is ${before}`)
  }
}

/** The table of docs/plans.md. */
function outcomeOf(
  clock: SimClock,
  { time, notes }: Handled,
  later: number,
  { most }: PlanCase,
  taken: boolean,
): string {
  const { catchUp, unfit } = clock
  if (notes.paused || unfit || taken) return 'skipped'
  if (notes.begunAt <= time + 60_000) return 'fired'
  if (catchUp === 'none') return 'skipped'
  if (later === 0) return 'late'
  if (catchUp === 'last') return 'skipped'
  return later < most.caughtUp ? 'caught_up' : 'skipped'
}

const show = (times: readonly number[]) => times.map((time) => new Date(time).toISOString().slice(11, 19)).join(' ')

/** From a day before the beginning on. */
function ticksOf({ everyMs, startMs, pattern, zone }: SimClock, to: number): number[] {
  const found: number[] = []
  if (everyMs !== undefined) {
    const start = startMs === undefined ? Math.ceil((began - 86_400_000) / everyMs) * everyMs : began + startMs
    for (let time = start; time <= to; time += everyMs) if (time > began - 7_200_000) found.push(time)
    return found
  }
  const matches = patterns[pattern!]
  const offset = zone === 'UTC' ? 0 : 330
  for (let minute = Math.floor(began / 60_000) - 1_440; minute * 60_000 <= to; minute += 1)
    if (matches((minute + offset) % 1_440)) found.push(minute * 60_000)
  return found
}

function judgeRecords(handled: readonly Handled[], { rows, plan, now, calmSince }: Judged): void {
  const { topic } = plan
  if (!topic) return
  const all = [...rows.table<RecordRow>('records').values()]
  const place = ({ partition, offset }: RecordRow) => `${partition}:${offset}`
  const cursors = [...rows.table<{ partition: number; began: number }>('topic cursors').values()]
  const from = new Map(cursors.map(({ partition, began }) => [partition, began]))
  const wanted = all.filter((record) => {
    const { good } = JSON.parse(record.value) as { good: boolean }
    return record.offset >= (from.get(record.partition) ?? 0) && (good || !topic.onlyGood)
  })
  const byPlace = new Map(wanted.map((record) => [place(record), record]))
  const seen = new Map<number, number>()
  let count = 0
  for (const tick of handled) {
    const started = startedBy(tick, byPlace, topic.batch !== undefined)
    count += started.count
    judgeBatch(tick, started, plan, calmSince)
    for (const { partition, offset } of started.records) {
      if (offset <= (seen.get(partition) ?? -1))
        throw new Error(`record ${partition}:${offset} is started out of order, or again`)
      seen.set(partition, offset)
    }
  }
  const waits = (record: RecordRow) =>
    topic.batch !== undefined && record.publishedAt + topic.batch.withinMs > now - 61_000
  const open = wanted.length - count
  if (open < 0 || open > wanted.filter(waits).length)
    throw new Error(`of ${wanted.length} records ${count} were started; ${wanted.filter(waits).length} may wait`)
}

interface Started {
  readonly count: number
  /** Of a batch that started no run, the first and the last. */
  readonly records: readonly RecordRow[]
}

function startedBy(
  { event, reason, run }: Handled,
  byPlace: ReadonlyMap<string, RecordRow>,
  batched: boolean,
): Started {
  const known = (place: string): RecordRow => {
    const record = byPlace.get(place)
    if (!record) throw new Error(`${place} started something; it must not`)
    return record
  }
  const first = known(event.slice('t:'.length))
  if (!batched) {
    const { n } = JSON.parse(first.value) as { n: unknown }
    if ((run === undefined) !== (typeof n !== 'number' || reason.startsWith('the workflow is paused')))
      throw new Error(`record ${event} (${first.value}): ${reason}`)
    if (run && (JSON.parse(run.params) as { n: unknown }).n !== n)
      throw new Error(`record ${event} gives ${run.params}`)
    return { count: 1, records: [first] }
  }
  if (run) {
    const values = (JSON.parse(run.params) as { records: { n: unknown }[] }).records.map(({ n }) => n)
    const byValue = new Map(
      [...byPlace.values()].map((record) => [(JSON.parse(record.value) as { n: unknown }).n, record]),
    )
    const records = values.map((n) => byValue.get(n)!)
    if (records[0] !== first || records.includes(undefined as never)) throw new Error(`${event} gives ${run.params}`)
    return { count: records.length, records }
  }
  const [, count, one, other] = / (\d+) records of t, (\S+) to (\S+)$/.exec(` ${reason}`) ?? []
  const records = one === other ? [known(one!)] : [known(one!), known(other!)]
  return { count: Number(count), records }
}

function judgeBatch(
  { event, notes, outcome, reason }: Handled,
  { count, records }: Started,
  { topic, most }: PlanCase,
  calmSince: number,
): void {
  const size = topic!.batch?.records ?? 1
  const oldest = Math.min(...records.map(({ publishedAt }) => publishedAt))
  const full = notes.records!.read >= most.records || notes.records!.read >= 400 / 30
  const at = notes.begunAt
  if (count > size) throw new Error(`${event} is a batch of ${count}; at most ${size}`)
  const due = oldest + (topic!.batch?.withinMs ?? 0)
  if (due > calmSince && at > due + 1_000) throw new Error(`${event} is started at ${at}, and was due at ${due}`)
  // It may have been begun while it waited for another engine: a minute is plenty.
  if (count < size && !full && at + 60_000 < oldest + topic!.batch!.withinMs)
    throw new Error(`${event}: a batch of ${count} is started at ${at}, and its oldest is of ${oldest}`)
  if (notes.paused !== reason.startsWith('the workflow is paused')) throw new Error(`${event}: ${outcome}, ${reason}`)
}

function judgeDatasets(handled: readonly Handled[], { rows, plan }: Judged): void {
  const { datasets } = plan
  if (!datasets) return
  const cursors = [...rows.table<{ dataset: string; began: number }>('dataset cursors').values()]
  const begun = new Map(cursors.map(({ dataset, began }) => [dataset, began]))
  const foreign = [...rows.table<VersionRow>('versions').values()].filter(
    ({ dataset, version, workflow }) => workflow !== 'events' && version > (begun.get(dataset) ?? 0),
  )
  const names = ({ dataset, version }: { dataset: string; version: number }) => `${dataset}@${version}`
  const events = handled.map(({ event }) => event)
  const each = datasets.when === 'any' || datasets.names.length === 1
  const wanted = each ? foreign.map(names).sort() : togetherOf(rows, datasets.names, begun)
  const got = each ? [...events].sort() : events
  if (String(got) !== String(wanted)) throw new Error(`versions ${wanted} were to start runs; ${got} did`)
  for (const dataset of datasets.names) {
    const versions = events.flatMap((event) => new RegExp(`\\b${dataset}@(\\d+)`).exec(event)?.[1] ?? []).map(Number)
    if (versions.some((version, at) => at > 0 && version <= versions[at - 1]!))
      throw new Error(`versions of ${dataset} are taken out of order: ${versions}`)
  }
  for (const { event, run, reason, notes } of handled) {
    if ((run === undefined) !== notes.paused) throw new Error(`${event}: ${reason}, paused ${notes.paused}`)
    const told = event.split(' and ').map((one) => one.split('@'))
    const versions = Object.fromEntries(told.map(([dataset, version]) => [dataset, Number(version)]))
    if (run && run.params !== JSON.stringify({ versions })) throw new Error(`${event} gives ${run.params}`)
  }
}

/** A start once each has a version that is newer than those of the last start: the newest of each. */
function togetherOf(rows: Rows, names: readonly string[], begun: ReadonlyMap<string, number>): string[] {
  const last = new Map(begun)
  return rows.log.flatMap(({ plan, versions }) => {
    if (plan !== 'datasets' || !versions) return []
    const newest = names.map((dataset) =>
      Math.max(
        0,
        ...versions.flatMap((row) => (row.dataset === dataset && row.workflow !== 'events' ? row.version : [])),
      ),
    )
    if (newest.some((version, at) => version <= (last.get(names[at]!) ?? 0))) return []
    for (const [at, name] of names.entries()) last.set(name, newest[at]!)
    return [names.map((name, at) => `${name}@${newest[at]}`).join(' and ')]
  })
}

function judgeDeliveries(handled: readonly Handled[], { deliveries }: Judged): void {
  const started = new Map(handled.flatMap(({ run }) => (run ? [[run.id, run]] : [])))
  for (const delivery of deliveries) {
    const { body, runs, fits, forged, expired } = delivery
    const name = `delivery ${delivery.id ?? delivery.signature.slice(0, 8)} (${body})`
    const own = [...started.values()].filter(({ params }) => params === body)
    if (forged || !fits) {
      if (own.length + runs.length > 0) throw new Error(`${name} is none, and started ${own.length} runs`)
      continue
    }
    if (new Set(runs).size > 1) throw new Error(`${name} was answered with ${runs}`)
    if (own.length > 1 || (own.length === 0 && !expired)) throw new Error(`${name} started ${own.length} runs`)
    if (runs.length > 0 && runs[0] !== own[0]?.id)
      throw new Error(`${name} was answered with ${runs}, and started ${own[0]?.id}`)
    if (own[0]) started.delete(own[0].id)
  }
  if (started.size > 0) throw new Error(`${started.size} runs were started by nothing that was delivered`)
}
