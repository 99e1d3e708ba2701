/**
 * The owner of runs: holds their graphs in memory, decides, has the decisions committed, and only then acts on them.
 *
 * 1. Only committed starts reach a runner, and only this node writes runs that name it under the epoch it holds.
 * 2. A run whose write was refused or failed is dropped from memory and read again; nothing of it was acted on.
 * 3. What is known of attempts that ended outlives that: it is decided upon again when their run was read again.
 * 4. A run stays until its end is committed; notifications only wake, a slow sweep finds what they missed.
 */
import { compileGraph, type Graph } from '../core/graph.ts'
import type { Manifest, WorkflowManifest } from '../core/manifest.ts'
import type { Outcome, RunEvent } from '../core/run-progress.ts'
import { restoreProgress } from '../core/run-restore.ts'
import { messageOf, SluiceError } from '../errors.ts'
import { storedResult } from '../executors/attempt.ts'
import type { LocalExecutor } from '../executors/local.ts'
import type { AttemptStart } from '../executors/runner-protocol.ts'
import type { Database } from '../ports/database.ts'
import { readInbox } from '../store/inbox.ts'
import { claimRuns, failRun, type OwnedRun as RunRow, reclaimRun, releaseRuns } from '../store/runs.ts'
import { readRunTasks } from '../store/tasks.ts'
import { commitGroup, wasTakenAway } from '../store/transitions.ts'
import { readVersion } from '../store/versions.ts'
import { type Clock, monotonicMs } from '../time.ts'
import { DueTimes } from './due-times.ts'
import { GroupCommit } from './group-commit.ts'
import { Outage } from './outage.ts'
import { type AfterCommit, type Isolation, OwnedRun } from './owned-run.ts'

export interface OwnRunsParts {
  readonly db: Database
  readonly nodeId: string
  readonly clock: Clock
  readonly random: () => number
  readonly executor: LocalExecutor
  /** The text of a large result that was stored as an object. */
  readonly readObject: (sha256: string) => Promise<Uint8Array>
  readonly note: (line: string) => void
  /** Most runs held in memory at once; more wait in the database. Default 1,000. */
  readonly maxRuns?: number
}

const defaultMaxRuns = 1_000
const isolations: readonly Isolation[] = ['shared', 'process']

export class OwnRuns {
  private readonly runs = new Map<string, OwnedRun>()
  /** Runs with ready tasks, in turn. */
  private readonly turn = new Set<OwnedRun>()
  private readonly group: GroupCommit
  private readonly due: DueTimes<{ run: OwnedRun; node: number; mapIndex: number }>
  private readonly versions = new Map<string, Promise<Map<string, { workflow: WorkflowManifest; graph: Graph }>>>()
  private claiming: Promise<void> | undefined
  private claimAgain = false
  /** Rows may name this node that it does not hold: a claim whose answer was lost, a run that could not be read. */
  private strays = false
  /**
   * How attempts ended whose runs are being read again, by run and token. While the database is away nothing starts, so
   * these are at most as many as runners have places.
   */
  private readonly known = new Map<string, Map<number, Outcome>>()
  private readonly outages: { readonly reading: Outage; readonly taking: Outage }
  private suspended = false
  private stopped = false
  private readonly reserved = { shared: 0, process: 0 }
  private readonly parts: OwnRunsParts

  constructor(parts: OwnRunsParts) {
    this.parts = parts
    const told = { note: parts.note, now: monotonicMs }
    this.outages = {
      reading: new Outage({ what: 'reading runs again', counted: 'runs', ...told }),
      taking: new Outage({ what: 'taking runs', ...told }),
    }
    this.group = new GroupCommit({
      write: (changes) => commitGroup(parts.db, parts.nodeId, changes),
      fill: () => this.fill(),
      committed: (run, after) => this.act(run, after),
      failed: (runs, after, error) => this.giveUp(runs, after, error),
    })
    this.due = new DueTimes(parts.clock, (items) => {
      for (const { run, node, mapIndex } of items) {
        if (this.runs.get(run.row.id) !== run) continue
        run.addReady({ node, first: mapIndex, last: mapIndex })
        this.queue(run)
      }
      this.group.pump()
    })
  }

