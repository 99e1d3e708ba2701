/** The states of a run and the only ways between them. What is not a row of `runTransitions` cannot happen. */
import type { TransitionBy } from './task-state.ts'

export const runStates = ['queued', 'running', 'success', 'failed', 'cancelled'] as const

export type RunState = (typeof runStates)[number]

/** States in which a run has ended; only an audited clear leads out of them. */
export const terminalRunStates = ['success', 'failed', 'cancelled'] as const satisfies readonly RunState[]

export type TerminalRunState = (typeof terminalRunStates)[number]

export interface RunTransition {
  readonly from: RunState
  readonly to: RunState
  readonly by: TransitionBy
  readonly reason: string
}

/** Every legal transition, in the order of a run's life. An acknowledged run begins as `queued`. */
export const runTransitions: readonly RunTransition[] = [
  { from: 'queued', to: 'running', by: 'engine', reason: 'a node owns it and its limits admit it' },
  { from: 'queued', to: 'failed', by: 'engine', reason: 'its version or its parameters cannot be run' },
  { from: 'queued', to: 'cancelled', by: 'engine', reason: 'cancelled before it began' },

  { from: 'running', to: 'success', by: 'engine', reason: 'every task ended and every leaf succeeded or was skipped' },
  { from: 'running', to: 'failed', by: 'engine', reason: 'every task ended and a leaf did not succeed' },
  { from: 'running', to: 'cancelled', by: 'engine', reason: 'cancelled, and every live task has ended' },

  { from: 'success', to: 'queued', by: 'clear', reason: 'tasks were cleared to run again' },
  { from: 'failed', to: 'queued', by: 'clear', reason: 'tasks were cleared to run again' },
  { from: 'cancelled', to: 'queued', by: 'clear', reason: 'tasks were cleared to run again' },
]

const terminal: ReadonlySet<RunState> = new Set(terminalRunStates)
const legal: ReadonlySet<string> = new Set(runTransitions.map(({ from, to, by }) => `${from} ${to} ${by}`))

export function isTerminal(state: RunState): state is TerminalRunState {
  return terminal.has(state)
}

/** Whether the table has this way; `by` is the engine where nothing is said. */
export function mayBecome(from: RunState, to: RunState, by: TransitionBy = 'engine'): boolean {
  return legal.has(`${from} ${to} ${by}`)
}
