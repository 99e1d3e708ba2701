/**
 * Starts a run for each file that arrives or changes, by `fileArrival` plans. The folder's watcher wakes it, a sweep
 * every 10 s finds what a watcher missed (network file systems tell nothing). A file counts once its size and time of
 * change have not moved for the plan's rest; one that never rests counts every 10 s, and its readers see whole lines.
 */
import { type FSWatcher, watch } from 'node:fs'
import { glob, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { newRunId } from '../core/ids.ts'
import type { Manifest } from '../core/manifest.ts'
import { messageOf } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import type { FileArrivalPlan } from '../sdk/plan.ts'
import { isPaused, knownFiles, recordArrival, recordTicks } from '../store/plans.ts'
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
  /** When this state was first seen, and when the file was last fired. */
  readonly since: number
  readonly fired: number
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
        plan.kind === 'file-arrival' ? [new WatchedPlan(this.parts, workflow.name, plan, manifest.hash)] : [],
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
  private looking = Promise.resolve()
  private readonly seen = new Map<string, Seen>()
  private stopped = false
  private readonly folder: string
  private readonly parts: WatchFilesParts
  private readonly workflow: string
  private readonly plan: FileArrivalPlan & { readonly name: string }
  private readonly version: string

  constructor(
    parts: WatchFilesParts,
    workflow: string,
    plan: FileArrivalPlan & { readonly name: string },
    version: string,
  ) {
    this.parts = parts
    this.workflow = workflow
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
    this.watcher?.close()
    await this.looking
  }

  private async look(): Promise<void> {
    if (this.stopped) return
    clearTimeout(this.timer)
    this.watchFolder()
    let wait = sweepMs
    try {
      for (const path of await this.files()) wait = Math.min(wait, await this.consider(path))
    } catch (error) {
      this.parts.note(`watching ${this.plan.glob} failed: ${messageOf(error)}`)
    }
    if (!this.stopped) this.timer = setTimeout(() => this.wake(), wait)
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
    clearTimeout(this.timer)
    if (!this.stopped) this.timer = setTimeout(() => this.wake(), 50)
  }

  private async files(): Promise<string[]> {
    const found: string[] = []
    for await (const path of glob(this.plan.glob, { cwd: this.parts.projectDir })) found.push(path)
    return found.sort()
  }

  /** Gives after how many milliseconds to look at this file again. */
  private async consider(path: string): Promise<number> {
    const now = this.parts.clock.now()
    const found = await stat(join(this.parts.projectDir, path)).catch(() => undefined)
    if (!found?.isFile()) return sweepMs
    const state = { size: found.size, modifiedMs: Math.floor(found.mtimeMs) }
    const before = this.seen.get(path) ?? (await this.known(path, now))
    const same = before !== undefined && before.size === state.size && before.modifiedMs === state.modifiedMs
    const since = same ? before.since : now
    const fired = before?.fired ?? 0
    this.seen.set(path, { ...state, since, fired })
    if (same && fired >= since) return sweepMs
    const rested = now - Math.min(since, Math.max(state.modifiedMs, since - this.plan.restMs))
    const restless = fired > 0 ? now - fired : now - since
    if (rested < this.plan.restMs && restless < restlessMs) return this.plan.restMs - rested
    await this.fire(path, state)
    this.seen.set(path, { ...state, since, fired: this.parts.clock.now() })
    return this.plan.restMs
  }

  private async known(path: string, now: number): Promise<Seen | undefined> {
    const known = (await knownFiles(this.parts.db, this.workflow, this.plan.name)).get(path)
    return known && { ...known, since: now, fired: now }
  }

  private async fire(path: string, state: { size: number; modifiedMs: number }): Promise<void> {
    const { db, clock, random } = this.parts
    const now = clock.now()
    const runId = newRunId(now, random)
    const tick = { workflow: this.workflow, plan: this.plan.name, logicalTime: new Date(now) }
    await db.transaction(async (session) => {
      if (!(await recordArrival(session, { workflow: this.workflow, plan: this.plan.name, path, ...state, runId })))
        return
      if (await isPaused(session, this.workflow)) {
        await recordTicks(session, [
          { ...tick, outcome: 'skipped', reason: `the workflow is paused; ${path}`, runId: null },
        ])
        return
      }
      await insertNewRuns(session, [
        {
          id: runId,
          workflow: this.workflow,
          version: this.version,
          plan: this.plan.name,
          // Files have no logical time: two may arrive in one millisecond, and each is a run.
          logicalTime: null,
          params: JSON.stringify({ file: path }),
          idempotencyKey: null,
          requestHash: null,
        },
      ])
      await recordTicks(session, [{ ...tick, outcome: 'fired', reason: `${path} has ${state.size} bytes`, runId }])
    })
  }
}
