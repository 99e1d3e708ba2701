/** A run of the past as its rows and objects tell it. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { compileGraph } from '../../core/graph.ts'
import type { WorkflowManifest } from '../../core/manifest.ts'
import { type RanTask, type RunFacts, taskKey } from '../../core/reproduce.ts'
import type { RunProgress } from '../../core/run-progress.ts'
import { restoreProgress } from '../../core/run-restore.ts'
import { SluiceError } from '../../errors.ts'
import { storedResult } from '../../executors/attempt.ts'
import type { Database } from '../../ports/database.ts'
import type { ObjectStore } from '../../ports/objects.ts'
import { environmentsOfRun } from '../../store/reading/lineage.ts'
import {
  lastDatasetWrites,
  lastNotes,
  missingVersions,
  type PastNote,
  type PastRun,
  type PastWrite,
  readPastRun,
} from '../../store/reading/reproduce.ts'
import { readPinnedWorkflow } from '../../store/reading/workflows.ts'
import { readRunTasks } from '../../store/tasks.ts'

export interface Past {
  readonly run: PastRun
  readonly workflow: WorkflowManifest
  readonly facts: RunFacts
  /** With the results of all tasks, as far as their objects are there. */
  readonly progress: RunProgress
  /** sha256 of the JSON text of each task's result, by `taskKey`. */
  readonly results: ReadonlyMap<string, string>
  readonly writes: ReadonlyMap<string, readonly PastWrite[]>
}

export interface PastParts {
  readonly database: Database
  readonly store: ObjectStore
  readonly home: string
  /** In what it would be executed now; JSON text. */
  readonly present: string
}

/** @throws SluiceError NOT_FOUND when there is no such run, or its version is not stored. */
export async function readPast(id: string, { database, store, home, present }: PastParts): Promise<Past> {
  const run = await readPastRun(database, id)
  if (!run) throw new SluiceError('NOT_FOUND', `There is no run ${id}`)
  const workflow = await readPinnedWorkflow(database, run.version, run.workflow)
  if (!workflow) throw new SluiceError('NOT_FOUND', `Version ${run.version} has no workflow ${run.workflow}`)
  const rows = await readRunTasks(database, id)
  rows.tasks.sort((a, b) => a.node - b.node || a.mapIndex - b.mapIndex)
  const notes = Map.groupBy(await lastNotes(database, id), taskKey)
  const writes = Map.groupBy(await lastDatasetWrites(database, id), taskKey)
  const storedResults = new Map<string, string>()
  const results = new Map<string, string>()
  const missingObjects = new Set<string>()
  const tasks: RanTask[] = []
  for (const [index, task] of rows.tasks.entries()) {
    const key = taskKey(task)
    tasks.push({ ...task, notes: notes.get(key) ?? [] })
    if (task.result === null) continue
    const stored = storedResult.exec(task.result)?.[1]
    results.set(key, stored ?? createHash('sha256').update(task.result).digest('hex'))
    if (stored === undefined) continue
    storedResults.set(key, stored)
    const bytes = await store.read(stored).catch(gone)
    if (bytes) rows.tasks[index] = { ...task, result: bytes.toString('utf8') }
    else missingObjects.add(stored)
  }
  const noted = [...notes.values()].flat()
  for (const hash of readHashes(noted)) if (!(await store.stat(hash))) missingObjects.add(hash)
  const facts: RunFacts = {
    state: run.state,
    workflow,
    tasks,
    environments: await environmentsOfRun(database, id),
    present,
    hasCode: existsSync(join(home, 'versions', run.version, 'manifest.json')),
    missingObjects,
    missingVersions: await goneVersions(database, noted),
    storedResults,
  }
  const { progress } = restoreProgress(compileGraph(workflow), run.params, rows.tasks, rows.widths)
  return { run, workflow, facts, progress, results, writes }
}

function readHashes(notes: readonly PastNote[]): Set<string> {
  const read = notes.filter(({ kind, what }) => kind === 'read' && (what === 'object' || what === 'file'))
  return new Set(read.flatMap(({ hash }) => (hash === null ? [] : [hash])))
}

async function goneVersions(database: Database, notes: readonly PastNote[]): Promise<Set<string>> {
  const read = notes.flatMap(({ kind, what, name, version }) =>
    kind === 'read' && what === 'dataset' && version !== null && version > 0 ? [{ name, version }] : [],
  )
  return new Set((await missingVersions(database, read)).map(({ name, version }) => `${name} ${version}`))
}

function gone(thrown: unknown): undefined {
  if (thrown instanceof SluiceError && (thrown.code === 'OBJECT_NOT_FOUND' || thrown.code === 'OBJECT_CORRUPT')) return
  throw thrown
}
