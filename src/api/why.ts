/** Gathers the facts by which `core/why.ts` tells why a run or a task has not ended. */
import { isOfStage } from '../core/graph.ts'
import { limitId } from '../core/limit-names.ts'
import type { WorkflowManifest } from '../core/manifest.ts'
import { isTerminal, type TaskState } from '../core/task-state.ts'
import { type Reason, type WhyLimit, type WhyRun, type WhyTask, whyRun, whyTask } from '../core/why.ts'
import { SluiceError } from '../errors.ts'
import {
  readEndedOf,
  readRunFacts,
  readRunners,
  readTaskFacts,
  readWaited,
  type WaitedLimit,
} from '../store/reading/limits.ts'
import { findRun, type RunDetail } from '../store/reading/runs.ts'
import { readWidths, type TaskSummary } from '../store/reading/tasks.ts'
import type { ApiContext } from './context.ts'

export async function whyOfRun(context: ApiContext, run: RunDetail): Promise<readonly Reason[]> {
  return whyRun((await runFactsOf(context, run)).why, context.clock.now())
}

export async function whyOfTask(
  context: ApiContext,
  { run, workflow, row }: { run: RunDetail; workflow: WorkflowManifest | undefined; row: TaskSummary },
): Promise<readonly Reason[]> {
  const { why, nodeId } = await runFactsOf(context, run)
  return whyTask(why, await taskFactsOf(context, { run, workflow, row, nodeId }), context.clock.now())
}

async function runFactsOf({ db }: ApiContext, run: RunDetail): Promise<{ why: WhyRun; nodeId: string | null }> {
  const facts = await readRunFacts(db, run.id)
  if (!facts) throw new SluiceError('NOT_FOUND', `There is no run ${run.id}`)
  const { nodeId, host, leaseUntil, engines, paused, backfill, places, active, before } = facts
  return {
    nodeId,
    why: {
      ...{ id: run.id, workflow: run.workflow, state: run.state, error: run.error, paused, engines },
      cancelRequested: run.cancelRequested,
      heldBy: backfill === null ? null : `a place in its backfill ${backfill}`,
      owner: nodeId === null ? null : { id: nodeId, host, leaseUntil: leaseUntil?.getTime() ?? null },
      places: places === null ? null : { slots: places, active, before },
    },
  }
}

async function taskFactsOf(
  context: ApiContext,
  {
    run,
    workflow,
    row,
    nodeId,
  }: { run: RunDetail; workflow: WorkflowManifest | undefined; row: TaskSummary; nodeId: string | null },
): Promise<WhyTask> {
  const { db } = context
  const node = workflow?.nodes[row.node]
  const before = node && workflow ? nodesBefore(workflow, row.node) : []
  const [facts, waited, rows, widths, runners] = await Promise.all([
    readTaskFacts(db, run.id, row.node, row.mapIndex),
    readWaited(db, run.id, row.node, row.mapIndex),
    readEndedOf(db, run.id, before),
    readWidths(db, run.id),
    nodeId === null ? undefined : readRunners(db, nodeId, node?.isolation ?? 'shared'),
  ])
  const open = before.flatMap((index) => {
    const { over, id } = workflow!.nodes[index]!
    const found = rows.get(index)
    const of = over === undefined ? 1 : (widths.get(index) ?? 1)
    const ended = found?.ended ?? 0
    if (ended >= of || (over !== undefined && widths.get(index) === 0) || (found?.whole && ended > 0)) return []
    return [{ name: id, state: (found?.state ?? 'none') as TaskState, ended, of }]
  })
  const limits = await Promise.all(waited.map((limit) => limitFactsOf(context, limit, run.id, row)))
  return {
    name: row.mapIndex < 0 ? (node?.id ?? `node-${row.node}`) : `${node?.id}[${row.mapIndex}]`,
    ...{ id: run.id, state: row.state, attempt: row.attempt, error: row.error },
    startedAt: row.startedAt?.getTime() ?? null,
    due: facts?.due?.getTime() ?? null,
    wait: facts?.wait ? spokenWait(facts.wait) : null,
    ...{ rule: node?.rule ?? 'all_success', upstream: before.length, open, limits },
    released: limits.length > 0 || (row.mapIndex >= 0 && !isTerminal(row.state)),
    runners: runners ?? null,
  }
}

/** Everything a node waits for: its edges, and the stage before it. */
function nodesBefore({ nodes }: WorkflowManifest, index: number): number[] {
  const { upstream, stage } = nodes[index]!
  const staged = nodes.flatMap((node, at) => (stage !== undefined && isOfStage(node, stage - 1) ? [at] : []))
  return [...new Set([...upstream, ...staged])].sort((one, other) => one - other)
}

function spokenWait(wait: object): string {
  const { kind, text, title } = wait as { kind?: unknown; text?: unknown; title?: unknown }
  const what = typeof text === 'string' ? text : typeof title === 'string' ? title : undefined
  const named = typeof kind === 'string' ? kind : undefined
  if (named !== undefined) return what === undefined ? `its ${named}` : `its ${named} (${what})`
  return what ?? JSON.stringify(wait).slice(0, 200)
}

/** So many of those that hold are named. */
const mostHolders = 3

async function limitFactsOf(
  context: ApiContext,
  limit: WaitedLimit,
  runId: string,
  row: TaskSummary,
): Promise<WhyLimit> {
  const { slots, inUse, waiting, holders, line, nextAt } = limit
  const at = line.findIndex((one) => one.run === runId && one.node === row.node && one.index === row.mapIndex)
  return {
    limit: limitId(limit),
    ...{ slots, inUse, waiting, place: at < 0 ? null : at + 1, amount: line[at]?.amount ?? 1 },
    holders: await Promise.all(holders.slice(0, mostHolders).map((holder) => named(context, holder))),
    nextAt: nextAt?.getTime() ?? null,
  }
}

async function named(context: ApiContext, { run: id, node, index }: WaitedLimit['holders'][number]) {
  const run = await findRun(context.db, id)
  const workflow = run && (await context.pinned(run.version, run.workflow))
  const task = workflow?.nodes[node]?.id ?? `node-${node}`
  return { run: id, task: index < 0 ? task : `${task}[${index}]` }
}