  get held(): number {
    return this.runs.size
  }

  /** Takes runs that are free, and reads the inbox. Calls while it is at work make it look once more. */
  wake(): Promise<void> {
    if (this.claiming) {
      this.claimAgain = true
      return this.claiming
    }
    this.claiming = this.claimAll().finally(() => {
      this.claiming = undefined
      if (this.claimAgain && !this.stopped) {
        this.claimAgain = false
        void this.wake()
      }
    })
    return this.claiming
  }

  ended(attempt: AttemptStart, outcome: Outcome): void {
    const run = this.runs.get(attempt.runId)
    const { node, mapIndex, token } = attempt
    this.known.get(attempt.runId)?.set(token, outcome)
    if (!run) return
    this.take(run, { kind: 'ended', node, mapIndex, token, outcome })
  }

  pump(): void {
    if (!this.stopped) this.group.pump()
  }

  /** Starts nothing more and waits for the writes under way. Attempts that are running are not waited for. */
  async stop(): Promise<void> {
    this.stopped = true
    this.due.stop()
    this.turn.clear()
    await this.claiming?.catch(() => {})
    await this.group.settled()
  }

  /** Forgets everything and takes nothing, since others may take it at any moment; until `startOver`. */
  suspend(): void {
    this.suspended = true
    this.strays = true
    for (const run of this.runs.values()) this.forget(run)
    this.known.clear()
  }

  /** Forgets everything, since this node may have been taken for dead, and takes again what is still free. */
  startOver(): Promise<void> {
    this.suspend()
    this.suspended = false
    return this.wake()
  }

  private async claimAll(): Promise<void> {
    const { db, nodeId, maxRuns = defaultMaxRuns } = this.parts
    if (this.suspended) return
    try {
      if (this.strays) {
        await releaseRuns(db, nodeId, [...this.runs.keys()])
        this.strays = false
      }
      while (!this.stopped && !this.suspended && this.runs.size < maxRuns) {
        const limit = Math.min(200, maxRuns - this.runs.size)
        const rows = await claimRuns(db, nodeId, limit)
        const adopted = await Promise.allSettled(rows.map((row) => this.adopt(row)))
        this.group.pump()
        for (const result of adopted) if (result.status === 'rejected') throw result.reason
        if (rows.length < limit) break
      }
      await this.drainInbox()
      this.outages.taking.over([this.parts.nodeId])
    } catch (error) {
      this.strays = true
      this.outages.taking.failed([this.parts.nodeId], messageOf(error))
    }
  }

  private async drainInbox(): Promise<void> {
    for (const message of await readInbox(this.parts.db, this.parts.nodeId)) {
      const run = this.runs.get(message.runId)
      if (run) this.take(run, { kind: 'cancel' })
    }
    this.group.pump()
  }

  /** Reads a run's rows into memory. @throws what may pass; a run that can never be read ends as failed. */
  private async adopt(row: RunRow): Promise<void> {
    try {
      const found = (await this.workflowsOf(row.version)).get(row.workflow)
      if (!found) throw new SluiceError('NOT_FOUND', `version ${row.version} has no workflow ${row.workflow}`)
      const fresh = row.seq === 0
      const rows = fresh ? { tasks: [], widths: [] } : await readRunTasks(this.parts.db, row.id)
      for (const [index, task] of rows.tasks.entries()) {
        const stored = task.result === null ? null : storedResult.exec(task.result)
        if (stored)
          rows.tasks[index] = { ...task, result: Buffer.from(await this.parts.readObject(stored[1]!)).toString('utf8') }
      }
      const restored = restoreProgress(found.graph, row.params, rows.tasks, rows.widths)
      if (this.suspended) return
      const run = new OwnedRun(row, found.workflow, restored.progress)
      const held = this.runs.get(row.id)
      if (held && held.row.epoch >= row.epoch) return
      if (held) this.forget(held)
      this.runs.set(row.id, run)
      const now = this.parts.clock.now()
      run.take({ kind: 'begin' }, now, this.parts.random)
      for (const range of restored.ready) run.addReady(range)
      for (const { node, mapIndex, at } of restored.retries) this.due.add(at, { run, node, mapIndex })
      run.live = restored.running.length
      for (const { node, mapIndex, token } of restored.running) {
        if (this.parts.executor.has(token)) continue
        const outcome = this.known.get(row.id)?.get(token) ?? ({ kind: 'lost', reason: 'its engine ended' } as const)
        run.take({ kind: 'ended', node, mapIndex, token, outcome }, now, this.parts.random)
      }
      if (row.cancel) run.take({ kind: 'cancel' }, now, this.parts.random)
      this.changed(run)
    } catch (error) {
      const held = this.runs.get(row.id)
      if (held?.row === row) this.forget(held)
      if (mayPass(error)) throw error
      this.parts.note(`run ${row.id} of ${row.workflow} cannot be taken up: ${messageOf(error)}`)
      await this.fail(row, messageOf(error))
    }
  }

