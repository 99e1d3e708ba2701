/**
 * Starts a run for each file that arrives or changes, by `fileArrival` plans. The folder's watcher wakes it, a sweep
 * every 10 s finds what a watcher missed (network file systems tell nothing). A file counts once its size and time of
 * change have not moved for the plan's rest; one that never rests counts every 10 s, and its readers see whole lines.
 *
 * 1. The time of change is the later one of the bytes' and of the name's and mode's: a file that is moved into the place
 *    of another of its size and age is a change too. One that is only touched starts a run, which finds nothing new.
 * 2. What is no file, or cannot be looked at, starts nothing and is noted once; a link stands for the file it leads to.
 * 3. A file whose run cannot be started holds up no other: it is noted, and looked at again by the next sweep.
 */
import { type FSWatcher, watch } from 'node:fs'
import { glob, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { newRunId } from '../core/ids.ts'
import type { Manifest, WorkflowManifest } from '../core/manifest.ts'
import { planStart } from '../core/plan-start.ts'
import { messageOf } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import type { FileArrivalPlan } from '../sdk/plan.ts'
import { isPaused, knownFiles, planEntry, plannedRows, recordArrival, recordTicks } from '../store/plans.ts'
import { insertNewRuns } from '../store/runs.ts'
import type { Clock } from '../time.ts'

export interface WatchFilesParts {
  readonly db: Database
  readonly projectDir: string
  readonly clock: Clock
  readonly random: () => number
  readonly note: (line: string) => void
}

interface Seen {
  readonly size: number
  readonly modifiedMs: number
  /** When this state was first seen. */
  readonly since: number
  /** Since when there is a change that started nothing yet. */
  readonly openSince: number | undefined
}

const sweepMs = 10_000
/** A file that goes on changing fires this often. */
const restlessMs = 10_000

export class WatchFiles {
  private plans: WatchedPlan[] = []
  private readonly parts: WatchFilesParts

  constructor(parts: WatchFilesParts) {
    this.parts = parts
  }

  async follow(manifest: Manifest): Promise<void> {
    await this.stop()
    this.plans = manifest.workflows.flatMap((workflow) =>
      workflow.plans.flatMap((plan) =>
        plan.kind === 'file-arrival' ? [new WatchedPlan(this.parts, workflow, plan, manifest.hash)] : [],
      ),
    )
    for (const plan of this.plans) plan.wake()
  }

  async stop(): Promise<void> {
    await Promise.all(this.plans.map((plan) => plan.stop()))
    this.plans = []
  }
}

class WatchedPlan {
  private watcher: FSWatcher | undefined
  private timer: NodeJS.Timeout | undefined
  private nudge: NodeJS.Timeout | undefined
  private looking = Promise.resolve()
  /** Empty until the first look reads what was fired before. */
  private seen: Map<string, Seen> | undefined
  /** What was noted of files that start nothing. */
  private readonly noted = new Map<string, string>()
  private lastTick = 0
  private stopped = false
  private readonly folder: string
  private readonly parts: WatchFilesParts
  private readonly workflow: string
  private readonly definition: WorkflowManifest
  private readonly plan: FileArrivalPlan & { readonly name: string }
  private readonly version: string

  constructor(
    parts: WatchFilesParts,
    workflow: WorkflowManifest,
    plan: FileArrivalPlan & { readonly name: string },
    version: string,
  ) {
    this.parts = parts
    this.workflow = workflow.name
    this.definition = workflow
    this.plan = plan
    this.version = version
    const segments = plan.glob.split('/')
    const pattern = segments.findIndex((segment) => /[*?[{]/.test(segment))
    this.folder = join(parts.projectDir, ...segments.slice(0, pattern < 0 ? -1 : pattern))
  }

  wake(): void {
    this.looking = this.looking.then(() => this.look())
  }

  async stop(): Promise<void> {
    this.stopped = true
    clearTimeout(this.timer)
    clearTimeout(this.nudge)
    this.watcher?.close()
    await this.looking
  }

  private async look(): Promise<void> {
    if (this.stopped) return
    clearTimeout(this.timer)
    this.watchFolder()
    let wait = sweepMs
    try {
      this.seen ??= await this.remembered()
      const files = await this.files()
      for (const path of files) wait = Math.min(wait, await this.tryToConsider(path, this.seen))
      this.forgetGone(files)
    } catch (error) {
      this.parts.note(`watching ${this.plan.glob} failed: ${messageOf(error)}`)
    }
    clearTimeout(this.timer)
    if (!this.stopped) this.timer = setTimeout(() => this.wake(), wait)
  }

  private async remembered(): Promise<Map<string, Seen>> {
    const known = await knownFiles(this.parts.db, this.workflow, this.plan.name)
    return new Map([...known].map(([path, state]) => [path, { ...state, since: 0, openSince: undefined }]))
  }

  private watchFolder(): void {
    if (this.watcher) return
    try {
      this.watcher = watch(this.folder, { persistent: false }, () => this.soon())
      this.watcher.on('error', () => {
        this.watcher?.close()
        this.watcher = undefined
      })
    } catch {
      // The folder is not there yet; the sweep looks for it.
    }
  }

  /** Many events of one change lead to one look. */
  private soon(): void {
    if (this.stopped || this.nudge) return
    this.nudge = setTimeout(() => {
      this.nudge = undefined
      this.wake()
    }, 50)
  }

  private async files(): Promise<string[]> {
    const found: string[] = []
    for await (const path of glob(this.plan.glob, { cwd: this.parts.projectDir })) found.push(path)
    return found.sort()
  }

  /** A file that comes back is known by its row, so that memory holds no more than the folder does. */
  private forgetGone(files: readonly string[]): void {
    const present = new Set(files)
    for (const known of [this.seen, this.noted]) {
      for (const path of known?.keys() ?? []) if (!present.has(path)) known?.delete(path)
    }
  }

  private async tryToConsider(path: string, seen: Map<string, Seen>): Promise<number> {
    try {
      return await this.consider(path, seen)
    } catch (error) {
      this.noteOnce(path, `${JSON.stringify(path)} could not start a run: ${messageOf(error)}`)
      return sweepMs
    }
  }

  private noteOnce(path: string, line: string): void {
    if (this.noted.get(path) !== line) this.parts.note(line)
    this.noted.set(path, line)
  }

  /** Gives after how many milliseconds to look at this file again. */
  private async consider(path: string, seen: Map<string, Seen>): Promise<number> {
    const now = this.parts.clock.now()
    const found = await stat(join(this.parts.projectDir, path)).catch((thrown: NodeJS.ErrnoException) => thrown)
    if (found instanceof Error || !found.isFile()) {
      const why = found instanceof Error ? `cannot be looked at (${found.code})` : 'is no file'
      this.noteOnce(path, `${JSON.stringify(path)} starts nothing: it ${why}`)
      return sweepMs
    }
    this.noted.delete(path)
    const state = { size: found.size, modifiedMs: Math.floor(Math.max(found.mtimeMs, found.ctimeMs)) }
    const before = seen.get(path)
    const same = before !== undefined && before.size === state.size && before.modifiedMs === state.modifiedMs
    if (same && before.openSince === undefined) return sweepMs
    const since = same ? before.since : now
    const openSince = before?.openSince ?? now
    seen.set(path, { ...state, since, openSince })
    // The time of change counts too, so that a file that came while nothing watched need not rest again.
    const rested = now - Math.min(since, Math.max(state.modifiedMs, since - this.plan.restMs))
    const open = now - openSince
    if (rested < this.plan.restMs && open < restlessMs) return Math.min(this.plan.restMs - rested, restlessMs - open)
    await this.fire(path, state)
    seen.set(path, { ...state, since, openSince: undefined })
    return sweepMs
  }

  private async fire(path: string, state: { size: number; modifiedMs: number }): Promise<void> {
    const { db, clock, random } = this.parts
    const now = clock.now()
    const runId = newRunId(now, random)
    // Arrivals that this engine sees are told in their order.
    this.lastTick = Math.max(now, this.lastTick + 1)
    await db.transaction(async (session) => {
      if (!(await recordArrival(session, { workflow: this.workflow, plan: this.plan.name, path, ...state, runId })))
        return
      const due = {
        paused: await isPaused(session, this.workflow),
        outcome: 'fired',
        reason: `${path} has ${state.size} bytes`,
      } as const
      const start = planStart(this.definition, this.plan, { event: { file: path } }, due)
      const entry = planEntry(this.definition, this.plan, this.version)
      // Files have no logical time: two may arrive in one millisecond, and each is a run.
      const at = { time: new Date(this.lastTick), logicalTime: null, event: path }
      const { tick, run } = plannedRows(entry, at, start, runId)
      if (run) await insertNewRuns(session, [run])
      await recordTicks(session, [tick])
    })
  }
}
