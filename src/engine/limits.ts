/**
 * The engine's side of limits: what waits for them here, what this node was granted, and the word between it and the rows.
 *
 * 1. One word is under way at a time; what gathers meanwhile is the next. Nothing polls: a word goes out when there is
 *    news here, when others tell of theirs, when a token is due, and by the slow sweep.
 * 2. Nothing of this is in the way of a start: a task starts within the grant by a decision in memory (core/limits.ts).
 * 3. What people are shown of it is written at most twice a second, and only of what changed.
 */
import type { Place } from '../core/limit-exchange.ts'
import type { Candidate, Need } from '../core/limit-lines.ts'
import { LimitLines } from '../core/limits.ts'
import type { ReadyRange } from '../core/run-progress.ts'
import { messageOf } from '../errors.ts'
import type { LocalExecutor } from '../executors/local.ts'
import type { Database } from '../ports/database.ts'
import { exchangeLimits, giveUpGrants, type ShownTask, showLines, showRunners } from '../store/limits.ts'
import { type Clock, monotonicMs } from '../time.ts'
import { DueTimes } from './due-times.ts'
import { Outage } from './outage.ts'
import type { Isolation, OwnedRun } from './owned-run.ts'

export interface LimitsParts {
  readonly db: Database
  readonly nodeId: string
  readonly clock: Clock
  readonly executor: Pick<LocalExecutor, 'free' | 'has' | 'size'>
  readonly note: (line: string) => void
  /** There may be more to start. */
  readonly pump: () => void
  /** Tasks that wait for nothing but a runner. */
  readonly readyIn: (isolation: Isolation) => number
}

/** Limits in one word. More wait for the next. */
const mostInWord = 200
/** Of each line, and of who holds. */
const mostShown = 100
const showEveryMs = 500
const tryAgainMs = 500

export class Limits {
  private readonly lines: LimitLines<OwnedRun>
  private readonly due: DueTimes<string>
  private readonly awaited = new Set<string>()
  private readonly outage: Outage
  private readonly parts: LimitsParts
  private telling: Promise<void> | undefined
  private again: NodeJS.Timeout | undefined
  private showing: Promise<void> | undefined
  private showLater: NodeJS.Timeout | undefined
  private shownRunners = ''
  private off = false
  private stopped = false

  constructor(parts: LimitsParts) {
    this.parts = parts
    this.lines = new LimitLines(parts.nodeId)
    this.outage = new Outage({ what: 'asking for limits', counted: 'nodes', note: parts.note, now: monotonicMs })
    this.due = new DueTimes(parts.clock, (ids) => {
      for (const id of ids) {
        this.awaited.delete(id)
        this.lines.look(id)
      }
      parts.pump()
    })
  }

  /** These tasks wait until what they need is free. */
  offer(run: OwnedRun, range: ReadyRange, needs: readonly Need[], isolation: Isolation): void {
    const node = run.workflow.nodes[range.node]!
    // Runs of higher priority go first, and of one run the tasks of higher priority.
    const place: Place = { priority: run.row.priority * 10_000 + (node.priority ?? 0), since: this.parts.clock.now() }
    this.lines.offer(run, range, needs, place, isolation)
  }

  /** Starts the first in line on a runner of one of these kinds. False: nothing may start. */
  next(free: readonly Isolation[], start: (candidate: Candidate<OwnedRun>) => number): boolean {
    return this.lines.next(free, start)
  }

  pause(run: OwnedRun, paused: boolean): void {
    if (paused) this.lines.pause(run)
    else this.lines.resume(run)
  }

  forget(run: OwnedRun): void {
    this.lines.forget(run)
  }

  /** Starts and ends that are committed: tokens are used, and what attempts held is free. */
  committed(started: readonly number[], ended: readonly number[]): void {
    const now = this.parts.clock.now()
    for (const token of started) this.lines.startTold(token, now)
    for (const token of ended) this.lines.release(token, now)
  }

