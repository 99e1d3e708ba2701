/**
 * The rows of the simulation. They change by the statements of `src/store` alone, which are read here by their names and
 * values under the same guards: what `commitGroup` makes of a group is what is applied, all of it or nothing.
 */
import { badStates, chosenTasks, liveStates, type NodeFacts, planClear } from '../../src/core/clear.ts'
import type { Graph } from '../../src/core/graph.ts'
import type { TaskRow } from '../../src/core/run-restore.ts'
import { isTerminal, type RunState } from '../../src/core/run-state.ts'
import { isTerminal as hasEnded, type TaskState } from '../../src/core/task-state.ts'
import { SluiceError } from '../../src/errors.ts'
import type { Database, Session, Statement } from '../../src/ports/database.ts'
import type { InboxMessage } from '../../src/store/inbox.ts'
import { LimitRows } from './limit-rows.ts'

export type SimTask = { -readonly [K in keyof TaskRow]: TaskRow[K] } & {
  error: string | null
  wait: string | null
  startedAt: number | null
  finishedAt: number | null
  /** When what it waited for last was due. */
  dueAt: number | null
  /** Which engine, in which of its lives, began its last attempt. */
  startedBy: string | null
}

export interface LogRow {
  readonly seq: number
  readonly at: number
  readonly node: number
  readonly mapIndex: number
  readonly attempt: number
  readonly from: string
  readonly to: string
  readonly detail: string | null
}

export interface Parent {
  readonly runId: string
  readonly node: number
  readonly mapIndex: number
  readonly attempt: number
}

export interface SimRun {
  readonly id: string
  readonly workflow: string
  readonly params: string
  readonly parent: Parent | undefined
  state: RunState
  epoch: number
  seq: number
  nodeId: string | null
  error: string | null
  result: string | null
  startedAt: number | null
  readonly priority: number
  /** It has a place among the active runs of its workflow. */
  admitted: boolean
  readonly tasks: Map<number, SimTask>
  readonly widths: Map<number, number>
  readonly log: LogRow[]
}

export const taskKey = (node: number, mapIndex: number): number => node * 4_096 + mapIndex + 1

type Message = InboxMessage & { readonly key: string }
type Cell = string | null
type Row = readonly Cell[]

const number = (cell: Cell | undefined): number => Number(cell)
const time = (cell: Cell | undefined): number | null =>
  cell === null || cell === undefined ? null : Math.round(Number(cell) * 1_000)