  /** A run that decides what cannot be decided ends as failed, alone. */
  private take(run: OwnedRun, event: RunEvent): void {
    this.guarded(run, () => run.take(event, this.parts.clock.now(), this.parts.random))
    this.changed(run)
  }

  private guarded<T>(run: OwnedRun, decide: () => T): T | undefined {
    try {
      return decide()
    } catch (error) {
      this.forget(run)
      void this.readAgain([run], { wait: false, failure: `it cannot be decided: ${messageOf(error)}` })
      return undefined
    }
  }

  private async fail(row: RunRow, why: string): Promise<void> {
    this.parts.executor.cancel(await failRun(this.parts.db, row, this.parts.nodeId, why))
  }

  private changed(run: OwnedRun): void {
    if (this.runs.get(run.row.id) !== run) return
    this.group.mark(run)
    this.queue(run)
  }

  private queue(run: OwnedRun): void {
    if (isolations.some((isolation) => run.canStart(isolation))) this.turn.add(run)
  }

  /** Gives free runner slots to ready tasks, one per run in turn, so that a large run does not hold up a small one. */
  private fill(): void {
    if (this.stopped) return
    for (const isolation of isolations) {
      let free = this.parts.executor.free(isolation) - this.reserved[isolation]
      while (free > 0 && this.turn.size > 0) {
        const started = this.startRound(isolation, free)
        if (started === 0) break
        free -= started
      }
    }
  }

  private startRound(isolation: Isolation, free: number): number {
    const share = Math.max(1, Math.floor(free / this.turn.size))
    let started = 0
    for (let left = this.turn.size; left > 0 && started < free; left -= 1) {
      const [run] = this.turn
      if (!run) break
      this.turn.delete(run)
      const starts = this.guarded(run, () => this.startSome(run, isolation, Math.min(share, free - started))) ?? 0
      started += starts
      this.changed(run)
    }
    return started
  }

  private startSome(run: OwnedRun, isolation: Isolation, most: number): number {
    let started = 0
    while (started < most && run.canStart(isolation) && run.start(isolation, newToken(this.parts.random))) {
      this.reserved[isolation] += 1
      started += 1
    }
    return started
  }

  private act(run: OwnedRun, after: AfterCommit): void {
    this.unreserve(after)
    run.alone = false
    if (this.runs.get(run.row.id) !== run) return
    for (const isolation of isolations) {
      const attempts = after.starts.filter((start) => start.isolation === isolation).map((start) => start.attempt)
      if (attempts.length > 0) this.dispatch(attempts, isolation)
    }
    if (after.kill.length > 0) this.parts.executor.cancel(after.kill)
    if (!this.stopped)
      for (const retry of after.retries) this.due.add(retry.at, { run, node: retry.node, mapIndex: retry.mapIndex })
    if (after.ended) {
      this.forget(run)
      // There was no room for more; runs may wait in the database.
      if (this.runs.size === (this.parts.maxRuns ?? defaultMaxRuns) - 1) void this.wake()
    }
  }

