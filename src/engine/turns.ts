/** Runs with ready tasks: those of the highest priority take turns, the others wait for them. */
import type { OwnedRun } from './owned-run.ts'

export class Turns {
  private readonly byPriority = new Map<number, Set<OwnedRun>>()

  add(run: OwnedRun): void {
    const { priority } = run.row
    const line = this.byPriority.get(priority)
    if (line) line.add(run)
    else this.byPriority.set(priority, new Set([run]))
  }

  delete(run: OwnedRun): void {
    this.byPriority.get(run.row.priority)?.delete(run)
  }

  clear(): void {
    this.byPriority.clear()
  }

  /** The runs of the priorities, the highest first. */
  lines(): ReadonlySet<OwnedRun>[] {
    if (this.byPriority.size < 2) return [...this.byPriority.values()]
    return [...this.byPriority].sort(([one], [other]) => other - one).map(([, line]) => line)
  }
}