export class SimStore implements Database {
  readonly runs = new Map<string, SimRun>()
  inbox: Message[] = []
  /** Runs that somebody wanted cancelled. */
  readonly wished = new Set<string>()
  readonly limits: LimitRows
  /** Tasks that the last commit began. */
  begun: SimTask[] = []
  /** The life of an engine that writes. */
  lifeOf: (nodeId: string) => string = (nodeId) => nodeId
  #messages = 0
  #tokens = new Set<string>()
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
    this.limits = new LimitRows(this.runs, now)
  }

  insertRun(run: Pick<SimRun, 'id' | 'workflow' | 'params' | 'parent' | 'priority'>): void {
    this.runs.set(run.id, {
      ...run,
      ...{ state: 'queued', epoch: 0, seq: 0, nodeId: null, error: null, result: null, startedAt: null },
      admitted: false,
      ...{ tasks: new Map(), widths: new Map(), log: [] },
    })
  }

  /**
   * Clears tasks, as `store/clear.ts` does; false when something of it has not ended, or is no task by now, or nothing is
   * there to clear.
   * @param wish tasks as people name them, and whether all that ended badly
   */
  clear(run: SimRun, graph: Graph, wish: { readonly tasks: readonly string[]; readonly failed: boolean }): boolean {
    const ended = isTerminal(run.state)
    const facts = this.#factsOf(run)
    const named = chosenOf(run, graph, facts, wish.tasks)
    if (named === undefined) return false
    const plan = planClear(graph, facts, { tasks: named, failed: wish.failed }, ended)
    const tasks = [...run.tasks.values()].sort((one, other) => one.node - other.node || one.mapIndex - other.mapIndex)
    const chosen = tasks.filter(
      ({ node, mapIndex, state }) =>
        plan.whole.includes(node) ||
        (plan.failed.includes(node) && (badStates as readonly string[]).includes(state)) ||
        plan.some.some((one) => one.node === node && one.mapIndex === mapIndex),
    )
    if (chosen.some(({ state }) => (liveStates as readonly string[]).includes(state))) return false
    const cleared = chosen.filter(({ state }) => hasEnded(state))
    if (cleared.length === 0 && !(ended && run.state !== 'success')) return false
    const log = (node: number, mapIndex: number, attempt: number, from: string, to: string) => {
      run.seq += 1
      run.log.push({ seq: run.seq, at: this.#now(), node, mapIndex, attempt, from, to, detail: 'cleared by ann' })
    }
    for (const task of cleared) {
      log(task.node, task.mapIndex, task.attempt, task.state, 'none')
      if (task.attempt === 0) run.tasks.delete(taskKey(task.node, task.mapIndex))
      Object.assign(task, {
        ...{
          state: 'none',
          base: task.attempt,
          losses: 0,
          waits: 0,
          token: null,
          result: null,
          error: null,
          wait: null,
        },
        ...{ retryAt: null, startedAt: null, firstStartedAt: null, finishedAt: null },
      })
    }
    for (const node of plan.whole) run.widths.delete(node)
    if (!ended) return true
    log(-1, -1, run.epoch, run.state, 'queued')
    this.inbox = this.inbox.filter(({ runId }) => runId !== run.id)
    Object.assign(run, { state: 'queued', nodeId: null, startedAt: null, error: null, result: null, admitted: false })
    return true
  }

  #factsOf(run: SimRun): Map<number, NodeFacts> {
    const facts = new Map<number, NodeFacts>()
    const nodes = new Set([...[...run.tasks.values()].map(({ node }) => node), ...run.widths.keys()])
    for (const node of nodes) {
      const own = [...run.tasks.values()].filter((task) => task.node === node)
      const counts: Partial<Record<TaskState, number>> = {}
      for (const { state } of own) counts[state] = (counts[state] ?? 0) + 1
      const begun = own.some(({ state, attempt }) => state !== 'none' && (attempt > 0 || state === 'success'))
      const whole = own.some(({ state, mapIndex }) => mapIndex === -1 && state !== 'none')
      facts.set(node, { counts, whole, begun, width: run.widths.get(node) })
    }
    return facts
  }

  /** As `putInbox` and `tellParents`: a finished run gets no wish, the same key is put once. */
  put(runId: string, kind: InboxMessage['kind'], key: string, more: Partial<Message> = {}): boolean {
    if (!this.isOpen(runId) || this.inbox.some((message) => message.key === key)) return false
    if (kind === 'cancel') this.wished.add(runId)
    this.#messages += 1
    const plain = { id: this.#messages, runId, kind, key, node: -1, mapIndex: -1, attempt: -1, body: null }
    this.inbox.push({ ...plain, ...more })
    return true
  }

  isOpen(runId: string): boolean {
    const run = this.runs.get(runId)
    return run !== undefined && !isTerminal(run.state)
  }

  childrenOf(runId: string): SimRun[] {
    return [...this.runs.values()].filter(({ parent }) => parent?.runId === runId)
  }

  async transaction<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return work(this)
  }

  async query<Result>(sql: Statement<Result>, values: readonly unknown[] = []): Promise<Result[]> {
    if (sql.name === 'transitions.commit_one') this.#commit(writtenOne(values))
    else if (sql.name.startsWith('transitions.commit_group')) this.#commit(writtenGroup(values as readonly string[]))
    else return (this.limits.query(sql.name, values) as Result[] | undefined) ?? this.#unknown(sql)
    return []
  }

  async execute(sql: Statement, values: readonly unknown[] = []): Promise<number> {
    if (sql.name === 'child_runs.insert') this.#insertChildren(values as readonly unknown[][])
    else if (sql.name === 'child_runs.cancel') this.#cancelChildren(values as readonly unknown[][])
    else if (sql.name === 'inbox.tell_parents') this.#tellParents(values[0] as string[])
    else if (sql.name === 'inbox.take') this.#take(values[0] as number[])
    else return this.limits.execute(sql.name, values) ?? this.#unknown(sql)
    return 0
  }

  copyIn = () => this.#unknown({ name: 'copy' })
  copyOut = () => this.#unknown({ name: 'copy' })
  script = () => this.#unknown({ name: 'script' })
  listen = () => this.#unknown({ name: 'listen' })
  close = async () => {}

  #unknown({ name }: { readonly name: string }): never {
    throw new Error(`the simulated store does not know ${name}`)
  }

  #insertChildren([
    ids,
    workflows,
    ,
    params,
    ,
    priorities,
    runs,
    nodes,
    indices,
    attempts,
  ]: readonly unknown[][]): void {
    for (const [at, id] of ids!.entries()) {
      const place = { node: nodes![at], mapIndex: indices![at], attempt: attempts![at] }
      const parent = { runId: runs![at], ...place } as Parent
      const plain = { id: id as string, workflow: workflows![at] as string, params: params![at] as string }
      this.insertRun({ ...plain, parent, priority: priorities![at] as number })
    }
  }

  #cancelChildren([runs, nodes, indices]: readonly unknown[][]): void {
    for (const [at, runId] of runs!.entries()) {
      for (const { id, parent } of this.childrenOf(runId as string)) {
        const isIts = parent!.node === nodes![at] && parent!.mapIndex === indices![at]
        if (isIts && this.isOpen(id)) this.put(id, 'cancel', `cancel ${id}`)
      }
    }
  }

  #tellParents(ids: readonly string[]): void {
    for (const id of ids) {
      const run = this.runs.get(id)
      if (run?.parent === undefined || !isTerminal(run.state)) continue
      const { runId, ...task } = run.parent
      const body = JSON.stringify({ state: run.state, error: run.error, result: run.result, run: id })
      this.put(runId, 'resume', `ended ${id} ${run.seq}`, { ...task, body })
    }
  }

  #take(ids: readonly number[]): void {
    this.inbox = this.inbox.filter(({ id }) => !ids.includes(id))
  }

  #commit({ nodeId, wanted, log, widths, ...group }: Written): void {
    this.begun = []
    const runs = wanted.map(([id, epoch, seq]) => {
      const run = this.runs.get(id!)
      const held = run?.nodeId === nodeId && run.epoch === number(epoch) && run.seq === number(seq)
      return held && !isTerminal(run.state) ? run : undefined
    })
    const whole = wanted.map(([id]) => this.runs.get(id!))
    const taskOf = ([run, node, mapIndex]: Row) =>
      whole[number(run) - 1]?.tasks.get(taskKey(number(node), number(mapIndex)))
    const isNext = (row: Row, attempt: Cell | undefined, states: readonly TaskState[], ...steps: number[]) => {
      const task = taskOf(row)
      return task === undefined || (states.includes(task.state) && steps.includes(number(attempt) - task.attempt))
    }
    const isLive = (row: Row) => {
      const task = taskOf(row)
      return task?.state === 'running' && task.token === number(row[3])
    }
    const got = [
      runs.filter((run) => run !== undefined).length,
      group.starts.filter((row) => isNext(row, row[3], ['up_for_retry', 'deferred', 'none'], 1)).length,
      group.ends.filter(isLive).length,
      group.settles.filter((row) => isNext(row, row[4], ['up_for_retry', 'deferred', 'none'], 0, 1)).length,
      group.opens.filter((row) => isNext(row, row[3], ['up_for_retry', 'none'], 1)).length,
      group.pauses.filter(isLive).length,
    ]
    const asked = [wanted, group.starts, group.ends, group.settles, group.opens, group.pauses].map(
      ({ length }) => length,
    )
    if (got.some((count, at) => count !== asked[at])) {
      const what = ['runs', 'starts', 'ends', 'others', 'waits', 'deferrals']
      throw new Error(
        `refused by the fence: ${what.map((name, at) => `${name} ${got[at]} of ${asked[at]}`).join(', ')}`,
      )
    }
    this.#once(Object.values(group).flat())
    for (const row of group.starts) this.#start(whole, row, this.lifeOf(nodeId))
    for (const [run, node, mapIndex, , state, result, error, losses, retryAt] of group.ends)
      this.#change(whole, [run!, node!, mapIndex!], {
        ...{ state: state as TaskState, result: result!, error: error!, losses: number(losses), token: null },
        ...{ retryAt: time(retryAt), finishedAt: state === 'up_for_retry' ? null : this.#now() },
      })
    for (const row of group.settles) this.#settle(whole, row)
    for (const row of group.opens) this.#open(whole, row)
    for (const [run, node, mapIndex, , waits, wait, retryAt] of group.pauses)
      this.#change(whole, [run!, node!, mapIndex!], {
        ...{ state: 'deferred', waits: number(waits), wait: wait!, token: null, retryAt: time(retryAt) },
      })
    for (const [run, node, width] of widths) {
      const known = whole[number(run) - 1]!.widths
      if ((known.get(number(node)) ?? number(width)) !== number(width)) throw new Error(`the list of n${node} is known`)
      known.set(number(node), number(width))
    }
    this.#log(whole, log)
    for (const [at, [, , , added, state, error, result]] of wanted.entries()) {
      const run = runs[at]!
      run.seq += number(added)
      run.error = error ?? run.error
      run.result = result!
      if (state) run.state = state as RunState
      if (state && state !== 'cancelled') run.startedAt ??= this.#now()
      if (run.log.at(-1)?.seq !== run.seq) throw new Error(`the log of run ${run.id} does not end with its number`)
    }
  }

  /** A statement changes a row once. */
  #once(rows: readonly Row[]): void {
    const seen = new Set(rows.map(([run, node, mapIndex]) => `${run} ${node} ${mapIndex}`))
    if (seen.size !== rows.length) throw new Error('a group changes a row twice')
  }

  #change(whole: readonly (SimRun | undefined)[], [run, node, mapIndex]: Row, fields: Partial<SimTask>): void {
    Object.assign(whole[number(run!) - 1]!.tasks.get(taskKey(number(node!), number(mapIndex!)))!, fields)
  }

  #upsert(whole: readonly (SimRun | undefined)[], [run, node, mapIndex]: Row, fields: Partial<SimTask>): void {
    const { tasks } = whole[number(run!) - 1]!
    const key = taskKey(number(node!), number(mapIndex!))
    const found = tasks.get(key)
    if (found) Object.assign(found, fields)
    else {
      tasks.set(key, {
        ...{
          node: number(node!),
          mapIndex: number(mapIndex!),
          state: 'none',
          attempt: 0,
          losses: 0,
          waits: 0,
          base: 0,
        },
        ...{ token: null, result: null, retryAt: null, firstStartedAt: null, error: null, wait: null },
        ...{ startedAt: null, finishedAt: null, dueAt: null, startedBy: null },
        ...fields,
      })
    }
  }

  #start(whole: readonly (SimRun | undefined)[], row: Row, startedBy: string): void {
    const [run, node, mapIndex, attempt, token] = row
    const now = this.#now()
    const before = whole[number(run!) - 1]!.tasks.get(taskKey(number(node!), number(mapIndex!)))
    if ((before?.retryAt ?? 0) > now) throw new Error(`task ${node}/${mapIndex} starts before ${before!.retryAt}`)
    if (this.#tokens.has(token!)) throw new Error('two attempts have one token')
    this.#tokens.add(token!)
    this.#upsert(whole, row, {
      ...{ state: 'running', attempt: number(attempt), token: number(token), startedAt: now, finishedAt: null },
      ...{ firstStartedAt: before?.firstStartedAt ?? now, retryAt: null, error: null, wait: null, startedBy },
    })
    this.begun.push(whole[number(run!) - 1]!.tasks.get(taskKey(number(node!), number(mapIndex!)))!)
  }

  #settle(whole: readonly (SimRun | undefined)[], row: Row): void {
    const [run, node, mapIndex, state, attempt, error, result, losses, retryAt] = row
    const found = whole[number(run!) - 1]!.tasks.get(taskKey(number(node!), number(mapIndex!)))
    const isNew = number(attempt) > (found?.attempt ?? 0)
    const begun = isNew ? this.#now() : null
    this.#upsert(whole, row, {
      ...{ state: state as TaskState, error: error ?? found?.error ?? null, result: result!, losses: number(losses) },
      ...{ retryAt: time(retryAt), finishedAt: state === 'up_for_retry' ? null : this.#now(), wait: null },
      ...{ attempt: number(attempt), startedAt: begun ?? found?.startedAt ?? null },
      firstStartedAt: found?.firstStartedAt ?? begun,
    })
  }

  #open(whole: readonly (SimRun | undefined)[], row: Row): void {
    const [run, node, mapIndex, attempt, retryAt, wait] = row
    const before = whole[number(run!) - 1]!.tasks.get(taskKey(number(node!), number(mapIndex!)))
    if ((before?.retryAt ?? 0) > this.#now())
      throw new Error(`task ${node}/${mapIndex} starts before ${before!.retryAt}`)
    this.#upsert(whole, row, {
      ...{ state: 'deferred', attempt: number(attempt), retryAt: time(retryAt), wait: wait!, startedAt: this.#now() },
      dueAt: time(retryAt),
      ...{ firstStartedAt: before?.firstStartedAt ?? this.#now(), finishedAt: null, error: null },
    })
  }

  #log(whole: readonly (SimRun | undefined)[], rows: readonly Row[]): void {
    for (const [run, seq, node, mapIndex, attempt, from, to, detail] of rows) {
      const { log, id } = whole[number(run) - 1]!
      if (number(seq) !== (log.at(-1)?.seq ?? 0) + 1) throw new Error(`the log of run ${id} has a gap at ${seq}`)
      const place = { node: number(node), mapIndex: number(mapIndex), attempt: number(attempt) }
      log.push({ seq: number(seq), at: this.#now(), ...place, from: from!, to: to!, detail: detail! })
    }
  }
}

