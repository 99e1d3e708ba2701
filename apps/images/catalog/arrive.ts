import { type BigIntStats, constants } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { SluiceError, type StoredObject } from 'sluice'

/** A file at rest for this long has no half-written last line. */
export const restMs = 2_000

/**
 * Keeps a file of the watched folder as an object. A file that changed less than `restMs` ago is given the time to rest.
 * If it changes meanwhile it is taken as it is, its last line without LF does not count, and the run that the further
 * change starts sees to the rest. If it vanishes meanwhile nothing more can come: what was kept is all of it.
 * @param path absolute. @throws SluiceError NOT_FOUND when it is not there, or may not be read; INVALID_INPUT when it is
 * no file: a folder, a pipe, a socket, a device.
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
  const after = await stat(path, { bigint: true }).catch(() => before)
  const rested = after.ino === before.ino && after.ctimeNs === before.ctimeNs && after.size === before.size
  return { ...kept, rested }
}

async function look(path: string): Promise<BigIntStats> {
  const found = await stat(path, { bigint: true }).catch((thrown: unknown) => unreadable(path, thrown))
  if (!found.isFile()) throw new SluiceError('INVALID_INPUT', `${path} is no file`)
  // What has become a pipe since then is not waited for.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((thrown: unknown) =>
    unreadable(path, thrown),
  )
  await handle.close()
  return found
}

function unreadable(path: string, cause: unknown): never {
  const { code = 'unknown' } = cause as NodeJS.ErrnoException
  throw new SluiceError('NOT_FOUND', `${path} cannot be read (${code})`, { cause })
}
