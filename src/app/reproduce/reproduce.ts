/**
 * Runs the tasks of a past run again and compares what they give, byte for byte. Nothing is written but to a folder that is
 * thrown away: the database is only read, and authors' code runs in runners that have neither it nor any secret.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  compareTask,
  isExecuted,
  labelOf,
  type Noted,
  type Obstacle,
  obstaclesTo,
  type RanTask,
  taskKey,
} from '../../core/reproduce.ts'
import { argumentsOf, type Outcome } from '../../core/run-progress.ts'
import { SluiceError } from '../../errors.ts'
import { LocalExecutor, localDefaults } from '../../executors/local.ts'
import type { AttemptStart } from '../../executors/runner-protocol.ts'
import { openFiles } from '../../objects/files.ts'
import type { Database } from '../../ports/database.ts'
import { readVersionOf } from '../../store/lineage.ts'
import { linkPackages } from '../build/link-packages.ts'
import type { AttemptCalls } from '../capabilities/calls.ts'
import { answerCall } from '../capabilities/remote-calls.ts'
import { type Config, plainEnvironment } from '../config.ts'
import { environmentOf } from '../environment.ts'
import { moduleFile, nodeFlags } from '../own-process.ts'
import { type Past, readPast } from './past-run.ts'
import { madeOf, nothingWritten, replayCalls, type Written } from './replay.ts'

export interface ReproduceParts {
  readonly database: Database
  readonly config: Pick<Config, 'home' | 'projectDir' | 'logLevel' | 'runners'>
  /** Lines that runners say aloud. */
  readonly note: (line: string) => void
  readonly onProgress: (done: number, total: number) => void
  readonly signal: AbortSignal
  /** Default: that of this process. */
  readonly environment?: string
}

export interface ReproducedTask {
  /** `load`, or `load[3]`. */
  readonly task: string
  readonly attempt: number
  readonly same: boolean
  /** What differs, one sentence each. */
  readonly differences: readonly string[]
}

export interface Reproduction {
  readonly runId: string
  readonly workflow: string
  readonly version: string
  readonly same: boolean
  readonly tasks: readonly ReproducedTask[]
}

/** Attempts at once: more would only keep more results in memory. */
const capacity = 16

/**
 * @throws SluiceError NOT_FOUND; NOT_REPRODUCIBLE with a fault for everything that stands in the way; CANCELLED
 */
