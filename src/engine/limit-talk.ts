/**
 * The word between a node and the rows of limits: what it has to tell, what it makes of an answer, who waits here.
 *
 * 1. One word is under way at a time; what gathers meanwhile is the next.
 * 2. An answer counts only for the node that asked: one that was asked before the node was taken for dead may be of grants
 *    which others have by now, so it is not heard, however late it comes.
 * 3. It awaits nothing and keeps no timer: who holds it says what time it is and carries the words.
 */
import type { Answer, Place, Word } from '../core/limit-exchange.ts'
import type { Need } from '../core/limit-lines.ts'
import { LimitLines } from '../core/limits.ts'
import type { ReadyRange } from '../core/run-progress.ts'
import type { Isolation, OwnedRun, WaitingTasks } from './owned-run.ts'

/** What is told in one transaction. */
export type Words = readonly (Word & { readonly limit: string })[]

/** When to look at a limit again, since there may be a token then. */
export interface TokenDue {
  readonly at: number
  readonly limit: string
}

export interface LimitTalkParts {
  readonly nodeId: string
  readonly now: () => number
  /** Whether a runner is at work on the attempt of a token. */
  readonly runs: (token: number) => boolean
}

/** Limits in one word. More wait for the next. */
const mostInWord = 200

export class LimitTalk implements WaitingTasks {
  readonly lines: LimitLines<OwnedRun>
  private readonly awaited = new Set<string>()
  private readonly parts: LimitTalkParts
  private underWay: Words | undefined
  /** The word that is under way was said by who this node was before. */
  private isOld = false
  private off = false

  constructor(parts: LimitTalkParts) {
    this.parts = parts
    this.lines = new LimitLines(parts.nodeId)
  }

  /** These tasks wait until what they need is free. Runs of higher priority go first, and of one run the tasks of higher. */
  offer(run: OwnedRun, range: ReadyRange, needs: readonly Need[], isolation: Isolation): void {
    const { priority = 0 } = run.workflow.nodes[range.node]!
    const place: Place = { priority: run.row.priority * 10_000 + priority, since: this.parts.now() }
    this.lines.offer(run, range, needs, place, isolation)
  }

  pause(run: OwnedRun, paused: boolean): void {
    if (paused) this.lines.pause(run)
    else this.lines.resume(run)
  }

  /** Starts and ends that are committed: tokens are used, and what attempts held is free. */
  committed(started: readonly number[], ended: readonly number[]): void {
    const now = this.parts.now()
    for (const token of started) this.lines.startTold(token, now)
    for (const token of ended) this.lines.release(token, now)
  }

  /** After a run was read again: attempts that its rows do not have, and no runner either, hold nothing. */
  settle(runId: string, live: readonly number[]): void {
    const kept = new Set(live)
    const now = this.parts.now()
    for (const token of this.lines.permitsOf((run) => run.row.id === runId)) {
      if (!kept.has(token) && !this.parts.runs(token)) this.lines.release(token, now)
    }
  }

  /** Somebody has news: `<node that knows> <kind>:<name>`. False: it is nothing to this node. */
  heard(news: string): boolean {
    const [from = '', limit = ''] = news.split(' ')
    return from !== this.parts.nodeId && this.lines.look(limit)
  }

  /** There may be tokens. */
  due(limits: readonly string[]): void {
    for (const limit of limits) {
      this.awaited.delete(limit)
      this.lines.look(limit)
    }
  }

  /** Nothing is known until `resume`: others may have taken what was granted. */
  suspend(): void {
    this.off = true
    this.isOld = true
    this.lines.reset(this.parts.now())
  }

  resume(): void {
    this.off = false
  }

  /** What has to be told; to be called when nothing more may start. Undefined: nothing, or not now. */
  next(most = mostInWord): Words | undefined {
    if (this.underWay || this.off || !this.lines.hasNews) return undefined
    const words = this.lines.words(this.parts.now(), most)
    if (words.length === 0) return undefined
    this.underWay = words
    this.isOld = false
    return words
  }

  /** The word that is under way was answered. */
  answered(answers: ReadonlyMap<string, Answer>): TokenDue[] {
    const words = this.take()
    const now = this.parts.now()
    return words.flatMap((word) => {
      const answer = answers.get(word.limit)!
      this.lines.answered(word, answer)
      if (answer.retryInMs === undefined || this.awaited.has(word.limit)) return []
      this.awaited.add(word.limit)
      return [{ at: now + answer.retryInMs, limit: word.limit }]
    })
  }

  /** Nobody knows whether the word that is under way was heard. */
  unanswered(): void {
    for (const { limit } of this.take()) this.lines.unanswered(limit)
  }

  private take(): Words {
    const words = this.underWay ?? []
    this.underWay = undefined
    return this.isOld ? [] : words
  }
}
