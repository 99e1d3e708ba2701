/** The states of a task and the only ways between them. What is not a row of `taskTransitions` cannot happen. */
export const taskStates = [
  'none',
  'scheduled',
  'queued',
  'running',
  'deferred',
  'up_for_retry',
  'success',
  'failed',
  'skipped',
  'upstream_failed',
  'cancelled',
  'removed',
] as const

export type TaskState = (typeof taskStates)[number]

/** States in which a task has ended; only an audited clear leads out of them. */
export const terminalTaskStates = [
  'success',
  'failed',
  'skipped',
  'upstream_failed',
  'cancelled',
  'removed',
] as const satisfies readonly TaskState[]

export type TerminalTaskState = (typeof terminalTaskStates)[number]

/** Who may go this way: the engine in the course of a run, or a person's audited clear. */
export type TransitionBy = 'engine' | 'clear'

export interface TaskTransition {
  readonly from: TaskState
  readonly to: TaskState
  readonly by: TransitionBy
  readonly reason: string
}

/** Every legal transition, in the order of a task's life. A row appears at the first start, so `none` has no row yet. */
export const taskTransitions: readonly TaskTransition[] = [
  { from: 'none', to: 'scheduled', by: 'engine', reason: 'its rule holds; it waits for a permit' },
  {
    from: 'none',
    to: 'queued',
    by: 'engine',
    reason: 'its rule holds and its permits are held; it waits for a runner',
  },
  { from: 'none', to: 'running', by: 'engine', reason: 'its rule holds and a runner is free' },
  {
    from: 'none',
    to: 'deferred',
    by: 'engine',
    reason: 'its rule holds; a timer, an approval or a run of another workflow needs no runner',
  },
  { from: 'none', to: 'success', by: 'engine', reason: 'the engine decided it: a branch, a time that has passed' },
  {
    from: 'none',
    to: 'failed',
    by: 'engine',
    reason: 'the engine cannot decide it: a value that is no choice, no time',
  },
  { from: 'none', to: 'skipped', by: 'engine', reason: 'its rule or a branch left it out' },
  { from: 'none', to: 'upstream_failed', by: 'engine', reason: 'its rule can no longer hold' },
  { from: 'none', to: 'cancelled', by: 'engine', reason: 'the run was cancelled before it started' },
  { from: 'none', to: 'removed', by: 'engine', reason: 'the mapping no longer has this index' },

  { from: 'scheduled', to: 'queued', by: 'engine', reason: 'its permits are held; it waits for a runner' },
  { from: 'scheduled', to: 'running', by: 'engine', reason: 'its permits are held and a runner is free' },
  { from: 'scheduled', to: 'skipped', by: 'engine', reason: 'a branch left it out' },
  { from: 'scheduled', to: 'upstream_failed', by: 'engine', reason: 'its rule can no longer hold' },
  { from: 'scheduled', to: 'failed', by: 'engine', reason: 'its time limit passed while it waited' },
  { from: 'scheduled', to: 'cancelled', by: 'engine', reason: 'cancelled while it waited for a permit' },
  { from: 'scheduled', to: 'removed', by: 'engine', reason: 'the mapping no longer has this index' },

  { from: 'queued', to: 'running', by: 'engine', reason: 'a runner took it' },
  { from: 'queued', to: 'scheduled', by: 'engine', reason: 'its permits were given back before a runner took it' },
  { from: 'queued', to: 'failed', by: 'engine', reason: 'its time limit passed, or no runner can execute it' },
  { from: 'queued', to: 'cancelled', by: 'engine', reason: 'cancelled while it waited for a runner' },

  { from: 'running', to: 'success', by: 'engine', reason: 'the attempt returned a valid result' },
  { from: 'running', to: 'skipped', by: 'engine', reason: 'the attempt asked to be skipped' },
  { from: 'running', to: 'deferred', by: 'engine', reason: 'the attempt waits for a timer, a sensor or an approval' },
  {
    from: 'running',
    to: 'up_for_retry',
    by: 'engine',
    reason: 'the attempt failed or was lost, and may be tried again',
  },
  { from: 'running', to: 'failed', by: 'engine', reason: 'the attempt failed and no retry is left' },
  { from: 'running', to: 'cancelled', by: 'engine', reason: 'cancelled while it ran' },

  { from: 'deferred', to: 'scheduled', by: 'engine', reason: 'what it waited for came; it waits for a permit' },
  { from: 'deferred', to: 'running', by: 'engine', reason: 'what it waited for came, and a runner is free' },
  { from: 'deferred', to: 'success', by: 'engine', reason: 'what it waited for was all there was to do' },
  { from: 'deferred', to: 'skipped', by: 'engine', reason: 'the approval was refused or the wait ended softly' },
  { from: 'deferred', to: 'up_for_retry', by: 'engine', reason: 'the wait failed and may be tried again' },
  { from: 'deferred', to: 'failed', by: 'engine', reason: 'the wait failed or its time limit passed' },
  { from: 'deferred', to: 'cancelled', by: 'engine', reason: 'cancelled while it waited' },

  { from: 'up_for_retry', to: 'scheduled', by: 'engine', reason: 'the retry is due; it waits for a permit' },
  { from: 'up_for_retry', to: 'queued', by: 'engine', reason: 'the retry is due and its permits are held' },
  { from: 'up_for_retry', to: 'running', by: 'engine', reason: 'the retry is due and a runner is free' },
  { from: 'up_for_retry', to: 'deferred', by: 'engine', reason: 'the retry is due; it needs no runner' },
  { from: 'up_for_retry', to: 'failed', by: 'engine', reason: 'the time limit of all attempts passed' },
  { from: 'up_for_retry', to: 'cancelled', by: 'engine', reason: 'cancelled between two attempts' },

  { from: 'success', to: 'none', by: 'clear', reason: 'cleared to run again' },
  { from: 'failed', to: 'none', by: 'clear', reason: 'cleared to run again' },
  { from: 'skipped', to: 'none', by: 'clear', reason: 'cleared to be decided again' },
  { from: 'upstream_failed', to: 'none', by: 'clear', reason: 'cleared to be decided again' },
  { from: 'cancelled', to: 'none', by: 'clear', reason: 'cleared to run again' },
  { from: 'removed', to: 'none', by: 'clear', reason: 'cleared with a mapping that has this index again' },
]

const terminal: ReadonlySet<TaskState> = new Set(terminalTaskStates)
const legal: ReadonlySet<string> = new Set(taskTransitions.map(({ from, to, by }) => `${from} ${to} ${by}`))

export function isTerminal(state: TaskState): state is TerminalTaskState {
  return terminal.has(state)
}

/** Whether the table has this way; `by` is the engine where nothing is said. */
export function mayBecome(from: TaskState, to: TaskState, by: TransitionBy = 'engine'): boolean {
  return legal.has(`${from} ${to} ${by}`)
}
