/** What messages of the inbox mean to the runs that they are for. */
import type { AttemptError, Outcome, RunEvent } from '../core/run-progress.ts'
import type { TerminalRunState } from '../core/run-state.ts'
import type { InboxMessage } from '../store/inbox.ts'

/** How the run of another workflow ended, as `tellParents` writes it. */
interface ChildEnd {
  readonly state: TerminalRunState
  readonly error: string | null
  readonly result: string | null
  readonly run: string
}

/** How an approval was answered. */
export interface ApprovalAnswer {
  readonly approved: boolean
  readonly by: string
  readonly note: string | null
  /** RFC 3339. */
  readonly at: string
  /** What was filled in, which fits the form. */
  readonly form: unknown
  readonly onRefuse: 'skip' | 'fail'
}

/** Nobody had answered an approval before its deadline. */
interface Deadline {
  readonly deadline: true
}

export function eventOf(message: InboxMessage): RunEvent | undefined {
  if (message.kind === 'cancel') return { kind: 'cancel' }
  if (message.kind !== 'resume' || message.body === null) return undefined
  const { node, mapIndex, attempt } = message
  const body = JSON.parse(message.body) as ChildEnd | ApprovalAnswer | Deadline
  if ('deadline' in body) return { kind: 'due', node, mapIndex, attempt }
  const outcome = 'approved' in body ? answered(body) : childEnded(body)
  return { kind: 'resumed', node, mapIndex, attempt, outcome }
}

function childEnded({ state, error, result, run }: ChildEnd): Outcome {
  if (state === 'success') return { kind: 'success', result: result ?? 'null' }
  const message = state === 'cancelled' ? `run ${run} was cancelled` : `run ${run} failed: ${error ?? 'no reason'}`
  return { kind: 'failure', error: failure('RUN_FAILED', message, state === 'failed') }
}

function answered({ approved, onRefuse, ...answer }: ApprovalAnswer): Outcome {
  if (approved) return { kind: 'success', result: JSON.stringify({ approved, ...answer }) }
  const reason = `refused by ${answer.by}${answer.note === null ? '' : `: ${answer.note}`}`
  if (onRefuse === 'skip') return { kind: 'skipped', reason }
  return { kind: 'failure', error: failure('APPROVAL_REFUSED', reason, false) }
}

function failure(code: AttemptError['code'], message: string, retryable: boolean): AttemptError {
  return { code, message, retryable }
}
