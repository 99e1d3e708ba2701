/**
 * Writes what attempts tell of what they read and wrote, and publishes what they wrote to datasets.
 *
 * 1. Notes of attempts that end at about the same time go in one statement: what gathered while the last one was written.
 * 2. When an attempt that wrote to a dataset has ended, its success may not be committed yet: it is looked for at growing
 *    distances until it is known how it ended, half a minute at most. A sweep finds what that misses, or what another
 *    process left behind; a task that reads a dataset does not wait for either, since reading publishes first.
 */
import { messageOf, SluiceError } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import {
  dropVainWrites,
  type LineageNote,
  noteEnvironment,
  noteLineage,
  publishDatasets,
  tasksWithWrites,
} from '../store/lineage.ts'
import type { AttemptKey } from '../store/tasks.ts'

const sweepMs = 15_000
const firstLookMs = 2
const lastLookMs = 1_000
const vainMs = 100
const patienceMs = 30_000
/** So many runs are remembered as noted; noting one again changes nothing. */
const mostRuns = 10_000
const mostInGroup = 500
const gatherMs = 50

type Task = Pick<AttemptKey, 'runId' | 'node' | 'mapIndex'>
const nameOf = ({ runId, node, mapIndex }: Task) => `${runId} ${node} ${mapIndex}`

interface Waiting {
  readonly key: AttemptKey
  readonly notes: readonly LineageNote[]
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class LineageWriter {
  private readonly waiting: Waiting[] = []
  private writing: Promise<void> | undefined
  /** Live attempts that wrote to a dataset, by their tokens. */
  private readonly writers = new Set<number>()
  /** Tasks whose attempts have ended and whose writes may still wait. */
  private readonly ended = new Map<string, Task>()
  private arrived = false
  private looking: Promise<void> | undefined
  private readonly noted = new Set<string>()
  private runs: string[] = []
  private telling: Promise<void> | undefined
  private timer: NodeJS.Timeout | undefined
  private sweeping: Promise<void> | undefined
  private stopped = false
  private readonly db: Database
  private readonly environment: string
  private readonly log: (line: string) => void

  /** `environment` is JSON text: in what the attempts of this process are executed. */
  constructor(db: Database, environment: string, log: (line: string) => void) {
    this.db = db
    this.environment = environment
    this.log = log
  }

  /** Begins to sweep; until `stop`. */
  start(): void {
    this.sweep()
  }

  /** Resolves when all that was told is written, or cannot be, and nothing is under way any more. */
  async stop(): Promise<void> {
    this.stopped = true
    clearTimeout(this.timer)
    await Promise.allSettled([this.writing, this.looking, this.telling, this.sweeping])
  }

  /** Resolves when it is committed. @throws SluiceError FENCED when the attempt is not live */
  note(key: AttemptKey, notes: readonly LineageNote[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ key, notes, resolve, reject })
      this.writing ??= this.writeAll()
    })
  }

  wroteDataset(key: AttemptKey): void {
    this.writers.add(key.token)
  }

  /** An attempt of this process has ended, as far as its runner knows. */
  attemptEnded(key: AttemptKey): void {
    this.noteRun(key.runId)
    if (!this.writers.delete(key.token)) return
    this.ended.set(nameOf(key), key)
    this.arrived = true
    this.looking ??= this.look()
  }

  private async writeAll(): Promise<void> {
    while (this.waiting.length > 0) {
      // One attempt stands in a group once: a call that is made again comes after its answer.
      const group = this.waiting.splice(0, mostInGroup)
      try {
        const live = await noteLineage(this.db, group)
        for (const [index, { resolve, reject }] of group.entries()) {
          if (live[index]) resolve()
          else reject(new SluiceError('FENCED', 'this attempt is no longer the live one of its task'))
        }
      } catch (error) {
        for (const { reject } of group) reject(error)
      }
    }
    this.writing = undefined
  }

  private async look(): Promise<void> {
    let left = 0
    for (let wait = 0; this.arrived || (this.ended.size > 0 && left > 0); ) {
      if (this.arrived) [wait, left] = [firstLookMs, patienceMs]
      else wait = Math.min(lastLookMs, wait * 2)
      this.arrived = false
      await new Promise((resolve) => setTimeout(resolve, wait))
      left -= wait
      const tasks = [...this.ended.values()]
      try {
        await publishDatasets(this.db)
        // By now it is likely that they failed.
        if (wait > vainMs) await this.db.transaction(dropVainWrites)
        const still = await tasksWithWrites(this.db, tasks)
        for (const [index, task] of tasks.entries()) if (!still[index]) this.ended.delete(nameOf(task))
      } catch (error) {
        if (left <= 0) this.log(`datasets could not be published, the sweep goes on: ${messageOf(error)}`)
      }
      if (this.stopped && wait > 100) break
    }
    this.ended.clear()
    this.looking = undefined
  }

  private sweep(): void {
    this.sweeping = this.sweepOnce().catch((error) => this.log(`datasets could not be swept: ${messageOf(error)}`))
    void this.sweeping.then(() => {
      if (!this.stopped) this.timer = setTimeout(() => this.sweep(), sweepMs)
    })
  }

  private async sweepOnce(): Promise<void> {
    await publishDatasets(this.db)
    while ((await this.db.transaction(dropVainWrites)) === 1_000);
  }

  private noteRun(runId: string): void {
    if (this.noted.has(runId)) return
    if (this.noted.size >= mostRuns) this.noted.clear()
    this.noted.add(runId)
    this.runs.push(runId)
    this.telling ??= this.tellRuns()
  }

  private async tellRuns(): Promise<void> {
    while (this.runs.length > 0) {
      // Nobody waits for it, and a commit for each run would be one of four that a short run makes.
      await new Promise((resolve) => setTimeout(resolve, gatherMs))
      const runs = this.runs.splice(0)
      await noteEnvironment(this.db, runs, this.environment).catch((error) => {
        // Asked again with the next attempt of these runs, if there is one.
        for (const run of runs) this.noted.delete(run)
        this.log(`in what runs were executed could not be noted: ${messageOf(error)}`)
      })
    }
    this.telling = undefined
  }
}
