/**
 * The graph of a workflow, compiled for quick decisions. Nodes that wait for the same set of nodes share one gate, and a
 * stage waits for one gate of all nodes of the stage before, but teardowns: 100 stages of 100 are 99 gates, not a million
 * edges.
 */
import type { Template } from '../sdk/reference.ts'
import type { NodeManifest, WorkflowManifest } from './manifest.ts'

export interface Graph {
  /** What a run results in, if its workflow says so. */
  readonly output: Template | undefined
  readonly timeoutMs: number | undefined
  readonly nodes: readonly NodeManifest[]
  /** Sizes of the gates: how many nodes each counts. */
  readonly gates: readonly number[]
  /** Per node: the gates it waits for. Their members are disjoint. */
  readonly waitsFor: readonly (readonly number[])[]
  /** Per node: the gates it counts in. */
  readonly countsIn: readonly (readonly number[])[]
  /** Per gate: the nodes that wait for it. */
  readonly opens: readonly (readonly number[])[]
  /** Per gate: whether a node behind it has a rule that one good end may decide. */
  readonly decidesEarly: readonly boolean[]
  /** Nodes that nothing but teardowns waits for; the state of a run is judged by them. */
  readonly leaves: readonly number[]
}

/** Whether the next stage waits for a node. For a teardown none does: it may take its time, and judges nothing. */
export function isOfStage(node: Pick<NodeManifest, 'stage' | 'teardownOf'>, stage: number | undefined): boolean {
  return stage !== undefined && node.stage === stage && node.teardownOf === undefined
}

export function compileGraph(workflow: Pick<WorkflowManifest, 'nodes' | 'output' | 'timeoutMs'>): Graph {
  const { nodes } = workflow
  const gates: number[] = []
  const countsIn: number[][] = nodes.map(() => [])
  const opens: number[][] = []
  const gateOf = new Map<string, number>()
  const gate = (key: string, members: readonly number[]) => {
    let index = gateOf.get(key)
    if (index === undefined) {
      index = gates.push(members.length) - 1
      opens.push([])
      gateOf.set(key, index)
      for (const member of members) countsIn[member]!.push(index)
    }
    return index
  }
  const byStage: number[][] = []
  for (const [index, node] of nodes.entries()) {
    if (!isOfStage(node, node.stage)) continue
    byStage[node.stage!] ??= []
    byStage[node.stage!]!.push(index)
  }
  const waitsFor = nodes.map((node, index) => {
    const waits: number[] = []
    const before = node.stage === undefined ? undefined : byStage[node.stage - 1]
    if (before) waits.push(gate(`stage ${node.stage! - 1}`, before))
    const others = before ? node.upstream.filter((up) => !isOfStage(nodes[up]!, node.stage! - 1)) : node.upstream
    if (others.length > 0) waits.push(gate(others.join(' '), others))
    for (const wait of waits) opens[wait]!.push(index)
    return waits
  })
  const patient: ReadonlySet<string> = new Set([
    'all_success',
    'all_done',
    'none_failed',
    'none_failed_min_one_success',
  ])
  const decidesEarly = opens.map((behind) => behind.some((node) => !patient.has(nodes[node]!.rule)))
  // A teardown judges nothing: neither by its own end, nor by standing behind what does.
  const judged = opens.map((behind) => behind.some((node) => nodes[node]!.teardownOf === undefined))
  const leaves = nodes.flatMap((node, index) =>
    node.teardownOf === undefined && !countsIn[index]!.some((gate) => judged[gate]) ? [index] : [],
  )
  const { output, timeoutMs } = workflow
  return { output, timeoutMs, nodes, gates, waitsFor, countsIn, opens, decidesEarly, leaves }
}
