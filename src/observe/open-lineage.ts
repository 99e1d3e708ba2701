/**
 * Tells a receiver of OpenLineage events what runs and tasks do, from the transition log.
 *
 * 1. It is never in the way of the engine: it reads what is committed, and how far it came is a row (`store/lineage-feed`).
 * 2. At least once, in the order of each run: what was sent and not yet noted is sent again after a crash, the same bytes.
 * 3. While the receiver is away nothing is lost: it is asked again after 1 s, 2 s, ... up to 60 s, for as long as the log is kept.
 *    What it refuses for good (400, 413, 415, 422) is counted and left out, since nothing that comes later would ever pass.
 * 4. One node sends at a time; another takes over when it is silent for a minute.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { WorkflowManifest } from '../core/manifest.ts'
import { messageOf } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import { publishDatasets } from '../store/lineage.ts'
import {
  advanceHorizon,
  holdReceiver,
  letReceiverGo,
  lineageOfAttempts,
  nextTransitions,
  noteFailing,
  noteTold,
  type RunNews,
  runsWithNews,
} from '../store/lineage-feed.ts'
import { readPinnedWorkflow } from '../store/reading/workflows.ts'
import { monotonicMs } from '../time.ts'
import { eventOf, eventTypeOf, type OpenLineageEvent } from './open-lineage-events.ts'

export interface OpenLineageSettings {
  /** Where events are posted. With a path that ends in `/batch`, up to 100 of them as an array; else each alone. */
  readonly url: string
  /** Sent as a bearer token. */
  readonly token?: string | undefined
  readonly namespace: string
}

export interface OpenLineageParts {
  readonly db: Database
  readonly nodeId: string
  readonly settings: OpenLineageSettings
  /** Of Sluice. */
  readonly version: string
  readonly note: (line: string) => void
  /** How long to rest when there is no news; default 2 s. */
  readonly restMs?: number
  /** The first wait after a failure; it doubles up to 60 s. Default 1 s. */
  readonly retryMs?: number
}

/** A round ends before its hold does, with time for one more answer. */
const holdMs = 60_000
const roundMs = 30_000
const longestRetryMs = 60_000
const answerMs = 10_000
const runsAtOnce = 100
const transitionsPerRun = 200
const runsSentAtOnce = 8
const batchSize = 100
const refusals: ReadonlySet<number> = new Set([400, 413, 415, 422])

interface Message {
  readonly runId: string
  readonly seq: number
  readonly event: OpenLineageEvent
}

/** What became of the messages of a round. */
interface Counts {
  sent: number
  refused: number
  /** Why the last of those was refused. */
  error: string | null
}

export class OpenLineage {
  private readonly stopping = new AbortController()
  private working: Promise<void> = Promise.resolve()
  private readonly parts: OpenLineageParts
  /** Names the receiver in the database: its address without what may be secret. */
  private readonly receiver: string
  private readonly batches: boolean
  private readonly workflows = new Map<string, Promise<WorkflowManifest | undefined>>()
  private failing = false

  constructor(parts: OpenLineageParts) {
    this.parts = parts
    const { origin, pathname } = new URL(parts.settings.url)
    this.receiver = `${origin}${pathname} ${parts.settings.namespace}`
    this.batches = pathname.endsWith('/batch')
  }

  start(): void {
    this.working = this.work()
  }

  async stop(): Promise<void> {
    this.stopping.abort()
    await this.working
    await letReceiverGo(this.parts.db, this.receiver, this.parts.nodeId).catch(() => {})
  }

  private async work(): Promise<void> {
    const { restMs = 2_000, retryMs = 1_000 } = this.parts
    let wait = retryMs
    while (!this.stopping.signal.aborted) {
      try {
        const busy = await this.round()
        wait = retryMs
        if (!busy) await this.rest(restMs)
      } catch (error) {
        if (this.stopping.signal.aborted) return
        if (!this.failing) this.parts.note(`OpenLineage events wait: ${messageOf(error)}`)
        this.failing = true
        await noteFailing(this.parts.db, this.receiver, messageOf(error).slice(0, 1_000)).catch(() => {})
        await this.rest(wait)
        wait = Math.min(longestRetryMs, wait * 2)
      }
    }
  }

  /** Whether there was anything to tell. @throws when the receiver or the database cannot be reached */
  private async round(): Promise<boolean> {
    const { db, nodeId } = this.parts
    if (!(await holdReceiver(db, this.receiver, nodeId, holdMs))) return false
    const runs = await runsWithNews(db, this.receiver, runsAtOnce)
    if (runs.length === 0) {
      await advanceHorizon(db, this.receiver)
      return false
    }
    const { byRun, upTo } = await this.read(runs)
    const told = new Map<string, number>()
    const counts: Counts = { sent: 0, refused: 0, error: null }
    let failure: unknown
    const until = monotonicMs() + roundMs
    const all = [...byRun.values()]
    const queue = this.batches ? [all.flat()] : all
    const send = async () => {
      for (let next = queue.shift(); next && failure === undefined; next = queue.shift()) {
        await this.sendInOrder(next, counts, told, until).catch((error) => {
          failure ??= error
        })
      }
    }
    await Promise.all(Array.from({ length: runsSentAtOnce }, send))
    for (const { runId, seq } of upTo) {
      const last = byRun.get(runId)?.at(-1)
      if (!last || last.seq <= (told.get(runId) ?? 0)) told.set(runId, seq)
    }
    const places = [...told].map(([runId, seq]) => ({ runId, seq }))
    await noteTold(db, this.receiver, places, counts, failure !== undefined)
    if (failure !== undefined) throw failure
    if (this.failing) this.parts.note('OpenLineage events are taken again')
    this.failing = false
    return true
  }

