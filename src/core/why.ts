/**
 * Why a run or a task has not ended: from facts alone, the same on any node. The reasons stand in the order in which
 * they would have to go away; the first is what it waits for now.
 */
import type { RunState } from './run-state.ts'
import { isTerminal, type TaskState } from './task-state.ts'
import { type TriggerRule, triggerRuleTable } from './trigger-rule.ts'

export interface WhyRun {
  readonly id: string
  readonly workflow: string
  readonly state: RunState
  readonly error: string | null
  readonly cancelRequested: boolean
  readonly paused: boolean
  /** What keeps it from being taken by an engine besides the places of its workflow, such as its backfill. */
  readonly heldBy: string | null
  /** The engine that has it; null: none. */
  readonly owner: { readonly id: string; readonly host: string | null; readonly leaseUntil: number | null } | null
  /** Engines that live. */
  readonly engines: number
  /** Where active runs of its workflow are limited and it has no place. */
  readonly places: { readonly slots: number; readonly active: readonly string[]; readonly before: number } | null
}

/** A limit as it stands where a task waits for it. */
export interface WhyLimit {
  /** `pool:etl` */
  readonly limit: string
  readonly slots: number | null
  readonly amount: number
  readonly inUse: number
  /** The first that hold some of it. */
  readonly holders: readonly { readonly run: string; readonly task: string }[]
  /** From 1; null: behind all that are shown. */
  readonly place: number | null
  readonly waiting: number
  /** Of a rate: when the next token comes; milliseconds since the epoch. */
  readonly nextAt: number | null
}

export interface WhyTask {
  readonly id: string
  readonly name: string
  readonly state: TaskState
  readonly attempt: number
  readonly error: string | null
  readonly startedAt: number | null
  /** When it goes on by itself; milliseconds since the epoch. */
  readonly due: number | null
  /** What a deferred task waits for, as it says. */
  readonly wait: string | null
  readonly rule: TriggerRule
  /** How many nodes are before it, and those that have not ended. */
  readonly upstream: number
  readonly open: readonly {
    readonly name: string
    readonly state: TaskState
    readonly ended: number
    readonly of: number
  }[]
  /** The node has been released: its rule holds. */
  readonly released: boolean
  readonly limits: readonly WhyLimit[]
  /** Of its engine, as it said last; null: it said nothing yet. */
  readonly runners: { readonly busy: number; readonly slots: number; readonly ready: number } | null
}

export const reasonCodes = [
  'ended',
  'cancelling',
  'held',
  'paused',
  'active_runs',
  'no_engine',
  'engine_gone',
  'not_taken',
  'running',
  'retry',
  'deferred',
  'upstream',
  'limit',
  'rate',
  'runner',
  'starting',
] as const

export interface Reason {
  readonly code: (typeof reasonCodes)[number]
  readonly text: string
  /** When it goes away by itself, if that is known; milliseconds since the epoch. */
  readonly until?: number
}

/** The first reason says what it waits for; there is always one. */
export function whyRun(run: WhyRun, now: number): Reason[] {
  if (run.state !== 'queued' && run.state !== 'running') {
    return [{ code: 'ended', text: `run ${run.id} ended: ${run.state}${run.error === null ? '' : `, ${run.error}`}` }]
  }
  const reasons: Reason[] = []
  if (run.cancelRequested) reasons.push({ code: 'cancelling', text: `run ${run.id} is being cancelled` })
  if (run.heldBy !== null) reasons.push({ code: 'held', text: `run ${run.id} waits for ${run.heldBy}` })
  if (run.places && run.state === 'queued') reasons.push(activeRuns(run.workflow, run.places))
  if (run.paused) {
    const text = `workflow ${run.workflow} is paused: nothing of it starts until it goes on`
    reasons.push({ code: 'paused', text })
  }
  reasons.push(...owned(run, now))
  if (run.state === 'running') reasons.push({ code: 'running', text: `run ${run.id} is running` })
  return reasons
}

function activeRuns(workflow: string, { slots, active, before }: NonNullable<WhyRun['places']>): Reason {
  const held = active.length > 0 ? `: ${listed(active.map((id) => `run ${id}`))}` : ''
  const place = before === 0 ? 'next in line' : `${before} queued before it`
  const text = slots === 0 ? `workflow ${workflow} is closed: 0 active runs are allowed` : ''
  return {
    code: 'active_runs',
    text: text || `${active.length} of ${slots} runs of ${workflow} are active${held}; ${place}`,
  }
}

function owned({ id, state, owner, engines, places }: WhyRun, now: number): Reason[] {
  if (engines === 0) {
    const since = owner?.leaseUntil ? `; the lease of its own lapsed at ${time(owner.leaseUntil)}` : ''
    return [{ code: 'no_engine', text: `no engine is running${since}` }]
  }
  if (owner && (owner.leaseUntil === null || owner.leaseUntil <= now)) {
    const when =
      owner.leaseUntil === null ? 'is gone' : `has not been heard of, its lease lapsed at ${time(owner.leaseUntil)}`
    return [{ code: 'engine_gone', text: `engine ${owner.id} ${when}; another takes run ${id} over` }]
  }
  // Who waits for a place is taken when it has one.
  if (owner || (state === 'queued' && places)) return []
  return [{ code: 'not_taken', text: `no engine has taken run ${id} yet${state === 'queued' ? '' : ' again'}` }]
}

