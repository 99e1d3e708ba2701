/**
 * Whether a run can be reproduced byte for byte, decided from what was noted when it ran; and what running its tasks again
 * has shown.
 *
 * Each task is run again with the arguments, the time, the randomness and the versions that it had. When every result is the
 * same, so is every argument that was made of it, and with them the run. A run that took anything from outside of these
 * is not run again: nothing could be learnt from a difference.
 */
import type { NodeManifest, WorkflowManifest } from './manifest.ts'
import type { RunState } from './run-state.ts'
import type { TaskState } from './task-state.ts'

/** What a task's last attempt read or wrote; see `store/lineage`. */
export interface Noted {
  readonly kind: 'read' | 'write'
  readonly what: string
  readonly name: string
  readonly version: number | null
  readonly hash: string | null
}

/** What a task's last attempt wrote to a dataset. */
export interface NotedVersion {
  readonly dataset: string
  readonly hash: string | null
  readonly rows: number | null
  /** JSON text. */
  readonly metadata: string | null
}

export interface RanTask {
  readonly node: number
  readonly mapIndex: number
  readonly state: TaskState
  readonly attempt: number
  /** How often it waited and went on as another attempt. */
  readonly waits: number
  readonly notes: readonly Noted[]
}

export interface RunFacts {
  readonly state: RunState
  readonly workflow: WorkflowManifest
  readonly tasks: readonly RanTask[]
  /** In what it was executed, as JSON texts; none when that was not noted. */
  readonly environments: readonly string[]
  /** In what it would be executed now. */
  readonly present: string
  /** Whether the code of its version is here. */
  readonly hasCode: boolean
  /** Objects that results and reads need and that are gone. */
  readonly missingObjects: ReadonlySet<string>
  /** Versions (`name version`) that were read and are gone. */
  readonly missingVersions: ReadonlySet<string>
  /** Objects that hold results, by task (`node mapIndex`). */
  readonly storedResults: ReadonlyMap<string, string>
}

/** Why a run cannot be reproduced; `where` is a task, or the run. */
export interface Obstacle {
  readonly where: string
  readonly message: string
}

export const taskKey = ({ node, mapIndex }: Pick<RanTask, 'node' | 'mapIndex'>) => `${node} ${mapIndex}`

/** `load` or `load[3]`. */
export function labelOf(
  nodes: readonly Pick<NodeManifest, 'id'>[],
  { node, mapIndex }: Pick<RanTask, 'node' | 'mapIndex'>,
) {
  const name = nodes[node]?.id ?? String(node)
  return mapIndex < 0 ? name : `${name}[${mapIndex}]`
}

/** Whether a runner has executed it; the other kinds are decided by the engine from what tasks gave and people said. */
export function isExecuted({ kind = 'action' }: Pick<NodeManifest, 'kind'>): boolean {
  return kind === 'action'
}

/** Everything that stands in the way; none when the run can be reproduced. */
export function obstaclesTo(facts: RunFacts): Obstacle[] {
  return [...ofTheRun(facts), ...facts.tasks.flatMap((task) => [...ofTask(task, facts)])]
}

function* ofTheRun({ state, environments, present, hasCode }: RunFacts): Generator<Obstacle> {
  if (state === 'queued' || state === 'running') yield { where: 'run', message: `it has not ended: it is ${state}` }
  else if (state !== 'success')
    yield { where: 'run', message: `it ended ${state}; only what succeeded has results to compare` }
  if (!hasCode) yield { where: 'run', message: 'the code of its version is not on this machine any more' }
  if (environments.length === 0) {
    yield {
      where: 'run',
      message: 'in what it was executed was not noted: nothing ran, or it ran before that was noted',
    }
  }
  for (const environment of environments) {
    const differences = differencesOf(environment, present)
    if (differences.length > 0) {
      yield { where: 'run', message: `it was executed in another environment: ${differences.join('; ')}` }
    }
  }
}

function differencesOf(then: string, now: string): string[] {
  if (then === now) return []
  const [before, present] = [then, now].map((text) => JSON.parse(text) as Record<string, unknown>) as [
    Record<string, unknown>,
    Record<string, unknown>,
  ]
  const names = [...new Set([...Object.keys(before), ...Object.keys(present)])]
  return names
    .filter((name) => before[name] !== present[name])
    .map((name) => `${name} was ${shown(before[name])} and is ${shown(present[name])}`)
}

function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value ?? null)
  return text.length > 16 ? `${text.slice(0, 12)}…` : text
}

