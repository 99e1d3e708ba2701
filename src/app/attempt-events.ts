/** What becomes of what runners tell: logs are kept, calls answered, and no secret passes in lines and errors. */
import { taskIdOf } from '../core/ids.ts'
import type { Outcome } from '../core/run-progress.ts'
import type { LocalEvents } from '../executors/local.ts'
import type { LogWriter } from '../observe/log-writer.ts'
import { attemptCalls, type DirectParts, directCalls } from './capabilities/direct-calls.ts'
import { answerCall } from './capabilities/remote-calls.ts'
import type { ProgressWriter } from './progress-writer.ts'

export interface AttemptEventsParts {
  readonly direct: DirectParts
  readonly logs: LogWriter
  readonly progress: ProgressWriter
  readonly redact: (text: string) => string
  readonly note: (line: string) => void
}

export function attemptEvents(
  { direct, logs, progress, redact, note }: AttemptEventsParts,
  { ended, batchEnded }: Pick<LocalEvents, 'ended' | 'batchEnded'>,
): LocalEvents {
  const calls = directCalls(direct)
  return {
    ended: (attempt, outcome) => ended(attempt, withoutSecrets(outcome, redact)),
    batchEnded,
    logs: (chunks) => {
      for (const { attempt, seq, lines } of chunks) {
        const source = taskIdOf(attempt.runId, attempt.node, attempt.mapIndex)
        logs.add({ source, attempt: attempt.attempt, seq, lines })
      }
    },
    progress: (attempt, told) => progress.add(attempt, told),
    call: (attempt, name, args) => answerCall(attemptCalls(direct, calls, attempt), name, args),
    note: (line) => note(redact(line)),
  }
}

/** What an author's function throws may quote what it was given. */
function withoutSecrets(outcome: Outcome, redact: (text: string) => string): Outcome {
  if (outcome.kind !== 'failure') return outcome
  return { ...outcome, error: { ...outcome.error, message: redact(outcome.error.message) } }
}
