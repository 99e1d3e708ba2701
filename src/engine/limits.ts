/**
 * The engine's side of limits: what waits for them here, what this node was granted, and the word between it and the rows.
 *
 * 1. One word is under way at a time; what gathers meanwhile is the next. Nothing polls: a word goes out when there is
 *    news here, when others tell of theirs, when a token is due, and by the slow sweep.
 * 2. Nothing of this is in the way of a start: a task starts within the grant by a decision in memory (core/limits.ts).
 * 3. What people are shown of it is written at most twice a second, and only of what changed.
 */
import type { Candidate, Need } from '../core/limit-lines.ts'
import type { ReadyRange } from '../core/run-progress.ts'
import { messageOf } from '../errors.ts'
import type { LocalExecutor } from '../executors/local.ts'
import type { Database } from '../ports/database.ts'
import { exchangeLimits, giveUpGrants } from '../store/limits.ts'
import { type ShownTask, showLines, showRunners } from '../store/shown-limits.ts'
import { type Clock, monotonicMs } from '../time.ts'
import { DueTimes } from './due-times.ts'
import { LimitTalk, type Words } from './limit-talk.ts'
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

/** Of each line, and of who holds. */
const mostShown = 100
const showEveryMs = 500
const tryAgainMs = 500

export class Limits {
  private readonly talk: LimitTalk
  private readonly due: DueTimes<string>
  private readonly outage: Outage
  private readonly parts: LimitsParts
  private telling: Promise<void> | undefined
  private again: NodeJS.Timeout | undefined
  private showing: Promise<void> | undefined
  private showLater: NodeJS.Timeout | undefined
  private shownRunners = ''
  private stopped = false

  constructor(parts: LimitsParts) {
    this.parts = parts
    const { nodeId, clock, executor } = parts
    this.talk = new LimitTalk({ nodeId, now: () => clock.now(), runs: (token) => executor.has(token) })
    this.outage = new Outage({ what: 'asking for limits', counted: 'nodes', note: parts.note, now: monotonicMs })
    this.due = new DueTimes(parts.clock, (ids) => {
      this.talk.due(ids)
      parts.pump()
    })
  }

  /** These tasks wait until what they need is free. */
  offer(run: OwnedRun, range: ReadyRange, needs: readonly Need[], isolation: Isolation): void {
    this.talk.offer(run, range, needs, isolation)
  }

  /** Starts the first in line on a runner of one of these kinds. False: nothing may start. */
  next(free: readonly Isolation[], start: (candidate: Candidate<OwnedRun>) => number): boolean {
    return this.talk.lines.next(free, start)
  }

  pause(run: OwnedRun, paused: boolean): void {
    this.talk.pause(run, paused)
  }

  forget(run: OwnedRun): void {
    this.talk.lines.forget(run)
  }

  /** Starts and ends that are committed: tokens are used, and what attempts held is free. */
  committed(started: readonly number[], ended: readonly number[]): void {
    this.talk.committed(started, ended)
  }

  /** After a run was read again: attempts that its rows do not have, and no runner either, hold nothing. */
  settle(runId: string, live: readonly number[]): void {
    this.talk.settle(runId, live)
  }

  /** Somebody else has news: `<node that knows> <kind>:<name>`. */
  heard(news: string): void {
    if (this.talk.heard(news)) this.parts.pump()
  }

  /** Notifications may have been missed. */
  sweep(): void {
    if (this.talk.lines.look()) this.parts.pump()
  }

  /** Nothing is known until `resume`: others may have taken what was granted. */
  suspend(): void {
    this.talk.suspend()
  }

  resume(): void {
    this.talk.resume()
    this.tell()
  }

  /** Call it when nothing more may start. */
  tell(): void {
    this.show()
    if (this.telling || this.again || this.stopped) return
    const words = this.talk.next()
    if (words === undefined) return
    this.telling = this.say(words).finally(() => {
      this.telling = undefined
      if (!this.stopped) this.parts.pump()
    })
  }

  private async say(words: Words): Promise<void> {
    const { db, nodeId } = this.parts
    try {
      const answers = await exchangeLimits(db, nodeId, words)
      for (const { at, limit } of this.talk.answered(answers)) this.due.add(at, limit)
      this.outage.over([nodeId])
    } catch (error) {
      this.outage.failed([nodeId], messageOf(error))
      this.talk.unanswered()
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
    const lines = this.talk.lines.takeChanged().map((limit) => {
      const { inUse, waiting, holders, line } = this.talk.lines.shown(limit, mostShown)
      return {
        ...{ limit, inUse, waiting },
        holders: holders.map(shownTask),
        line: line.map((one) => ({ ...shownTask(one), ...one.place })),
      }
    })
    await showLines(db, nodeId, lines)
    const runners = (['shared', 'process'] as const).map((lane) => {
      const { busy, slots } = this.parts.executor.size(lane)
      return { lane, busy, slots, ready: this.parts.readyIn(lane) + this.talk.lines.hopefulIn(lane) }
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