function* ofTask(task: RanTask, facts: RunFacts): Generator<Obstacle> {
  const node = facts.workflow.nodes[task.node]
  const where = labelOf(facts.workflow.nodes, task)
  if (!node) {
    yield { where, message: 'the version has no such task' }
    return
  }
  const stored = facts.storedResults.get(taskKey(task))
  if (stored !== undefined && facts.missingObjects.has(stored)) {
    yield { where, message: `its result is the object ${stored}, which is gone` }
  }
  if (!isExecuted(node)) return
  if (task.state !== 'success') {
    if (task.attempt > 0) yield { where, message: `it ended ${task.state}; only what succeeded has results to compare` }
    return
  }
  if (task.attempt === 0) {
    yield { where, message: 'its result was taken over from another run; reproduce that one' }
    return
  }
  if (task.waits > 0) yield { where, message: `it waited ${times(task.waits)} and went on as another attempt` }
  for (const note of task.notes) {
    const message = obstacleOf(note, facts)
    if (message !== undefined) yield { where, message }
  }
  for (const path of changedFiles(task.notes)) {
    yield { where, message: `the file ${path} changed while it was stored` }
  }
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`
}

function obstacleOf({ kind, what, name, version, hash }: Noted, facts: RunFacts): string | undefined {
  if (what === 'more') return `it read or wrote more than is noted (at least ${version} things beyond the limit)`
  if (kind === 'write') return undefined
  switch (what) {
    case 'connection':
      return `it used the connection ${name}: what a network answers does not come again`
    case 'secret':
      return `it read the secret ${name}, of which nothing is kept`
    case 'documents':
      return `it read the documents ${name}, which may have changed since`
    case 'topic':
      return `it learnt that ${version} records of topic ${name} had been published before`
    case 'step':
      return `it took the result of the durable step ${name} from an earlier attempt`
    case 'program':
      return `it ran the program ${name}, of which nobody knows what it read`
    case 'file':
    case 'object':
      if (hash === null || !facts.missingObjects.has(hash)) return undefined
      return `the object ${hash} that it read${what === 'file' ? ` as the file ${name}` : ''} is gone`
    case 'dataset':
      if (version === 0) return undefined
      if (facts.missingVersions.has(`${name} ${version}`)) return `version ${version} of dataset ${name} is gone`
      return hash === null
        ? `it read version ${version} of dataset ${name}, of which no hash says what it was`
        : undefined
    default:
      return undefined
  }
}

function changedFiles(notes: readonly Noted[]): string[] {
  const files = Map.groupBy(
    notes.filter(({ kind, what }) => kind === 'read' && what === 'file'),
    ({ name }) => name,
  )
  return [...files].filter(([, stored]) => stored.length > 1).map(([name]) => name)
}

/** What one attempt gave: `result` is the sha256 of the JSON text, undefined when it did not succeed. */
export interface Made {
  readonly result: string | undefined
  /** Why it did not succeed. */
  readonly error?: string | undefined
  readonly notes: readonly Noted[]
  readonly versions: readonly NotedVersion[]
}

export interface Comparison {
  readonly same: boolean
  /** What differs, one sentence each. */
  readonly differences: readonly string[]
}

/** Compares what a task gave then with what it gives now: its result and everything that it wrote. */
export function compareTask(then: Made, now: Made): Comparison {
  const differences: string[] = []
  if (now.result === undefined) differences.push(`it failed: ${now.error ?? 'without a reason'}`)
  else if (now.result !== then.result) differences.push(`its result was ${then.result} and is ${now.result}`)
  const [before, after] = [writesOf(then), writesOf(now)]
  for (const [key, hash] of before) {
    const again = after.get(key)
    if (again === undefined) differences.push(`it did not write ${key}${hash === '' ? '' : ` (${hash})`} again`)
    else if (again !== hash) differences.push(`what it wrote to ${key} was ${hash} and is ${again}`)
  }
  for (const [key, hash] of after) {
    if (!before.has(key)) differences.push(`it wrote ${key}${hash === '' ? '' : ` (${hash})`}, and did not then`)
  }
  return { same: differences.length === 0, differences }
}

/** By what was written: its hash; objects are named by theirs. */
function writesOf({ notes, versions }: Made): Map<string, string> {
  const writes = new Map<string, string>()
  for (const { kind, what, name, version, hash } of notes) {
    if (kind !== 'write' || what === 'dataset') continue
    if (what === 'object') writes.set(`object ${hash}`, '')
    else writes.set(`${what} ${name}`, `${version} records of ${hash}`)
  }
  for (const [index, { dataset, hash, rows, metadata }] of versions.entries()) {
    writes.set(`dataset ${dataset} (write ${index + 1})`, JSON.stringify([hash, rows, metadata]))
  }
  return writes
}
