/**
 * Writes what runs decided: whatever gathered while the last write was under way is the next write. No timer, and at
 * most `depth` groups under way, of different runs, to fill the wait for the disk.
 *
 * 1. A run's changes are written one after another, in the order they were decided; its commands leave only after
 *    their commit.
 * 2. A refused or failed group releases no command; its runs are given up, to be read again from their rows.
 */
import type { RunChange } from '../store/transitions.ts'
import type { AfterCommit, OwnedRun } from './owned-run.ts'

export interface GroupCommitParts {
  write(changes: readonly RunChange[]): Promise<void>
  /** Starts ready tasks into the runs' changes; called before each group is formed. */
  fill(): void
  committed(run: OwnedRun, after: AfterCommit): void
  /** Nothing of these runs is known to be written. */
  failed(runs: readonly OwnedRun[], after: readonly AfterCommit[], error: unknown): void
}

/** Most transitions in one group. Beyond 1,000 the statement grows without getting cheaper per row (measured). */
const groupLimit = 1_000

export class GroupCommit {
  private readonly dirty = new Set<OwnedRun>()
  private underWay = 0
  private filling = false
  private idle: (() => void)[] = []
  private readonly parts: GroupCommitParts
  private readonly depth: number

  constructor(parts: GroupCommitParts, depth = 2) {
    this.parts = parts
    this.depth = depth
  }

  mark(run: OwnedRun): void {
    if (run.hasChange && !run.writing) this.dirty.add(run)
  }

  forget(run: OwnedRun): void {
    this.dirty.delete(run)
  }

  /** Starts as many writes as may be under way. */
  pump(): void {
    if (this.filling) return
    while (this.underWay < this.depth) {
      this.filling = true
      try {
        this.parts.fill()
      } finally {
        this.filling = false
      }
      const group = this.takeGroup()
      if (group.length === 0) break
      this.underWay += 1
      void this.write(group)
    }
  }

  /** Resolves when nothing is under way. */
  settled(): Promise<void> {
    if (this.underWay === 0) return Promise.resolve()
    return new Promise((resolve) => this.idle.push(resolve))
  }

  private takeGroup(): OwnedRun[] {
    const group: OwnedRun[] = []
    for (const run of this.dirty) {
      if (run.alone && group.length > 0) continue
      this.dirty.delete(run)
      run.writing = true
      group.push(run)
      if (run.alone || group.length >= groupLimit) break
    }
    return group
  }

  private async write(group: readonly OwnedRun[]): Promise<void> {
    const taken = group.map((run) => run.takeChange())
    try {
      await this.parts.write(taken.map(({ change }) => change))
      for (const [index, run] of group.entries()) this.parts.committed(run, taken[index]!.after)
    } catch (error) {
      this.parts.failed(
        group,
        taken.map(({ after }) => after),
        error,
      )
    } finally {
      this.underWay -= 1
      for (const run of group) run.writing = false
      for (const run of group) this.mark(run)
      this.pump()
      if (this.underWay === 0) for (const resolve of this.idle.splice(0)) resolve()
    }
  }
}