/** Undefined where the names are refused. */
function chosenOf(run: SimRun, { nodes }: Graph, facts: ReadonlyMap<number, NodeFacts>, names: readonly string[]) {
  try {
    return chosenTasks(nodes, facts, run.id, names)
  } catch (error) {
    if (error instanceof SluiceError && error.code === 'INVALID_INPUT') return undefined
    throw error
  }
}

/** What one of the statements of a group writes, row by row. */
interface Written {
  readonly nodeId: string
  readonly wanted: readonly Row[]
  readonly starts: readonly Row[]
  readonly ends: readonly Row[]
  readonly settles: readonly Row[]
  readonly opens: readonly Row[]
  readonly pauses: readonly Row[]
  readonly widths: readonly Row[]
  readonly log: readonly Row[]
}

function writtenGroup(values: readonly string[]): Written {
  const column = (first: number, count: number): Row[] => rowsOf(values.slice(first, first + count))
  const isPlain = values.length === 31
  const sometimes = (first: number, count: number) => (isPlain ? [] : column(first, count))
  return {
    ...{ nodeId: values[0]!, wanted: column(1, 7), starts: column(8, 5), ends: column(13, 9), log: column(22, 8) },
    ...{ settles: sometimes(30, 9), opens: sometimes(39, 6), pauses: sometimes(45, 7), widths: sometimes(52, 3) },
  }
}

