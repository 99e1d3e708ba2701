import { setTimeout as delay } from 'node:timers/promises'
import { type ErrorCode, SluiceError } from '../../errors.ts'

/** What says nothing of the attempt that met with it: the platform could not do its part. */
const outages: ReadonlySet<ErrorCode> = new Set([
  'DATABASE_UNREACHABLE',
  'DATABASE_READ_ONLY',
  'STORAGE_FULL',
  'STORAGE_FAILED',
])

export const isOutage = (code: ErrorCode): boolean => outages.has(code)

const firstWaitMs = 50
const longestWaitMs = 2_000
/** Then the attempt ends as lost, and another waits for its turn. */
const patienceMs = 60_000

/**
 * Does `work` again while the database is away, has no room, or rolled it back for the sake of others (SQLSTATE class
 * 40), for a minute at most: a restart of the database is no failure of the attempt that asked. Only for what may be
 * done twice, since an answer that was lost does not say whether it was done.
 */
export async function outlast<T>(work: () => Promise<T>): Promise<T> {
  const patientUntil = performance.now() + patienceMs
  for (let waitMs = firstWaitMs; ; waitMs = Math.min(longestWaitMs, waitMs * 2)) {
    try {
      return await work()
    } catch (thrown) {
      if (!mayPass(thrown) || performance.now() + waitMs > patientUntil) throw thrown
      await delay(waitMs)
    }
  }
}

function mayPass(thrown: unknown): boolean {
  if (thrown instanceof SluiceError) return isOutage(thrown.code)
  return thrown instanceof Error && 'code' in thrown && /^40...$/.test(String(thrown.code))
}
