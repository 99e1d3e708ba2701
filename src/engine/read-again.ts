/** Reads runs of ours again after their memory was thrown away, until it goes well. */
import type { Outcome } from '../core/run-progress.ts'
import { messageOf } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import { type OwnedRun as RunRow, reclaimRun } from '../store/runs.ts'
import { monotonicMs } from '../time.ts'
import { Outage } from './outage.ts'
import type { OwnedRun } from './owned-run.ts'

export interface ReadAgainParts {
  readonly db: Database
  readonly nodeId: string
  readonly note: (line: string) => void
  /** Nothing is to be read any more. */
  readonly isOver: () => boolean
  readonly held: (runId: string) => OwnedRun | undefined
  readonly adopt: (row: RunRow) => Promise<void>
  readonly fail: (row: RunRow, why: string) => Promise<void>
  /** The run is not ours any more, or has ended. */
  readonly lost: (runId: string) => void
}

export interface Fate {
  /** It was not their fault, so they need not be apart. */
  readonly wait: boolean
  /** These runs are beyond help, and end. */
  readonly failure: string | undefined
}

export class ReadAgain {
  /**
   * How attempts ended whose runs are being read again, by run and token. While the database is away nothing starts, so
   * these are at most as many as runners have places.
   */
  private readonly known = new Map<string, Map<number, Outcome>>()
  private readonly outage: Outage
  private readonly parts: ReadAgainParts

  constructor(parts: ReadAgainParts) {
    this.parts = parts
    this.outage = new Outage({ what: 'reading runs again', counted: 'runs', note: parts.note, now: monotonicMs })
  }

  /** The run will be read again; these ends of its attempts are not in its rows. */
  expect(runId: string, ends: readonly { readonly token: number; readonly outcome: Outcome }[]): void {
    const known = this.known.get(runId) ?? new Map<number, Outcome>()
    this.known.set(runId, known)
    for (const { token, outcome } of ends) known.set(token, outcome)
  }

  /** The runs that are about to be read again. */
  expected(): Iterable<string> {
    return this.known.keys()
  }

  expects(runId: string): boolean {
    return this.known.has(runId)
  }

  /** An attempt has ended; remembered where its run is about to be read again. */
  ended(runId: string, token: number, outcome: Outcome): void {
    this.known.get(runId)?.set(token, outcome)
  }

  outcomeOf(runId: string, token: number): Outcome | undefined {
    return this.known.get(runId)?.get(token)
  }

  forget(): void {
    this.known.clear()
  }

  /** False: nobody tries any longer. */
  async read(runs: readonly OwnedRun[], fate: Fate): Promise<boolean> {
    const ids = runs.map(({ row }) => row.id)
    for (let delay = 50; !this.parts.isOver(); delay = Math.min(delay * 2, 2_000)) {
      try {
        for (const id of ids) if (!this.parts.held(id)) await this.readOne(id, fate)
        for (const id of ids) this.known.delete(id)
        this.outage.over(ids)
        return true
      } catch (error) {
        this.outage.failed(ids, messageOf(error))
        await new Promise((resolve) => setTimeout(resolve, delay))
      }
    }
    // Taken up again with all others, or by another node.
    this.outage.over(ids, 'is given up')
    return false
  }

  private async readOne(id: string, { wait, failure }: Fate): Promise<void> {
    const row = await reclaimRun(this.parts.db, id, this.parts.nodeId)
    if (!row) return this.parts.lost(id)
    if (failure !== undefined) return this.parts.fail(row, failure)
    await this.parts.adopt(row)
    const adopted = this.parts.held(id)
    if (adopted && !wait) adopted.alone = true
  }
}
