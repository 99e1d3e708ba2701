/**
 * The owner of runs: holds their graphs in memory, decides, has the decisions committed, and only then acts on them.
 *
 * 1. Only committed starts reach a runner, and only this node writes runs that name it under the epoch it holds.
 * 2. A run whose write was refused or failed is dropped from memory and read again; nothing of it was acted on.
 * 3. What is known of attempts that ended outlives that: it is decided upon again when their run was read again.
 * 4. A run stays until its end is committed; notifications only wake, a slow sweep finds what they missed.
 */
import type { Outcome, RunEvent } from '../core/run-progress.ts'
import { messageOf } from '../errors.ts'
import type { LocalExecutor } from '../executors/local.ts'
import type { AttemptStart } from '../executors/runner-protocol.ts'
import type { Database } from '../ports/database.ts'
import { putDeadline } from '../store/approvals.ts'
import { type InboxMessage, readInbox } from '../store/inbox.ts'
import { failRun, type OwnedRun as RunRow } from '../store/runs.ts'
import { commitGroup, wasTakenAway } from '../store/transitions.ts'
import { pausedWorkflows } from '../store/workflows.ts'
import type { Clock } from '../time.ts'
import { ClaimRuns } from './claim-runs.ts'
import { ClearRuns } from './clear-runs.ts'
import { DueTimes } from './due-times.ts'
import { Fill } from './fill.ts'
import { GroupCommit } from './group-commit.ts'
import { eventOf } from './inbox-events.ts'
import { Limits } from './limits.ts'
import { mayPass } from './may-pass.ts'
import { type AfterCommit, type Isolation, type Later, OwnedRun, type Place } from './owned-run.ts'
import { type Fate, ReadAgain } from './read-again.ts'
import { goOn, readRun } from './take-up.ts'
import { WorkflowGraphs } from './workflow-graphs.ts'

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

const isolations: readonly Isolation[] = ['shared', 'process']

export class OwnRuns {
  private readonly runs = new Map<string, OwnedRun>()
  /** What tasks wait for that others need too. */
  readonly limits: Limits
  private readonly fill: Fill
  private readonly group: GroupCommit
  private readonly due: DueTimes<{ run: OwnedRun; what: Later }>
  private readonly graphs: WorkflowGraphs
  private readonly clears: ClearRuns
  private paused: ReadonlySet<string> = new Set()
  private readonly claims: ClaimRuns
  private readonly again: ReadAgain
  private suspended = false
  private stopped = false
  private readonly parts: OwnRunsParts

  constructor(parts: OwnRunsParts) {
    this.parts = parts
    const isOver = () => this.stopped || this.suspended
    this.claims = new ClaimRuns({
      ...parts,
      isOver,
      held: this.runs,
      expected: () => this.again.expected(),
      adopt: (row) => this.adopt(row),
      pump: () => this.group.pump(),
      readPaused: () => this.readPaused(),
      drainInbox: () => this.drainInbox(),
    })
    this.again = new ReadAgain({
      ...parts,
      isOver,
      held: (id) => this.runs.get(id),
      adopt: (row) => this.adopt(row),
      fail: (row, why) => this.fail(row, why),
      lost: (id) => this.limits.settle(id, []),
    })
    this.graphs = new WorkflowGraphs(parts.db)
    this.clears = new ClearRuns({ ...parts, graphs: this.graphs, renew: (run, change) => this.renew(run, change) })
    this.limits = new Limits({ ...parts, pump: () => this.pump(), readyIn: (place) => this.fill.readyIn(place) })
    this.fill = new Fill({
      executor: parts.executor,
      startLimited: (free) => this.startLimited(free),
      start: (run, place) => this.start(run, place),
      changed: (run) => this.changed(run),
    })
    this.group = new GroupCommit({
      write: (changes) => commitGroup(parts.db, parts.nodeId, changes),
      fill: () => {
        if (this.stopped) return
        this.fill.fill()
        this.limits.tell()
      },
      committed: (run, after) => this.act(run, after),
      failed: (runs, after, error) => this.giveUp(runs, after, error),
    })
    this.due = new DueTimes(parts.clock, (items) => {
      for (const { run, what } of items) if (this.runs.get(run.row.id) === run) this.come(run, what)
      this.group.pump()
    })
  }