  /** What is to be told of each of these runs, and up to where that goes. */
  private async read(runs: readonly RunNews[]) {
    const { db, settings, version } = this.parts
    // So that versions which are written are named where the end of their task is told.
    await publishDatasets(db)
    const rows = await nextTransitions(db, runs, transitionsPerRun)
    const ends = rows.filter((row) => row.node >= 0 && !['START', 'RUNNING', undefined].includes(eventTypeOf(row)))
    const lineage = Map.groupBy(await lineageOfAttempts(db, ends), placeOf)
    const rowsOf = Map.groupBy(rows, ({ runId }) => runId)
    const byRun = new Map<string, readonly Message[]>()
    const upTo: { runId: string; seq: number }[] = []
    for (const run of runs) {
      const own = rowsOf.get(run.id)
      // Without rows, their day was dropped: what is not there any more cannot be told.
      upTo.push({ runId: run.id, seq: own?.at(-1)?.seq ?? run.last })
      const workflow = await this.workflowOf(run)
      const messages = (own ?? []).flatMap((row) => {
        const event = eventOf(run, workflow, row, lineage.get(placeOf(row)) ?? [], {
          namespace: settings.namespace,
          version,
        })
        return event ? [{ runId: run.id, seq: row.seq, event }] : []
      })
      if (messages.length > 0) byRun.set(run.id, messages)
    }
    return { byRun, upTo }
  }

  private async sendInOrder(
    messages: readonly Message[],
    counts: Counts,
    told: Map<string, number>,
    until: number,
  ): Promise<void> {
    const size = this.batches ? batchSize : 1
    for (let at = 0; at < messages.length && monotonicMs() < until; at += size) {
      const some = messages.slice(at, at + size)
      await this.send(some, counts)
      for (const { runId, seq } of some) told.set(runId, seq)
    }
  }

  private async send(messages: readonly Message[], counts: Counts): Promise<void> {
    const refusal = await this.post(messages)
    if (refusal === undefined) counts.sent += messages.length
    else if (messages.length === 1) {
      counts.refused += 1
      counts.error = refusal
    } else {
      // One of them is what it does not take; the others go without it.
      for (const message of messages) await this.send([message], counts)
    }
  }

  /** Gives why it is refused for good. @throws when it may be taken later */
  private async post(messages: readonly Message[]): Promise<string | undefined> {
    const { url, token } = this.parts.settings
    const events = messages.map(({ event }) => event)
    const { href, username, password } = withoutCredentials(url)
    const credentials = username === '' ? undefined : `Basic ${btoa(`${username}:${password}`)}`
    const authorization = token === undefined ? credentials : `Bearer ${token}`
    const signal = AbortSignal.any([this.stopping.signal, AbortSignal.timeout(answerMs)])
    const response = await fetch(href, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(authorization === undefined ? {} : { authorization }) },
      body: JSON.stringify(this.batches ? events : events[0]),
      redirect: 'manual',
      signal,
    }).catch((error) => {
      throw new Error(`${this.receiver} cannot be reached: ${messageOf((error as Error).cause ?? error)}`)
    })
    await response.body?.cancel().catch(() => {})
    if (response.status >= 200 && response.status < 300) return undefined
    const answer = `${this.receiver} answered ${response.status}`
    if (refusals.has(response.status)) {
      this.parts.note(`${answer}: an OpenLineage event of run ${messages[0]!.runId} is left out`)
      return answer
    }
    throw new Error(answer)
  }

  private workflowOf({ version, workflow }: RunNews): Promise<WorkflowManifest | undefined> {
    const key = `${version} ${workflow}`
    const found = this.workflows.get(key) ?? readPinnedWorkflow(this.parts.db, version, workflow)
    this.workflows.set(key, found)
    found.catch(() => this.workflows.delete(key))
    if (this.workflows.size > 64) this.workflows.delete(this.workflows.keys().next().value!)
    return found
  }

  /** Until then, or until it is to stop. */
  private async rest(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.stopping.signal }).catch(() => {})
  }
}

const placeOf = (row: { runId: string; node: number; mapIndex: number; attempt: number }) =>
  `${row.runId} ${row.node} ${row.mapIndex} ${row.attempt}`

function withoutCredentials(url: string): { href: string; username: string; password: string } {
  const parsed = new URL(url)
  const [username, password] = [decodeURIComponent(parsed.username), decodeURIComponent(parsed.password)]
  parsed.username = ''
  parsed.password = ''
  return { href: parsed.href, username, password }
}
