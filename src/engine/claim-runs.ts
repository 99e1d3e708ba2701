/** Takes runs that are free, as many as this node has room for. Notifications wake it, and a slow sweep. */
import { messageOf } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import { admitRuns } from '../store/admit-runs.ts'
import { claimRuns, type OwnedRun as RunRow, releaseRuns } from '../store/runs.ts'
import { monotonicMs } from '../time.ts'
import { Outage } from './outage.ts'

export interface ClaimRunsParts {
  readonly db: Database
  readonly nodeId: string
  readonly note: (line: string) => void
  readonly maxRuns?: number
  /** Nothing is to be taken now. */
  readonly isOver: () => boolean
  /** Runs that this node holds, by id. */
  readonly held: ReadonlyMap<string, unknown>
  /** Runs that are about to be read again: they are this node's too, and so is what is known of their attempts. */
  readonly expected: () => Iterable<string>
  readonly adopt: (row: RunRow) => Promise<void>
  /** There may be something to write. */
  readonly pump: () => void
  /** Done before runs are taken. */
  readonly readPaused: () => Promise<void>
  /** Done when they are taken: what it says is about them, too. */
  readonly drainInbox: () => Promise<void>
}

const defaultMaxRuns = 1_000
/** Runs taken in one statement. */
const claimAtOnce = 200

export class ClaimRuns {
  /** Workflows of which runs wait for a place among its active ones. */
  private limited: ReadonlySet<string> = new Set()
  private claiming: Promise<void> | undefined
  private again = false
  /** Rows may name this node that it does not hold: a claim whose answer was lost, a run that could not be read. */
  private strays = false
  private readonly outage: Outage
  private readonly maxRuns: number
  private readonly parts: ClaimRunsParts

  constructor(parts: ClaimRunsParts) {
    this.parts = parts
    this.maxRuns = parts.maxRuns ?? defaultMaxRuns
    this.outage = new Outage({ what: 'taking runs', note: parts.note, now: monotonicMs })
  }

  /** Calls while it is at work make it look once more. */
  wake(): Promise<void> {
    if (this.claiming) {
      this.again = true
      return this.claiming
    }
    this.claiming = this.claimAll().finally(() => {
      this.claiming = undefined
      if (this.again) {
        this.again = false
        if (!this.parts.isOver()) void this.wake()
      }
    })
    return this.claiming
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    await this.claiming
  }

  /** What this node held it holds no more, and its rows may say otherwise. */
  mayHaveStrays(): void {
    this.strays = true
  }

  /** Whether a run may wait for the place of one of this workflow that has just ended. */
  mayFollow(workflow: string): boolean {
    return this.parts.held.size === this.maxRuns - 1 || this.limited.has(workflow)
  }

  private async claimAll(): Promise<void> {
    const { db, nodeId, held, isOver } = this.parts
    if (isOver()) return
    try {
      if (this.strays) {
        await releaseRuns(db, nodeId, [...held.keys(), ...this.parts.expected()])
        this.strays = false
      }
      const [limited] = await Promise.all([admitRuns(db), this.parts.readPaused()])
      this.limited = new Set(limited)
      await this.claimSome(() => this.maxRuns - held.size, false)
      // What others wait for goes on also when there is no room for more, or they would wait for each other for ever.
      if (held.size >= this.maxRuns) await this.claimSome(() => claimAtOnce, true)
      await this.parts.drainInbox()
      this.outage.over([nodeId])
    } catch (error) {
      this.strays = true
      this.outage.failed([nodeId], messageOf(error))
    }
  }

  private async claimSome(room: () => number, childrenOnly: boolean): Promise<void> {
    while (!this.parts.isOver()) {
      const limit = Math.min(claimAtOnce, room())
      if (limit <= 0) return
      const rows = await claimRuns(this.parts.db, this.parts.nodeId, limit, childrenOnly)
      const adopted = await Promise.allSettled(rows.map((row) => this.parts.adopt(row)))
      this.parts.pump()
      for (const result of adopted) if (result.status === 'rejected') throw result.reason
      if (rows.length < limit) return
    }
  }
}