export async function reproduceRun(runId: string, parts: ReproduceParts): Promise<Reproduction> {
  const { database, config, environment } = parts
  const store = openFiles(join(config.home, 'objects'))
  const present = environment ?? (await environmentOf(config.projectDir))
  const past = await readPast(runId, { database, store, home: config.home, present })
  refuseObstacles(obstaclesTo(past.facts), runId)
  const tasks = past.facts.tasks.filter(
    (task) => task.state === 'success' && isExecuted(past.workflow.nodes[task.node]!),
  )
  // A restored folder has the code of its versions without their packages.
  await linkPackages(config.projectDir, join(config.home, 'versions'))
  const scratch = await mkdtemp(join(tmpdir(), 'sluice-reproduce-'))
  try {
    const compared = await runAgain(tasks, past, scratch, parts)
    const { workflow, version } = past.run
    return { runId, workflow, version, same: compared.every(({ same }) => same), tasks: compared }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** So many are named. */
const mostFaults = 50

function refuseObstacles(obstacles: readonly Obstacle[], runId: string): void {
  if (obstacles.length === 0) return
  const more = obstacles.length - mostFaults
  const faults = [
    ...obstacles.slice(0, mostFaults),
    ...(more > 0 ? [{ where: 'run', message: `and ${more} more reasons` }] : []),
  ]
  throw new SluiceError('NOT_REPRODUCIBLE', `Run ${runId} cannot be reproduced:`, { faults })
}

interface Again {
  readonly task: RanTask
  readonly start: AttemptStart
  readonly calls: AttemptCalls
  readonly written: Written
}

/** In the order of the tasks; each that ends makes room for the next. */
async function runAgain(
  tasks: readonly RanTask[],
  past: Past,
  scratch: string,
  parts: ReproduceParts,
): Promise<ReproducedTask[]> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const live = new Map<number, Again>()
  const compared = new Map<string, ReproducedTask>()
  let next = 0
  const fill = () => {
    if (next === tasks.length && live.size === 0) return resolve()
    while (next < tasks.length && live.size < capacity) {
      const task = tasks[next]!
      const isolation = past.workflow.nodes[task.node]!.isolation
      if (executor.free(isolation) === 0) return
      next += 1
      const again = prepare(task, next, past, parts)
      live.set(again.start.token, again)
      executor.start([again.start], isolation)
    }
  }
  const settings = { ...localDefaults, runners: Math.max(1, parts.config.runners), capacity }
  const executor = new LocalExecutor(settings, () => forkReplayer(parts.config, scratch), {
    ended({ token }, outcome) {
      const again = live.get(token)
      if (!again) return
      live.delete(token)
      compared.set(taskKey(again.task), compare(again, outcome, past))
      parts.onProgress(compared.size, tasks.length)
    },
    batchEnded: () => fill(),
    logs: () => {},
    progress: () => {},
    call: ({ token }, name, args) => answerCall(live.get(token)!.calls, name, args),
    note: (line) => parts.note(line),
  })
  const abort = () => reject(new SluiceError('CANCELLED', 'It was interrupted'))
  parts.signal.addEventListener('abort', abort, { once: true })
  try {
    if (parts.signal.aborted) abort()
    parts.onProgress(0, tasks.length)
    fill()
    await promise
  } finally {
    parts.signal.removeEventListener('abort', abort)
    await executor.stop()
  }
  return tasks.map((task) => compared.get(taskKey(task))!)
}

function prepare(task: RanTask, token: number, past: Past, { database }: ReproduceParts): Again {
  const { run, workflow } = past
  const node = workflow.nodes[task.node]!
  const written = nothingWritten()
  const calls = replayCalls({
    task,
    anyTime: run.createdAt.getTime(),
    readVersion: (name, version) => readVersionOf(database, name, version),
    written,
  })
  const start: AttemptStart = {
    token,
    runId: run.id,
    workflow: run.workflow,
    version: run.version,
    node: task.node,
    nodeId: node.id,
    mapIndex: task.mapIndex,
    attempt: task.attempt,
    logicalTime: run.logicalTime?.getTime() ?? null,
    args: argumentsOf(past.progress, task.node, task.mapIndex),
    timeoutMs: node.timeoutMs,
  }
  return { task, start, calls, written }
}

function compare({ task, written }: Again, outcome: Outcome, past: Past): ReproducedTask {
  const key = taskKey(task)
  const versions = (past.writes.get(key) ?? []).map(({ dataset, hash, rows, metadata }) => ({
    ...{ dataset, hash, rows, metadata },
  }))
  const then = madeOf(past.results.get(key), { notes: withoutVersions(task.notes), versions })
  const now =
    outcome.kind === 'success'
      ? madeOf(createHash('sha256').update(outcome.result).digest('hex'), written)
      : madeOf(undefined, written, reasonOf(outcome))
  const { same, differences } = compareTask(then, now)
  return { task: labelOf(past.workflow.nodes, task), attempt: task.attempt, same, differences }
}

/** Versions are compared with what was written to them, of which the attempt itself notes nothing. */
function withoutVersions(notes: readonly Noted[]): Noted[] {
  return notes.filter(({ kind, what }) => !(kind === 'write' && what === 'dataset'))
}

function reasonOf(outcome: Exclude<Outcome, { kind: 'success' }>): string {
  if (outcome.kind === 'failure') return `${outcome.error.code}: ${outcome.error.message}`
  return 'reason' in outcome ? outcome.reason : outcome.kind
}

function forkReplayer({ home, projectDir, logLevel }: ReproduceParts['config'], scratch: string): ChildProcess {
  return fork(moduleFile(import.meta.url, '../runner-main'), [home, projectDir, logLevel, scratch], {
    cwd: projectDir,
    execArgv: [...nodeFlags, '--enable-source-maps'],
    env: plainEnvironment(),
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
}
