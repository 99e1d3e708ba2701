/** What becomes of what runners tell: logs are kept, calls answered, and no secret passes in lines and errors. */
import { taskIdOf } from '../core/ids.ts'
import type { Outcome } from '../core/run-progress.ts'
import type { LocalEvents } from '../executors/local.ts'
import type { LineageWriter } from '../observe/lineage.ts'
import type { LogWriter } from '../observe/log-writer.ts'
import { attemptCalls, type DirectParts, directCalls } from './capabilities/direct-calls.ts'
import { isOutage, outlast } from './capabilities/outlast.ts'
import { answerCall } from './capabilities/remote-calls.ts'
import type { ProgressWriter } from './progress-writer.ts'

export interface AttemptEventsParts {
  readonly direct: DirectParts
  readonly logs: LogWriter
  readonly progress: ProgressWriter
  readonly lineage: LineageWriter
  readonly redact: (text: string) => string
  readonly note: (line: string) => void
}

export function attemptEvents(
  { direct, logs, progress, lineage, redact, note }: AttemptEventsParts,
  { ended, batchEnded }: Pick<LocalEvents, 'ended' | 'batchEnded'>,
): LocalEvents {
  const calls = directCalls(direct)
  return {
    ended(attempt, outcome) {
      ended(attempt, withoutSecrets(withoutBlame(outcome), redact))
      lineage.attemptEnded(attempt)
    },
    batchEnded,
    logs: (chunks) => {
      for (const { attempt, seq, lines } of chunks) {
        const source = taskIdOf(attempt.runId, attempt.node, attempt.mapIndex)
        logs.add({ source, attempt: attempt.attempt, seq, lines })
      }
    },
    progress: (attempt, told) => progress.add(attempt, told),
    // Each call may be made twice: what it writes is keyed by the attempt, by ids, or by hashes, or it knows its own write.
    call(attempt, name, args) {
      const own = attemptCalls(direct, calls, lineage, attempt)
      return outlast(() => answerCall(own, name, args))
    },
    note: (line) => note(redact(line)),
  }
}

/** An attempt that failed since the platform could not do its part is lost: the author's retry policy is not for that. */
function withoutBlame(outcome: Outcome): Outcome {
  if (outcome.kind !== 'failure' || !isOutage(outcome.error.code)) return outcome
  return { kind: 'lost', reason: `${outcome.error.code}: ${outcome.error.message}` }
}

/** What an author's function throws may quote what it was given. */
function withoutSecrets(outcome: Outcome, redact: (text: string) => string): Outcome {
  if (outcome.kind === 'lost') return { ...outcome, reason: redact(outcome.reason) }
  if (outcome.kind !== 'failure') return outcome
  return { ...outcome, error: { ...outcome.error, message: redact(outcome.error.message) } }
}
