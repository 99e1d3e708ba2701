/**
 * Which results of an ended run a new run of another version takes over.
 *
 * 1. A task is unchanged when a task of the same id has the same fingerprint (`core/fingerprint`; one that is not known
 *    counts as changed), and all before it is unchanged. Only what succeeded is taken over.
 * 2. What the rules or a branch had left out is decided again, and with it nothing of what stands behind it has changed.
 * 3. A set-up is taken over only together with all of the work before its teardown: what it had made is gone.
 * 4. Other parameters change everything.
 */
import { allBehind, type NodeFacts, workOf } from './clear.ts'
import type { Graph } from './graph.ts'

export interface ReuseParts {
  readonly old: Graph
  readonly facts: ReadonlyMap<number, NodeFacts>
  readonly latest: Graph
  readonly sameParams: boolean
  /** Nodes of the old run that are to run again, with all behind them. */
  readonly again: ReadonlySet<number>
}

/** The successful tasks of a node (`from`, in the old graph) are those of another (`to`) in the new one. */
export interface Reused {
  readonly from: number
  readonly to: number
}

export function reusedNodes({ old, facts, latest, sameParams, again }: ReuseParts): Reused[] {
  if (!sameParams) return []
  const indexOf = new Map(old.nodes.map(({ id }, index) => [id, index]))
  const fromOf = (to: number): number | undefined => {
    const { id, fingerprint } = latest.nodes[to]!
    const from = indexOf.get(id)
    if (from === undefined || fingerprint === undefined || old.nodes[from]!.fingerprint !== fingerprint)
      return undefined
    return again.has(from) ? undefined : from
  }
  const changed = new Set(latest.nodes.flatMap((_, to) => (fromOf(to) === undefined ? [to] : [])))
  const open = latest.nodes.flatMap((_, to) => (isSettled(facts.get(fromOf(to) ?? -1)) ? [] : [to]))
  for (let before = -1; before !== changed.size; ) {
    before = changed.size
    const runsAgain = new Set([...open, ...changed])
    for (const setup of tornDown(latest, runsAgain)) changed.add(setup)
    for (const node of allBehind(latest, [...runsAgain, ...changed])) changed.add(node)
  }
  return latest.nodes.flatMap((_, to) => {
    const from = fromOf(to)
    return from !== undefined && !changed.has(to) && (facts.get(from)?.counts.success ?? 0) > 0 ? [{ from, to }] : []
  })
}

/** All of its tasks succeeded, or it was left out without an attempt. */
function isSettled(facts: NodeFacts | undefined): boolean {
  if (facts === undefined) return false
  const { counts, whole, width, begun } = facts
  const successes = counts.success ?? 0
  if (whole && width === undefined) return successes === 1 || (counts.skipped === 1 && !begun)
  return width === undefined ? false : whole ? counts.skipped === 1 && !begun : successes === width
}

/** Set-ups some of whose work is to run again. */
function tornDown(graph: Graph, runsAgain: ReadonlySet<number>): number[] {
  return graph.nodes.flatMap(({ teardownOf }, teardown) => {
    if (teardownOf === undefined) return []
    return workOf(graph, teardownOf, teardown).some((node) => runsAgain.has(node)) ? [teardownOf] : []
  })
}
