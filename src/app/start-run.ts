/** Starts runs on behalf of people, endpoints and commands: acknowledged once the run is committed. */
import { createHash } from 'node:crypto'
import { newRunId } from '../core/ids.ts'
import { SluiceError } from '../errors.ts'
import type { Session } from '../ports/database.ts'
import { findRunByKey, insertNewRuns } from '../store/runs.ts'

export interface StartRunParts {
  readonly db: Session
  readonly random: () => number
  readonly now: () => number
}

export interface StartedWorkflow {
  readonly name: string
  readonly version: string
  /** Of its runs; default 0. */
  readonly priority?: number | undefined
}

/** @throws SluiceError IDEMPOTENCY_KEY_REUSED when the key was used for another workflow or other parameters. */
export async function startRun(
  parts: StartRunParts,
  { name, version, priority = 0 }: StartedWorkflow,
  params: unknown,
  idempotencyKey: string | undefined,
): Promise<{ runId: string; created: boolean }> {
  const text = JSON.stringify(params ?? {})
  const requestHash = createHash('sha256').update(`${name}\n${text}`).digest('hex')
  const id = newRunId(parts.now(), parts.random)
  const key = idempotencyKey ?? null
  const run = {
    id,
    workflow: name,
    version,
    priority,
    plan: 'manual',
    logicalTime: null,
    params: text,
    idempotencyKey: key,
    requestHash,
  }
  const inserted = await insertNewRuns(parts.db, [run])
  if (inserted.has(id)) return { runId: id, created: true }
  const earlier = key === null ? undefined : await findRunByKey(parts.db, key)
  if (!earlier) throw new SluiceError('CONFLICT', 'the run could not be inserted; ask again')
  if (earlier.requestHash !== requestHash) {
    throw new SluiceError(
      'IDEMPOTENCY_KEY_REUSED',
      'this idempotency key belongs to a run of another workflow or with other parameters',
    )
  }
  return { runId: earlier.id, created: false }
}
