import type { BigIntStats } from 'node:fs'
import { stat } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { SluiceError, type StoredObject } from 'sluice'

/** A file at rest for this long has no half-written last line. */
export const restMs = 2_000

/**
 * Keeps a file of the watched folder as an object. A file that changed less than `restMs` ago is given the time to rest.
 * If it changes meanwhile it is taken as it is, its last line without LF does not count, and the run that the further
 * change starts sees to the rest.
 * @param path absolute. @throws SluiceError NOT_FOUND
 */
export async function keepRested(
  path: string,
  keep: () => Promise<StoredObject>,
  signal: AbortSignal,
): Promise<StoredObject & { readonly rested: boolean }> {
  const before = await look(path)
  const wait = Number(before.mtimeMs) + restMs - Date.now()
  if (wait > 0) await delay(Math.min(wait, restMs), undefined, { signal })
  const kept = await keep()
  const after = await look(path)
  return { ...kept, rested: after.mtimeNs === before.mtimeNs && after.size === before.size }
}

async function look(path: string): Promise<BigIntStats> {
  return stat(path, { bigint: true }).catch((cause: unknown) => {
    throw new SluiceError('NOT_FOUND', `${path} cannot be read`, { cause })
  })
}
