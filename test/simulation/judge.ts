/**
 * The reference: what a run may do, said without any of `src/core`. It reads the log of a run from the start, and of each
 * row says from the facts before it whether it was right: declaratively, with nothing counted on from step to step.
 */
import type { NodeManifest } from '../../src/core/manifest.ts'
import { rules } from '../invariants/rules.ts'
import type { Case, Fate, SimNode, SimWorkflow } from './plan.ts'
import type { LogRow, SimRun, SimTask } from './store.ts'
import { taskKey } from './store.ts'

type End = 'success' | 'failed' | 'skipped' | 'upstream_failed' | 'cancelled' | 'removed'

const endStates: ReadonlySet<string> = new Set([
  'success',
  'failed',
  'skipped',
  'upstream_failed',
  'cancelled',
  'removed',
])
const isBad = (end: End | undefined) => end === 'failed' || end === 'cancelled' || end === 'upstream_failed'

/** What happened around a run that its rows do not say. */
export interface Facts {
  readonly plan: Case
  /** Children of a task, in the order of their attempts. */
  readonly childrenOf: (run: SimRun, node: number, mapIndex: number) => readonly SimRun[]
  /** Runs that somebody wanted cancelled. */
  readonly wished: ReadonlySet<string>
  /** Approvals that were answered: `run node`. */
  readonly answered: ReadonlySet<string>
}

export function judge(run: SimRun, workflow: SimWorkflow, facts: Facts): string[] {
  return new RunJudge(run, workflow, facts).faults()
}

class RunJudge {
  readonly #run: SimRun
  readonly #workflow: SimWorkflow
  readonly #nodes: readonly SimNode[]
  readonly #facts: Facts
  readonly #before: readonly (readonly number[])[]
  /** By task: how it stands, at the row of the log that is looked at. */
  readonly #states = new Map<number, string>()
  readonly #attempts = new Map<number, number>()
  /** By what the run was stopped when it ended next, seen from the row that is looked at. */
  #stopped: Stop
  /** Each end of the run: its number in the log, and what stopped it. */
  readonly #ends: readonly { readonly seq: number; readonly stop: Stop }[]
  /** By task: the number of its last clear. */
  readonly #cleared = new Map<number, number>()
  /** A row says that the run was stopped: something is cancelled that did not run. */
  #stopSeen = false
  /** The run is taken for stopped by the row that is looked at. */
  #assumeStopped = false
  readonly #found: string[] = []