  get held(): number {
    return this.runs.size
  }

  /** Takes runs that are free, and reads the inbox. Calls while it is at work make it look once more. */
  wake(): Promise<void> {
    return this.claims.wake()
  }

  ended(attempt: AttemptStart, outcome: Outcome): void {
    const run = this.runs.get(attempt.runId)
    const { node, mapIndex, token } = attempt
    this.again.ended(attempt.runId, token, outcome)
    // Of a run that is not held, and not about to be read again, nobody else will say so.
    if (run ? !run.isLive(node, mapIndex, token) : !this.again.expects(attempt.runId))
      this.limits.committed([], [token])
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
    this.fill.clear()
    await this.claims.settled()
    await this.limits.stop()
    await this.group.settled()
  }

  /** Forgets everything and takes nothing, since others may take it at any moment; until `startOver`. */
  suspend(): void {
    this.suspended = true
    this.claims.mayHaveStrays()
    for (const run of this.runs.values()) this.forget(run)
    this.again.forget()
    this.limits.suspend()
  }

  /** Forgets everything, since this node may have been taken for dead, and takes again what is still free. */
  startOver(): Promise<void> {
    this.suspend()
    this.suspended = false
    this.limits.resume()
    return this.wake()
  }

  private async readPaused(): Promise<void> {
    this.paused = new Set(await pausedWorkflows(this.parts.db))
    for (const run of this.runs.values()) {
      this.pause(run)
      this.fill.queue(run)
    }
    this.group.pump()
  }

  private pause(run: OwnedRun): void {
    // The bodies of `each` are workflows named after their own.
    run.paused = this.paused.has(run.row.workflow.split('.', 1)[0]!)
    this.limits.pause(run, run.paused)
  }

  private async drainInbox(): Promise<void> {
    let after = 0
    while (!this.stopped && !this.suspended) {
      const messages = await readInbox(this.parts.db, this.parts.nodeId, after)
      for (const message of messages) await this.hear(message)
      this.group.pump()
      if (messages.length === 0) return
      after = messages.at(-1)!.id
    }
  }

  private async hear(message: InboxMessage): Promise<void> {
    const run = this.runs.get(message.runId)
    if (message.kind === 'clear') return this.clears.hear(run, message)
    if (!run) return
    const event = eventOf(message)
    // The wish to cancel stays, so that whoever adopts the run knows of it.
    if (message.kind !== 'cancel') run.consume(message.id)
    if (event) this.take(run, event)
  }

  /** What was to happen at a time happens. */
  private come(run: OwnedRun, what: Later): void {
    if (what.kind === 'ready') {
      run.addReady({ node: what.node, first: what.mapIndex, last: what.mapIndex })
      this.fill.queue(run)
    } else if (what.kind === 'due' && run.workflow.nodes[what.node]!.kind === 'approval') {
      void this.passDeadline(run, what)
    } else this.take(run, what)
  }

  /** An answer may have come before it: the inbox knows which was first. */
  private async passDeadline(run: OwnedRun, what: Extract<Later, { kind: 'due' }>): Promise<void> {
    try {
      await putDeadline(this.parts.db, { runId: run.row.id, ...what })
    } catch {
      this.due.add(this.parts.clock.now() + 1_000, { run, what })
    }
  }

  /** Reads a run's rows into memory. @throws what may pass; a run that can never be read ends as failed. */
  private async adopt(row: RunRow): Promise<void> {
    try {
      const { workflow, restored } = await readRun({ ...this.parts, graphs: this.graphs }, row)
      if (this.suspended) return
      const run = new OwnedRun(row, workflow, restored.progress, this.limits)
      const held = this.runs.get(row.id)
      if (held && held.row.epoch >= row.epoch) return
      if (held) this.forget(held)
      this.runs.set(row.id, run)
      this.pause(run)
      goOn(run, restored, {
        now: this.parts.clock.now(),
        random: this.parts.random,
        later: (at, what) => this.due.add(at, { run, what }),
        endOf: (token) => this.endOf(row.id, token),
      })
      const live = restored.running.map(({ token }) => token)
      this.limits.settle(row.id, live)
      this.changed(run)
    } catch (error) {
      const held = this.runs.get(row.id)
      if (held?.row === row) this.forget(held)
      if (mayPass(error)) throw error
      this.parts.note(`run ${row.id} of ${row.workflow} cannot be taken up: ${messageOf(error)}`)
      await this.fail(row, messageOf(error))
    }
  }