function writtenOne(values: readonly unknown[]): Written {
  const cells = values.map((value) => (value === undefined || value === null ? null : String(value)))
  // The number of the run in its group comes first.
  const row = (first: number, end: number): Row[] => (cells[first] === null ? [] : [['1', ...cells.slice(first, end)]])
  return {
    ...{ nodeId: cells[0]!, wanted: [cells.slice(1, 8)], starts: row(8, 12), ends: row(12, 20) },
    ...{ log: [...row(20, 27), ...row(27, 34)], settles: [], opens: [], pauses: [], widths: [] },
  }
}

/** The rows of columns that are written as arrays. */
function rowsOf(columns: readonly string[]): Row[] {
  if (columns[0] === '{}') return []
  const cells = columns.map(cellsOf)
  return cells[0]!.map((_, at) => cells.map((column) => column[at]!))
}

function cellsOf(text: string): Cell[] {
  if (!text.includes('"'))
    return text
      .slice(1, -1)
      .split(',')
      .map((cell) => (cell === 'NULL' ? null : cell))
  const cells: Cell[] = []
  for (let at = 1; at < text.length - 1; at += 1) {
    let cell = ''
    if (text[at] === '"') {
      for (at += 1; text[at] !== '"'; at += 1) {
        if (text[at] === '\\') at += 1
        cell += text[at]
      }
      cells.push(cell)
      at += 1
    } else {
      while (text[at] !== ',' && at < text.length - 1) cell += text[at++]
      cells.push(cell === 'NULL' ? null : cell)
    }
  }
  return cells
}