  constructor(run: SimRun, workflow: SimWorkflow, facts: Facts) {
    this.#run = run
    this.#workflow = workflow
    this.#nodes = workflow.nodes
    this.#facts = facts
    this.#before = beforeOf(workflow)
    this.#ends = run.log.flatMap(({ node, to, seq, detail }) =>
      node < 0 && to !== 'queued' && to !== 'running' ? [{ seq, stop: stopOf(to, detail) }] : [],
    )
    for (const { node, mapIndex, to, seq } of run.log)
      if (to === 'none') this.#cleared.set(taskKey(node, mapIndex), seq)
  }

  faults(): string[] {
    let runState = 'queued'
    for (const row of this.#run.log) {
      this.#stopped = this.#ends.find(({ seq }) => seq >= row.seq)?.stop
      if (row.node < 0) runState = this.#runRow(row, runState)
      else this.#taskRow(row)
    }
    this.#assumeStopped = this.#stopped !== undefined
    this.#rows()
    this.#verdict()
    return this.#found
  }

  #say(what: string): void {
    this.#found.push(`run ${this.#run.id} (${this.#run.workflow}): ${what}`)
  }

  #runRow({ from, to, seq }: LogRow, state: string): string {
    if (from !== state) this.#say(`number ${seq} goes from ${from}; it was ${state}`)
    const ways = [
      'queued running',
      'queued failed',
      'queued cancelled',
      'running success',
      'running failed',
      'running cancelled',
    ]
    if (to === 'queued') this.#stopSeen = false
    const isCleared = to === 'queued' && from !== 'running'
    if (!ways.includes(`${from} ${to}`) && !isCleared) this.#say(`it goes from ${from} to ${to}`)
    return to
  }

  #taskRow(row: LogRow): void {
    const key = taskKey(row.node, row.mapIndex)
    const name = `task ${row.node}/${row.mapIndex}`
    const state = this.#states.get(key) ?? 'none'
    if (row.from !== state) this.#say(`${name} goes from ${row.from} at number ${row.seq}; it was ${state}`)
    const isCleared = row.to === 'none' && endStates.has(row.from)
    if (!taskWays.has(`${row.from} ${row.to}`) && !isCleared) this.#say(`${name} goes from ${row.from} to ${row.to}`)
    const attempt = this.#attempts.get(key) ?? 0
    const begins = row.to === 'running' || (row.to === 'deferred' && row.from !== 'running')
    if (row.attempt !== attempt + (begins ? 1 : 0)) this.#say(`${name}: attempt ${row.attempt} after ${attempt}`)
    // Of a task that was cleared only its last life is judged: what was before it was cleared later, too.
    if (row.from === 'none' && row.seq > (this.#cleared.get(key) ?? 0)) this.#decided(row, begins)
    const mayBegin = this.#nodes[row.node]!.manifest.teardownOf !== undefined
    if (row.to === 'cancelled' && row.from !== 'running') this.#stopSeen = true
    else if (begins && this.#stopSeen && !mayBegin)
      this.#say(`${name} begins at number ${row.seq}, after the run was stopped`)
    if (isCleared) this.#states.delete(key)
    else this.#states.set(key, row.to)
    this.#attempts.set(key, row.attempt)
  }

  /** A node begins, or is left out: the ends before it say whether that is right. */
  #decided(row: LogRow, begins: boolean): void {
    const { manifest } = this.#nodes[row.node]!
    const { kind = 'action' } = manifest
    const verdicts = this.#verdictsAt(row.node)
    const told = `n${row.node} is ${row.to} at number ${row.seq}: ${this.#told(row.node)}`
    const inEngine = kind === 'branch' || kind === 'wait' || kind === 'approval'
    if (begins || row.to === 'success' || (row.to === 'failed' && inEngine)) {
      if (!verdicts.includes('run')) this.#say(told)
      if (row.to === 'success' && kind !== 'branch' && kind !== 'wait') this.#say(`${told}, without an attempt`)
    } else if (row.to === 'skipped') {
      if (!verdicts.includes('skip')) this.#say(told)
    } else if (row.to === 'upstream_failed') {
      const noList = manifest.over !== undefined && !Array.isArray(this.#value(manifest.over))
      if (!verdicts.includes(row.detail === null ? 'block' : 'run') || (row.detail !== null && !noList)) this.#say(told)
    } else if (row.to === 'removed') {
      const width = this.#run.widths.get(row.node)
      if (
        row.mapIndex < 0 ||
        row.attempt === 0 ||
        (width !== undefined && row.mapIndex < width && this.#stopped === undefined)
      )
        this.#say(told)
    } else if (row.to === 'cancelled') {
      if (this.#stopped === undefined || manifest.teardownOf !== undefined) this.#say(told)
    } else this.#say(told)
  }

  /** The rows do not say when a run was stopped, only from when on it surely was: until then it may or may not have been. */
  #verdictsAt(node: number): ('run' | 'skip' | 'block')[] {
    const may = this.#stopped === undefined ? [false] : this.#stopSeen ? [true] : [false, true]
    return may.flatMap((stopped) => {
      this.#assumeStopped = stopped
      return this.#verdicts(node)
    })
  }

  /** What may become of a node by the ends that are there; more than one where the order decides. */
  #verdicts(node: number): ('run' | 'skip' | 'block')[] {
    const { manifest } = this.#nodes[node]!
    for (const { branch, arm } of manifest.arms ?? []) {
      const end = this.#endOf(branch)
      if (end === undefined) return []
      if (end === 'skipped' || (end === 'success' && !this.#chosen(branch).includes(arm))) return ['skip']
    }
    const ends = this.#before[node]!.map((up) => this.#endOf(up))
    if (manifest.teardownOf !== undefined) {
      if (ends.includes(undefined)) return []
      const made = this.#endOf(manifest.teardownOf)
      return [made === 'success' ? 'run' : made === 'skipped' ? 'skip' : 'block']
    }
    const rule = rules[manifest.rule]!
    if (ends.length === 0) return ['run']
    const may: ('run' | 'skip' | 'block')[] = []
    if (rule.starts(ends)) may.push('run')
    if (rule.skips(ends) && !(manifest.rule === 'all_success' && ends.some(isBad))) may.push('skip')
    if (rule.blocks(ends)) may.push('block')
    return may
  }

  /** How a node has ended by now; undefined while it may go on. */
  #endOf(node: number): End | undefined {
    const { manifest } = this.#nodes[node]!
    const whole = this.#states.get(taskKey(node, -1))
    if (whole !== undefined && (manifest.over === undefined || endStates.has(whole)))
      return endStates.has(whole) ? (whole as End) : undefined
    if (manifest.over === undefined) return undefined
    const width = this.#run.widths.get(node)
    if (width === undefined) return undefined
    // An empty list has no rows: it is done as soon as its rule holds.
    if (width === 0) return this.#verdicts(node).includes('run') ? 'success' : undefined
    const states = Array.from({ length: width }, (_, at) => this.#states.get(taskKey(node, at)))
    const begun = states.filter((state) => state !== undefined)
    if (begun.length < width && (!this.#assumeStopped || begun.length === 0)) return undefined
    if (begun.some((state) => !endStates.has(state))) return undefined
    if (begun.includes('failed')) return 'failed'
    if (begun.includes('cancelled') || begun.length < width) return 'cancelled'
    return begun.includes('skipped') && !begun.includes('success') ? 'skipped' : 'success'
  }

  #told(node: number): string {
    const { manifest } = this.#nodes[node]!
    const arms = (manifest.arms ?? []).map(({ branch, arm }) => `arm ${arm} of n${branch} ${this.#endOf(branch)}`)
    const ends = this.#before[node]!.map((up) => `n${up} ${this.#endOf(up) ?? 'open'}`)
    return [
      manifest.teardownOf === undefined ? manifest.rule : `teardown of n${manifest.teardownOf}`,
      ...arms,
      ...ends,
    ].join(', ')
  }

  #chosen(branch: number): readonly string[] {
    const { manifest } = this.#nodes[branch]!
    const value = this.#value(manifest.args)
    const names = (Array.isArray(value) ? value : [value]).filter((name) => name !== null && name !== undefined)
    return names.map((name) => (name === true ? 'yes' : name === false ? 'no' : String(name)))
  }

  /** What a template of this simulation is: plain, or one reference. */
  #value(template: unknown): unknown {
    const found = (template as { $ref?: { from: string; node: number; path: string[] } } | null)?.$ref
    if (found === undefined) return template
    let value: unknown = found.from === 'param' ? JSON.parse(this.#run.params) : this.#resultOf(found.node)
    for (const step of found.path) {
      if (value === null || typeof value !== 'object' || !Object.hasOwn(value, step)) return undefined
      value = (value as Record<string, unknown>)[step]
    }
    return value
  }

  #resultOf(node: number): unknown {
    const one = (mapIndex: number): unknown =>
      JSON.parse(this.#run.tasks.get(taskKey(node, mapIndex))?.result ?? 'null')
    if (this.#nodes[node]!.manifest.over === undefined) return one(-1)
    return Array.from({ length: this.#run.widths.get(node) ?? 0 }, (_, at) => one(at))
  }

  /** The rows are where the log ends, and each task ended as its attempts say. */
  #rows(): void {
    for (const [key, state] of this.#states) {
      const task = this.#run.tasks.get(key)
      if (task?.state !== state || task.attempt !== this.#attempts.get(key))
        this.#say(`task ${key} is ${task?.state} (${task?.attempt}); by its log ${state} (${this.#attempts.get(key)})`)
    }
    for (const task of this.#run.tasks.values()) {
      if (!endStates.has(task.state))
        this.#say(`task ${task.node}/${task.mapIndex} is ${task.state}, and the run has ended`)
      if (task.token !== null || task.retryAt !== null) this.#say(`task ${task.node}/${task.mapIndex} is not at rest`)
      const allowed = this.#allowed(task)
      if (!allowed.includes(task.state))
        this.#say(
          `task ${task.node}/${task.mapIndex} ended as ${task.state} (${task.error}); allowed: ${allowed.join(', ')}`,
        )
    }
  }

  #allowed(task: SimTask): readonly string[] {
    const sim = this.#nodes[task.node]!
    const { manifest } = sim
    const { kind = 'action', withinMs } = manifest
    const unbegun = task.attempt === task.base
    if (unbegun && kind !== 'branch' && kind !== 'wait')
      return ['skipped', 'upstream_failed', 'cancelled', ...(task.base > 0 ? ['removed'] : [])]
    const by = this.#byKind(task, sim, kind)
    const mayStop = this.#ends.some(({ stop }) => stop !== undefined) && manifest.teardownOf === undefined
    return [
      ...by,
      ...(unbegun ? ['skipped', 'upstream_failed'] : []),
      ...(mayStop ? ['cancelled'] : []),
      ...(withinMs !== undefined && task.error?.startsWith('TIMEOUT: the time limit') ? ['failed'] : []),
    ]
  }

  #byKind(task: SimTask, { manifest, fates, answer, value }: SimNode, kind: string): readonly string[] {
    if (kind === 'branch') {
      const { choices = [] } = manifest
      const names = this.#chosen(task.node)
      const alone = choices.length === 1 && choices[0] === 'yes' && names.every((name) => name === 'no')
      return [alone || names.every((name) => choices.includes(name)) ? 'success' : 'failed']
    }
    if (kind === 'wait') {
      const until = this.#waitsFor(manifest)
      if (task.state === 'success' && until !== undefined && task.finishedAt! < until)
        this.#say(`n${task.node} waited until ${task.finishedAt}, not until ${until}`)
      return [until === undefined ? 'failed' : 'success']
    }
    if (kind === 'approval') return this.#approved(task, manifest, answer)
    if (kind === 'workflow') return [this.#byChildren(task, manifest)]
    const end = endOf(fates[Math.max(0, task.mapIndex) % fates.length]!, manifest)
    if (task.state === 'success' && task.result !== JSON.stringify(value))
      this.#say(`task ${task.node} has another result`)
    return [end]
  }

  /** The earliest time that it may be over; undefined where that is no time. */
  #waitsFor({ args }: NodeManifest): number | undefined {
    const { until, forMs } = args as { until?: unknown; forMs?: number }
    // The clock of a simulation begins at 1,000.
    if (forMs !== undefined) return 1_000 + forMs
    const value = this.#value(until)
    const at = typeof value === 'number' ? value : typeof value === 'string' ? Date.parse(value) : Number.NaN
    return Number.isNaN(at) ? undefined : at
  }

  #approved(task: SimTask, { approval }: NodeManifest, answer: SimNode['answer']): string[] {
    const may: string[] = []
    const { onDeadline, onRefuse, deadlineMs } = approval!
    const endIs = { approve: 'success', skip: 'skipped', fail: 'failed' } as const
    if (this.#facts.answered.has(`${this.#run.id} ${task.node}`))
      may.push(endIs[answer === 'approve' ? 'approve' : onRefuse])
    if (deadlineMs !== undefined && (task.finishedAt ?? 0) >= (task.dueAt ?? Number.POSITIVE_INFINITY))
      may.push(endIs[onDeadline])
    return may
  }

  #byChildren(task: SimTask, { retry }: NodeManifest): string {
    const children = this.#facts.childrenOf(this.#run, task.node, task.mapIndex)
    const of = `task ${task.node}/${task.mapIndex}`
    if (children.some(({ parent }, at) => parent!.attempt !== at + 1) || children.length !== task.attempt)
      this.#say(`${of} has ${task.attempt} attempts and ${children.length} children`)
    if (children.some(({ state }) => state === 'queued' || state === 'running')) this.#say(`${of} has an open child`)
    const own = children.filter(({ parent }) => parent!.attempt > task.base)
    const last = own.at(-1)
    if (last?.state === 'success') {
      if (task.state === 'success' && task.result !== (last.result ?? 'null'))
        this.#say(`${of} has another result than its child`)
      return 'success'
    }
    if (own.slice(0, -1).some(({ state }) => state !== 'failed'))
      this.#say(`${of} goes on after a child that did not fail`)
    const used = own.filter(({ state }) => state === 'failed').length
    if (last?.state === 'failed' && used < retry.attempts) return 'up_for_retry'
    return 'failed'
  }

  #verdict(): void {
    const { state, error, result } = this.#run
    if (this.#stopped === 'cancel' && !this.#facts.wished.has(this.#run.id))
      this.#say('it is cancelled, and nobody wished it')
    const { timeoutMs } = this.#workflow
    if (this.#stopped === 'limit') {
      const ended = this.#run.log.at(-1)!.at
      if (timeoutMs === undefined || ended < this.#run.startedAt! + timeoutMs) this.#say('its time was over too early')
    }
    const awaited = new Set(
      this.#before.flatMap((ups, node) => (this.#nodes[node]!.manifest.teardownOf === undefined ? ups : [])),
    )
    let bad = false
    for (const [node, { manifest }] of this.#nodes.entries()) {
      const end = this.#endOf(node)
      if (end === undefined) this.#say(`it is ${state}, and n${node} has not ended`)
      if (manifest.teardownOf === undefined && !awaited.has(node)) bad ||= end !== 'success' && end !== 'skipped'
    }
    if (this.#stopped !== undefined) return
    if (state !== (bad ? 'failed' : 'success'))
      this.#say(`it is ${state} (${error}), and ${bad ? 'a' : 'no'} last node ended badly`)
    const { output } = this.#workflow
    const expected = state !== 'success' || output === undefined ? null : this.#output(output)
    if (result !== expected) this.#say(`it resulted in ${result}, not ${expected}`)
  }

  #output(output: unknown): string {
    const { it } = output as { it?: unknown }
    if (it === undefined) return JSON.stringify(this.#value(output) ?? null)
    const inner = this.#value(it)
    return JSON.stringify(inner === undefined ? {} : { it: inner })
  }
}

type Stop = 'cancel' | 'limit' | undefined

const stopOf = (state: string, error: string | null): Stop =>
  state === 'cancelled' ? 'cancel' : error?.startsWith('TIMEOUT: the run took') ? 'limit' : undefined

/** Everything a node waits for, by definition: its edges and the whole stage before, but what is torn down there. */
function beforeOf({ nodes }: SimWorkflow): number[][] {
  return nodes.map(({ manifest: { upstream, stage } }) => {
    const staged = nodes.flatMap(({ manifest }, at) =>
      stage !== undefined && manifest.stage === stage - 1 && manifest.teardownOf === undefined ? [at] : [],
    )
    return [...new Set([...upstream, ...staged])]
  })
}

/** How a task ends that nothing stops, by what its attempts do and what its author allows. */
function endOf({ losses, failures, last }: Fate, { retry }: NodeManifest): string {
  if (losses >= 10) return 'failed'
  for (const [at, failing] of failures.entries()) {
    const own = failing === 'plain' ? undefined : retry.errors?.[failing]
    if (at + 1 >= (own ?? retry).attempts) return 'failed'
  }
  return last === 'fatal' ? 'failed' : last
}

const ways: Readonly<Record<string, readonly string[]>> = {
  none: ['running', 'deferred', 'success', 'failed', 'skipped', 'upstream_failed', 'cancelled', 'removed'],
  running: ['success', 'skipped', 'deferred', 'up_for_retry', 'failed', 'cancelled'],
  deferred: ['running', 'success', 'skipped', 'up_for_retry', 'failed', 'cancelled'],
  up_for_retry: ['running', 'deferred', 'failed', 'cancelled'],
}
const taskWays: ReadonlySet<string> = new Set(
  Object.entries(ways).flatMap(([from, tos]) => tos.map((to) => `${from} ${to}`)),
)
