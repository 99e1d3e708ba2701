/** Takes a run up where its rows say that it stands: when it begins, and when another engine or its memory is gone. */
import type { WorkflowManifest } from '../core/manifest.ts'
import type { Outcome } from '../core/run-progress.ts'
import { type Restored, restoreProgress } from '../core/run-restore.ts'
import { storedResult } from '../executors/attempt.ts'
import type { Session } from '../ports/database.ts'
import type { OwnedRun as RunRow } from '../store/runs.ts'
import { readRunTasks } from '../store/tasks.ts'
import type { Later, OwnedRun } from './owned-run.ts'
import type { WorkflowGraphs } from './workflow-graphs.ts'

export interface ReadRunParts {
  readonly db: Session
  readonly graphs: Pick<WorkflowGraphs, 'of'>
  readonly readObject: (sha256: string) => Promise<Uint8Array>
}

/** What a run's rows say; results that were stored as objects are read. */
export async function readRun(
  { db, graphs, readObject }: ReadRunParts,
  row: RunRow,
): Promise<{ readonly workflow: WorkflowManifest; readonly restored: Restored }> {
  const { workflow, graph } = await graphs.of(row.version, row.workflow)
  const fresh = row.seq === 0
  const rows = fresh ? { tasks: [], widths: [] } : await readRunTasks(db, row.id)
  for (const [index, task] of rows.tasks.entries()) {
    const stored = task.result === null ? null : storedResult.exec(task.result)
    if (stored) rows.tasks[index] = { ...task, result: Buffer.from(await readObject(stored[1]!)).toString('utf8') }
  }
  return { workflow, restored: restoreProgress(graph, row.params, rows.tasks, rows.widths) }
}

export interface GoOnParts {
  readonly now: number
  readonly random: () => number
  readonly later: (at: number, what: Later) => void
  /** How an attempt ended that the rows call running; undefined while it does run. */
  readonly endOf: (token: number) => Outcome | undefined
}

/** What passed while nobody held the run, and what it waits for from now on. */
export function goOn(run: OwnedRun, restored: Restored, { now, random, later, endOf }: GoOnParts): void {
  const limit = run.workflow.timeoutMs
  const { startedAt } = run.row
  const until = limit === undefined || startedAt === null ? undefined : startedAt + limit
  // Before all else: of what was stopped nothing begins again.
  if (run.row.cancel) run.take({ kind: 'cancel' }, now, random)
  else if (until !== undefined && until <= now) run.take({ kind: 'run-limit' }, now, random)
  run.take({ kind: 'begin' }, now, random)
  for (const range of restored.ready) run.addReady(range)
  for (const { at, ...task } of restored.retries) later(at, { kind: 'ready', ...task })
  for (const { at, ...task } of restored.due) later(at, { kind: 'due', ...task })
  for (const { at, ...task } of restored.limits) {
    // Before their attempts end: what was stopped for its time did not end by itself.
    if (at <= now) run.take({ kind: 'task-limit', ...task }, now, random)
    else later(at, { kind: 'task-limit', ...task })
  }
  if (until !== undefined) later(until, { kind: 'run-limit' })
  run.live = restored.running.length
  run.openChildren = restored.children
  for (const { node, mapIndex, token } of restored.running) {
    const outcome = endOf(token)
    if (outcome) run.take({ kind: 'ended', node, mapIndex, token, outcome }, now, random)
  }
}