/** Why a task has not ended; what its run waits for comes first. */
export function whyTask(run: WhyRun, task: WhyTask, now: number): Reason[] {
  if (isTerminal(task.state)) {
    const error = task.error === null ? '' : `, ${task.error.split('\n', 1)[0]!.slice(0, 300)}`
    return [{ code: 'ended', text: `task ${task.name} ended: ${task.state}${error}` }]
  }
  const ofRun = whyRun(run, now).filter(({ code }) => code !== 'running')
  if (ofRun[0]?.code === 'ended') return ofRun
  const own = taskReasons(task, now)
  // That nothing else keeps it is no news while its run does.
  return ofRun.length > 0 ? [...ofRun, ...own.filter(({ code }) => code !== 'starting')] : own
}

function taskReasons(task: WhyTask, now: number): Reason[] {
  const { name, state, attempt, due } = task
  if (state === 'running') {
    const since = task.startedAt === null ? '' : ` since ${time(task.startedAt)}`
    return [{ code: 'running', text: `attempt ${attempt} of task ${name} is running${since}` }]
  }
  const until = due === null ? {} : { until: due }
  if (state === 'deferred' && (due === null || due > now || task.wait !== null)) {
    const text = `task ${name} waits${task.wait === null ? '' : ` for ${task.wait}`}${due === null ? '' : ` until ${time(due)}`}, without a runner`
    if (due === null || due > now) return [{ code: 'deferred', text, ...until }]
  }
  if (state === 'up_for_retry' && due !== null && due > now) {
    const last = task.error === null ? '' : ` (the last ended: ${task.error.split('\n', 1)[0]!.slice(0, 200)})`
    return [{ code: 'retry', text: `attempt ${attempt + 1} of task ${name} begins at ${time(due)}${last}`, ...until }]
  }
  if (attempt === 0 && !task.released && task.open.length > 0) return [upstreamReason(task)]
  if (task.limits.length > 0) return task.limits.map((limit) => limitReason(limit, now))
  return [runnerReason(task)]
}

function upstreamReason({ name, rule, upstream, open }: WhyTask): Reason {
  const says = triggerRuleTable.find((row) => row.rule === rule)?.says ?? rule
  const waits = open.map(({ name: before, state, ended, of }) => {
    return of > 1 ? `${before} (${ended} of ${of} ended)` : `${before} (${state})`
  })
  const text = `task ${name} waits for ${listed(waits)}: ${open.length} of ${upstream} before it have not ended; its rule is ${rule} (${says})`
  return { code: 'upstream', text }
}

function limitReason({ limit, slots, amount, inUse, holders, place, waiting, nextAt }: WhyLimit, now: number): Reason {
  const name = spoken(limit)
  const line =
    place === null
      ? `behind the first ${waiting > 0 ? `of ${waiting} ` : ''}in line`
      : place === 1
        ? 'next in line'
        : `number ${place} in line`
  if (limit.startsWith('rate:')) {
    const next = nextAt === null ? '' : `, next token in ${span(Math.max(0, nextAt - now))}`
    const text = slots === 0 ? `${name} is closed` : `${name} is used up${next}; ${line} of ${waiting}`
    return nextAt === null ? { code: 'rate', text } : { code: 'rate', text, until: nextAt }
  }
  if (slots === null)
    return { code: 'limit', text: `${name} has no slots: nobody has declared it; ${line} of ${waiting}` }
  if (slots === 0) return { code: 'limit', text: `${name} is closed (0 slots); ${line} of ${waiting}` }
  if (amount > slots)
    return { code: 'limit', text: `it needs ${amount} slots of ${name}, which has ${slots}: it can never start so` }
  const by = holders.length > 0 ? `, held by ${listed(holders.map(({ run, task }) => `run ${run} task ${task}`))}` : ''
  const wants = amount > 1 ? `; it needs ${amount}` : ''
  return {
    code: 'limit',
    text: `${name} ${inUse} of ${slots}${by}${wants}; ${line}${place === 1 ? '' : ` of ${waiting}`}`,
  }
}

function runnerReason({ name, runners }: WhyTask): Reason {
  if (runners && runners.busy >= runners.slots && runners.slots > 0) {
    const ready = runners.ready > 1 ? `; ${runners.ready} tasks are ready` : ''
    return {
      code: 'runner',
      text: `no runner is free for task ${name}: ${runners.busy} of ${runners.slots} attempts are under way${ready}`,
    }
  }
  return { code: 'starting', text: `task ${name} may start: nothing keeps it waiting but its turn` }
}

/** `pool etl`, `key customer 42`, `workers of images`. */
export function spoken(limit: string): string {
  const [kind, name, ...value] = limit.split(':')
  if (kind === 'workers') return `workers of ${name}`
  return [kind, name, ...(value.length > 0 ? [value.join(':')] : [])].join(' ')
}

const mostListed = 3

function listed(items: readonly string[]): string {
  const shown = items.slice(0, mostListed).join(', ')
  return items.length > mostListed ? `${shown} and ${items.length - mostListed} more` : shown
}

const time = (at: number) => new Date(at).toISOString()

function span(ms: number): string {
  if (ms < 1_000) return `${Math.ceil(ms)} ms`
  if (ms < 120_000) return `${Math.ceil(ms / 1_000)} s`
  return `${Math.ceil(ms / 60_000)} min`
}
