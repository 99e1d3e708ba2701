/** A run in a simulated world: where it stands, what its tasks did, what they said. */
import type { ClearPlan, NodeFacts } from '../core/clear.ts'
import type { WorkflowManifest } from '../core/manifest.ts'
import type { TaskRow } from '../core/run-restore.ts'
import type { RunState } from '../core/run-state.ts'
import { isTerminal, type TaskState } from '../core/task-state.ts'
import type { RunChange } from '../store/transitions.ts'

/** A task that has begun, or was decided. */
export interface SimulatedTask {
  readonly id: string
  /** -1 unless it is mapped. */
  readonly mapIndex: number
  readonly state: TaskState
  /** How many attempts there were; waits that hold no runner count, too. */
  readonly attempt: number
  readonly losses: number
  readonly result: unknown
  readonly error: string | null
  /** What it waits for while it is deferred. */
  readonly wait: unknown
}

/** What an attempt logged. */
export interface LogLine {
  /** The id of its task. */
  readonly task: string
  /** -1 unless it is mapped. */
  readonly mapIndex: number
  readonly attempt: number
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly message: string
  readonly fields?: Readonly<Record<string, unknown>>
}

export class SimulatedRun {
  readonly id: string
  readonly workflow: string
  /** `manual`, `run` (of a task of another run), or the name of the plan. */
  readonly plan: string
  readonly logicalTime: Date | null
  readonly params: unknown
  readonly parent: string | null
  state: RunState = 'queued'
  /** What its workflow returned. */
  result: unknown = undefined
  error: string | null = null
  readonly createdAt: Date
  finishedAt: Date | null = null
  readonly log: LogLine[] = []
  readonly #tasks = new Map<string, { readonly node: number; readonly task: SimulatedTask }>()
  readonly #widths = new Map<number, number>()
  readonly #nodes: WorkflowManifest['nodes']

  constructor(
    facts: Pick<SimulatedRun, 'id' | 'workflow' | 'plan' | 'logicalTime' | 'params' | 'parent' | 'createdAt'>,
    nodes: WorkflowManifest['nodes'],
  ) {
    this.id = facts.id
    this.workflow = facts.workflow
    this.plan = facts.plan
    this.logicalTime = facts.logicalTime
    this.params = facts.params
    this.parent = facts.parent
    this.createdAt = facts.createdAt
    this.#nodes = nodes
  }

  get tasks(): SimulatedTask[] {
    return [...this.#tasks.values()].map(({ task }) => task)
  }

  /** The task of this id, and of this index when it is mapped; undefined while it has not begun. */
  task(id: string, mapIndex = -1): SimulatedTask | undefined {
    for (const { task } of this.#tasks.values()) if (task.id === id && task.mapIndex === mapIndex) return task
    return undefined
  }

  /** Ends the run for what is no end of a task. */
  fail(error: string, now: Date): void {
    this.state = 'failed'
    this.error = error
    this.finishedAt = now
  }

  /** Takes in what was decided, as the database would. */
  take(change: RunChange, now: Date): void {
    for (const { node, mapIndex, attempt, to, losses, result, error, wait } of change.transitions) {
      const { id } = this.#nodes[node]!
      const task = {
        ...{ id, mapIndex, state: to, attempt, losses, error: error ?? null },
        result: result === undefined ? undefined : JSON.parse(result),
        wait: wait === undefined ? null : JSON.parse(wait),
      }
      this.#tasks.set(`${node} ${mapIndex}`, { node, task })
    }
    for (const { node, width } of change.expanded) this.#widths.set(node, width)
    if (!change.state) return
    const { to, error, result } = change.state
    this.state = to as RunState
    if (to === 'running') return
    this.error = error ?? null
    this.result = result === undefined ? undefined : JSON.parse(result)
    this.finishedAt = now
  }

  /** By node, of those that have begun or were decided. */
  facts(): Map<number, NodeFacts> {
    const byNode = Map.groupBy(this.#tasks.values(), ({ node }) => node)
    return new Map(
      [...byNode].map(([node, own]) => {
        const counts: Partial<Record<TaskState, number>> = {}
        for (const { task } of own) counts[task.state] = (counts[task.state] ?? 0) + 1
        const some = (such: (task: SimulatedTask) => boolean) => own.some(({ task }) => such(task))
        const whole = some(({ mapIndex, state }) => mapIndex === -1 && state !== 'none')
        const begun = some(({ attempt, state }) => state !== 'none' && (attempt > 0 || state === 'success'))
        return [node, { counts, whole, begun, width: this.#widths.get(node) }]
      }),
    )
  }

  /** Takes tasks back, as a database would; gives them as they were, and what the rows are now. */
  clear({ whole, failed, some }: ClearPlan) {
    const cleared: { readonly node: number; readonly task: SimulatedTask }[] = []
    for (const [key, { node, task }] of this.#tasks) {
      const { state, mapIndex, attempt } = task
      const bad = state === 'failed' || state === 'upstream_failed' || state === 'cancelled'
      const chosen =
        whole.includes(node) ||
        (failed.includes(node) && bad) ||
        some.some((one) => one.node === node && one.mapIndex === mapIndex)
      if (!chosen || !isTerminal(state)) continue
      cleared.push({ node, task })
      const blank = { state: 'none' as const, losses: 0, result: undefined, error: null, wait: null }
      if (attempt === 0) this.#tasks.delete(key)
      else this.#tasks.set(key, { node, task: { ...task, ...blank } })
    }
    if (cleared.length === 0) return undefined
    for (const node of whole) this.#widths.delete(node)
    Object.assign(this, { state: 'queued', error: null, result: undefined, finishedAt: null })
    const rows = [...this.#tasks.values()].map(
      ({ node, task: { mapIndex, state, attempt, losses, result } }): TaskRow => {
        const text = result === undefined ? null : JSON.stringify(result)
        const times = { token: null, retryAt: null, firstStartedAt: null }
        return { node, mapIndex, state, attempt, losses, waits: 0, base: attempt, result: text, ...times }
      },
    )
    return { cleared, rows, widths: [...this.#widths].map(([node, width]) => ({ node, width })) }
  }
}
