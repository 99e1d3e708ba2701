/**
 * Starts ready tasks where there is room: one per run in turn, so that a large run does not hold up a small one; runs of
 * higher priority before others. A place in a runner is reserved until the start is committed.
 */
import type { LocalExecutor } from '../executors/local.ts'
import type { AfterCommit, Isolation, OwnedRun, Place } from './owned-run.ts'
import { Turns } from './turns.ts'

export const places: readonly Place[] = ['shared', 'process', 'engine']

/** Runs that tasks start in one group: their rows go in one statement. */
const childrenAtOnce = 500

export interface FillParts {
  readonly executor: Pick<LocalExecutor, 'free'>
  /** Starts the first task in line for its limits, on a runner of one of these kinds; gives which, or nothing. */
  startLimited(free: readonly Isolation[]): Isolation | undefined
  /** Starts one task; false when nothing of the run may start there. A run that cannot be decided is given up in it. */
  start(run: OwnedRun, place: Place): boolean
  changed(run: OwnedRun): void
}

export class Fill {
  private readonly turns = new Turns()
  private readonly reserved: Record<Place, number> = { shared: 0, process: 0, engine: 0 }
  private readonly parts: FillParts

  constructor(parts: FillParts) {
    this.parts = parts
  }

  /** The run has, perhaps, something to start. */
  queue(run: OwnedRun): void {
    if (places.some((place) => run.canStart(place))) this.turns.add(run)
  }

  forget(run: OwnedRun): void {
    for (const place of places) run.ready[place].clear()
    this.turns.delete(run)
  }

  clear(): void {
    this.turns.clear()
  }

  unreserve(after: AfterCommit): void {
    for (const start of after.starts) this.reserved[start.isolation] -= 1
  }

  /** Tasks with limits and those without have half of the free places each, and what the others leave. */
  fill(): void {
    this.fillLimited(0.5)
    for (const place of places) {
      let free = this.freeIn(place)
      for (const line of this.turns.lines()) {
        while (free > 0 && line.size > 0) {
          const started = this.round(line, place, free)
          if (started === 0) break
          free -= started
        }
        if (free <= 0) break
      }
    }
    this.fillLimited(1)
  }

  /** Tasks that are ready and wait for a place alone. */
  readyIn(place: Place): number {
    let ready = 0
    for (const line of this.turns.lines()) for (const run of line) if (!run.paused) ready += run.ready[place].size
    return ready
  }

  private freeIn(place: Place): number {
    return place === 'engine' ? childrenAtOnce : this.parts.executor.free(place) - this.reserved[place]
  }

  private fillLimited(share: number): void {
    const left = {
      shared: Math.ceil(this.freeIn('shared') * share),
      process: Math.ceil(this.freeIn('process') * share),
    }
    for (;;) {
      const free = (['shared', 'process'] as const).filter((place) => left[place] > 0)
      const started = free.length > 0 ? this.parts.startLimited(free) : undefined
      if (started === undefined) return
      left[started] -= 1
      this.reserved[started] += 1
    }
  }

  private round(line: ReadonlySet<OwnedRun>, place: Place, free: number): number {
    const share = Math.max(1, Math.floor(free / line.size))
    let started = 0
    for (let left = line.size; left > 0 && started < free; left -= 1) {
      const [run] = line
      if (!run) break
      this.turns.delete(run)
      started += this.startSome(run, place, Math.min(share, free - started))
      this.parts.changed(run)
    }
    return started
  }

  private startSome(run: OwnedRun, place: Place, most: number): number {
    let started = 0
    while (started < most && run.canStart(place) && this.parts.start(run, place)) {
      if (place !== 'engine') this.reserved[place] += 1
      started += 1
    }
    return started
  }
}