  private dispatch(attempts: readonly AttemptStart[], isolation: Isolation): void {
    try {
      this.parts.executor.start(attempts, isolation)
    } catch (error) {
      // Every runner is gone at this moment: the starts are committed, so they are losses, and tried again.
      for (const attempt of attempts) {
        this.ended(attempt, { kind: 'lost', reason: messageOf(error) })
      }
    }
  }

  private giveUp(runs: readonly OwnedRun[], after: readonly AfterCommit[], error: unknown): void {
    const wait = mayPass(error)
    this.parts.note(`a write for ${runs.length} runs failed, they are read again: ${messageOf(error)}`)
    for (const dropped of after) this.unreserve(dropped)
    for (const [index, run] of runs.entries()) {
      const ends = this.known.get(run.row.id) ?? new Map<number, Outcome>()
      this.known.set(run.row.id, ends)
      for (const { token, outcome } of [...after[index]!.ends, ...this.forget(run).ends]) ends.set(token, outcome)
    }
    const poison = runs.length === 1 && runs[0]!.alone && !wait && !wasTakenAway(error)
    void this.readAgain(runs, {
      wait,
      failure: poison ? `what it decided cannot be written: ${messageOf(error)}` : undefined,
    })
  }

  /** `failure`: these runs are beyond help, and end. `wait`: it was not their fault, so they need not be apart. */
  private async readAgain(
    runs: readonly OwnedRun[],
    { wait, failure }: { readonly wait: boolean; readonly failure: string | undefined },
  ): Promise<void> {
    const ids = runs.map(({ row }) => row.id)
    for (let delay = 50; !this.stopped && !this.suspended; delay = Math.min(delay * 2, 2_000)) {
      try {
        for (const { row } of runs) {
          if (this.runs.has(row.id)) continue
          const again = await reclaimRun(this.parts.db, row.id, this.parts.nodeId)
          if (!again) continue
          if (failure !== undefined) {
            await this.fail(again, failure)
            continue
          }
          await this.adopt(again)
          const adopted = this.runs.get(row.id)
          if (adopted && !wait) adopted.alone = true
        }
        for (const id of ids) this.known.delete(id)
        this.outages.reading.over(ids)
        this.group.pump()
        return
      } catch (error) {
        this.outages.reading.failed(ids, messageOf(error))
        await new Promise((resolve) => setTimeout(resolve, delay))
      }
    }
    // Taken up again with all others, or by another node.
    this.outages.reading.over(ids, 'is given up')
  }

  private forget(run: OwnedRun): AfterCommit {
    if (this.runs.get(run.row.id) === run) this.runs.delete(run.row.id)
    this.group.forget(run)
    for (const isolation of isolations) run.ready[isolation].clear()
    this.turn.delete(run)
    const { after } = run.takeChange()
    this.unreserve(after)
    return after
  }

  private unreserve(after: AfterCommit): void {
    for (const start of after.starts) this.reserved[start.isolation] -= 1
  }

  private workflowsOf(version: string) {
    let found = this.versions.get(version)
    if (!found) {
      found = readVersion(this.parts.db, version).then((manifest) => compileAll(version, manifest))
      found.catch(() => this.versions.delete(version))
      this.versions.set(version, found)
      if (this.versions.size > 32) this.versions.delete(this.versions.keys().next().value!)
    }
    return found
  }
}

function compileAll(version: string, manifest: Manifest | undefined) {
  if (!manifest) throw new SluiceError('NOT_FOUND', `version ${version} is not stored`)
  return new Map(manifest.workflows.map((workflow) => [workflow.name, { workflow, graph: compileGraph(workflow) }]))
}

/** SQLSTATE classes: rolled back for others' sake, no room, not in the right state, stopped by an operator, system error. */
const passing = /^(40|53|55|57|58)/

/** Whether the same may go well later; what is about the run itself never does. */
function mayPass(error: unknown): boolean {
  if (error instanceof SluiceError) return error.retryable
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && passing.test(error.code)
}

/** 52 random bits, never 0. */
function newToken(random: () => number): number {
  return 1 + Math.floor(random() * (2 ** 52 - 1))
}