  /** After a run was read again: attempts that its rows do not have, and no runner either, hold nothing. */
  settle(runId: string, live: readonly number[]): void {
    const kept = new Set(live)
    const now = this.parts.clock.now()
    for (const token of this.lines.permitsOf((run) => run.row.id === runId)) {
      if (!kept.has(token) && !this.parts.executor.has(token)) this.lines.release(token, now)
    }
  }

  /** Somebody else has news: `<node that knows> <kind>:<name>`. */
  heard(news: string): void {
    const [from = '', limit = ''] = news.split(' ')
    if (from !== this.parts.nodeId && this.lines.look(limit)) this.parts.pump()
  }

  /** Notifications may have been missed. */
  sweep(): void {
    if (this.lines.look()) this.parts.pump()
  }

  /** Nothing is known until `resume`: others may have taken what was granted. */
  suspend(): void {
    this.off = true
    this.lines.reset(this.parts.clock.now())
  }

  resume(): void {
    this.off = false
    this.tell()
  }

  /** Call it when nothing more may start. */
  tell(): void {
    this.show()
    if (this.telling || this.again || this.off || this.stopped || !this.lines.hasNews) return
    const words = this.lines.words(this.parts.clock.now(), mostInWord)
    if (words.length === 0) return
    this.telling = this.say(words).finally(() => {
      this.telling = undefined
      if (!this.stopped) this.parts.pump()
    })
  }

  private async say(words: ReturnType<LimitLines<OwnedRun>['words']>): Promise<void> {
    const { db, nodeId, clock } = this.parts
    try {
      const answers = await exchangeLimits(db, nodeId, words)
      if (this.off) return
      for (const word of words) {
        const answer = answers.get(word.limit)!
        this.lines.answered(word, answer)
        if (answer.retryInMs === undefined || this.awaited.has(word.limit)) continue
        this.awaited.add(word.limit)
        this.due.add(clock.now() + answer.retryInMs, word.limit)
      }
      this.outage.over([nodeId])
    } catch (error) {
      this.outage.failed([nodeId], messageOf(error))
      for (const { limit } of words) this.lines.unanswered(limit)
      if (this.stopped) return
      this.again = setTimeout(() => {
        this.again = undefined
        this.parts.pump()
      }, tryAgainMs)
    }
  }

  async stop(): Promise<void> {
    this.stopped = true
    this.due.stop()
    clearTimeout(this.again)
    clearTimeout(this.showLater)
    await this.telling
    await this.showing
  }

  /** When no attempt runs any more. */
  async giveUp(): Promise<void> {
    await giveUpGrants(this.parts.db, this.parts.nodeId)
  }

  private show(): void {
    if (this.showLater || this.showing || this.stopped) return
    this.showLater = setTimeout(() => {
      this.showLater = undefined
      this.showing = this.write()
        .catch(() => {})
        .finally(() => {
          this.showing = undefined
        })
    }, showEveryMs)
  }

  private async write(): Promise<void> {
    const { db, nodeId } = this.parts
    const lines = this.lines.takeChanged().map((limit) => {
      const { inUse, waiting, holders, line } = this.lines.shown(limit, mostShown)
      return {
        ...{ limit, inUse, waiting },
        holders: holders.map(shownTask),
        line: line.map((one) => ({ ...shownTask(one), ...one.place })),
      }
    })
    await showLines(db, nodeId, lines)
    const runners = (['shared', 'process'] as const).map((lane) => {
      const { busy, slots } = this.parts.executor.size(lane)
      return { lane, busy, slots, ready: this.parts.readyIn(lane) + this.lines.hopefulIn(lane) }
    })
    const text = JSON.stringify(runners)
    if (text === this.shownRunners) return
    await showRunners(db, nodeId, runners)
    this.shownRunners = text
  }
}

function shownTask({ candidate, amount }: { candidate: Candidate<OwnedRun>; amount: number }): ShownTask {
  const { owner, node, mapIndex } = candidate
  return { run: owner.row.id, node, index: mapIndex, amount }
}