  /** How an attempt ended that the rows call running; undefined while it does run here. */
  private endOf(runId: string, token: number): Outcome | undefined {
    if (this.parts.executor.has(token)) return undefined
    return this.again.outcomeOf(runId, token) ?? { kind: 'lost', reason: 'its engine ended' }
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
    this.limits.settle(row.id, [])
  }

  private changed(run: OwnedRun): void {
    if (this.runs.get(run.row.id) !== run) return
    this.group.mark(run)
    this.fill.queue(run)
  }

  private start(run: OwnedRun, place: Place): boolean {
    const { clock, random } = this.parts
    return this.guarded(run, () => run.start(place, { token: newToken(random), now: clock.now(), random })) ?? false
  }

  private startLimited(free: readonly Isolation[]): Isolation | undefined {
    let started: Isolation | undefined
    const { clock, random } = this.parts
    this.limits.next(free, ({ owner: run, ...task }) => {
      const parts = { token: newToken(random), now: clock.now(), random }
      const { isolation } = run.workflow.nodes[task.node]!
      if (!this.guarded(run, () => run.startThis(task, isolation, parts))) return 0
      started = isolation
      this.changed(run)
      return parts.token
    })
    return started
  }

  private act(run: OwnedRun, after: AfterCommit): void {
    this.fill.unreserve(after)
    this.limits.committed(
      after.starts.map(({ attempt }) => attempt.token),
      after.ends.map(({ token }) => token),
    )
    run.alone = false
    if (this.runs.get(run.row.id) !== run) return
    for (const isolation of isolations) {
      const attempts = after.starts.filter((start) => start.isolation === isolation).map((start) => start.attempt)
      if (attempts.length > 0) this.dispatch(attempts, isolation)
    }
    if (after.kill.length > 0) this.parts.executor.cancel(after.kill)
    if (!this.stopped) {
      for (const { at, what } of after.later) this.due.add(at, { run, what })
      for (const { at, what } of run.limitsOf(after, this.parts.clock.now())) this.due.add(at, { run, what })
    }
    this.clears.written(run)
    if (after.ended) {
      this.forget(run)
      if (this.claims.mayFollow(run.row.workflow)) void this.wake()
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
    for (const dropped of after) this.fill.unreserve(dropped)
    for (const [index, run] of runs.entries()) this.setAside(run, after[index]!.ends)
    const poison = runs.length === 1 && runs[0]!.alone && !wait && !wasTakenAway(error)
    void this.readAgain(runs, {
      wait,
      failure: poison ? `what it decided cannot be written: ${messageOf(error)}` : undefined,
    })
  }

  /** Forgets a run that will be read again, but for what is known of its attempts. */
  private setAside(run: OwnedRun, ended: AfterCommit['ends']): void {
    this.again.expect(run.row.id, [...ended, ...this.forget(run).ends])
  }

  private async renew(run: OwnedRun, change: () => Promise<boolean>): Promise<void> {
    this.setAside(run, [])
    const done = await change()
    await this.readAgain([run], { wait: true, failure: undefined })
    if (done) void this.wake()
  }

  private async readAgain(runs: readonly OwnedRun[], fate: Fate): Promise<void> {
    if (await this.again.read(runs, fate)) this.group.pump()
  }

  private forget(run: OwnedRun): AfterCommit {
    this.clears.forget(run)
    if (this.runs.get(run.row.id) === run) this.runs.delete(run.row.id)
    this.group.forget(run)
    this.fill.forget(run)
    this.limits.forget(run)
    const { after } = run.takeChange()
    this.fill.unreserve(after)
    return after
  }
}

/** 52 random bits, never 0. */
function newToken(random: () => number): number {
  return 1 + Math.floor(random() * (2 ** 52 - 1))
}
