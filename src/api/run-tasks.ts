/**
 * The tasks of a run as its graph and its rows say together. A task that has not started has no row: it is `none` here.
 * A mapped node has as many tasks as its list has items; before the list is known, or when it ended as a whole, it is
 * shown as one task without an index.
 */
import type { NodeManifest } from '../core/manifest.ts'
import type { TaskState } from '../core/task-state.ts'
import type { TaskPlace, TaskSummary } from '../store/reading/tasks.ts'

export const firstPlace: TaskPlace = { node: -1, mapIndex: -1 }
export const lastPlace: TaskPlace = { node: 2 ** 31 - 1, mapIndex: 2 ** 31 - 1 }

export function comparePlaces(one: TaskPlace, other: TaskPlace): number {
  return one.node - other.node || one.mapIndex - other.mapIndex
}

/** The places after `after`, in order, at most `limit`. `widths` are the known ones of mapped nodes. */
export function placesAfter(
  nodes: readonly Pick<NodeManifest, 'over'>[],
  widths: ReadonlyMap<number, number>,
  after: TaskPlace,
  limit: number,
): TaskPlace[] {
  const places: TaskPlace[] = []
  for (let node = Math.max(0, after.node); node < nodes.length && places.length < limit; node += 1) {
    const width = nodes[node]?.over === undefined ? undefined : widths.get(node)
    const [first, end] = width === undefined ? [-1, 0] : [0, width]
    const start = node === after.node ? Math.max(first, after.mapIndex + 1) : first
    for (let mapIndex = start; mapIndex < end && places.length < limit; mapIndex += 1) places.push({ node, mapIndex })
  }
  return places
}

/** One task for each place and each row, in order; rows win. */
export function mergeTasks(
  places: readonly TaskPlace[],
  rows: readonly TaskSummary[],
  unstarted: TaskState,
): TaskSummary[] {
  const merged: TaskSummary[] = []
  let at = 0
  for (const row of rows) {
    while (at < places.length && comparePlaces(places[at] as TaskPlace, row) < 0) {
      merged.push(blank(places[at] as TaskPlace, unstarted))
      at += 1
    }
    if (at < places.length && comparePlaces(places[at] as TaskPlace, row) === 0) at += 1
    merged.push(row)
  }
  for (; at < places.length; at += 1) merged.push(blank(places[at] as TaskPlace, unstarted))
  return merged
}

export function blank({ node, mapIndex }: TaskPlace, state: TaskState): TaskSummary {
  const never = { error: null, retryAt: null, startedAt: null, finishedAt: null, progress: null }
  return { node, mapIndex, state, attempt: 0, losses: 0, waits: 0, base: 0, wait: null, ...never }
}

/** What a task without a row is: nothing yet, or ended with its cancelled run. */
export function unstartedState(runState: string): TaskState {
  return runState === 'cancelled' ? 'cancelled' : 'none'
}

/** How many tasks of a run are in each state, those without rows included. */
export function countStates(
  nodes: readonly Pick<NodeManifest, 'over'>[],
  widths: ReadonlyMap<number, number>,
  rows: readonly { readonly node: number; readonly state: TaskState; readonly count: number }[],
  unstarted: TaskState,
): Partial<Record<TaskState, number>> {
  const counts: Partial<Record<TaskState, number>> = {}
  const started = new Map<number, number>()
  for (const { node, state, count } of rows) {
    counts[state] = (counts[state] ?? 0) + count
    // A removed one is none of those that the list has now.
    if (state !== 'removed') started.set(node, (started.get(node) ?? 0) + count)
  }
  for (const [node, { over }] of nodes.entries()) {
    const width = over === undefined ? 1 : (widths.get(node) ?? 1)
    const missing = width - (started.get(node) ?? 0)
    if (missing > 0) counts[unstarted] = (counts[unstarted] ?? 0) + missing
  }
  return counts
}
