import { constants } from 'node:fs'
import { access, statfs } from 'node:fs/promises'
import { messageOf } from '../errors.ts'

/** Below this the store counts as full: a picture and what the database writes of it need some room to be whole. */
const leastBytes = 32 * 1024 ** 2

/** Whether a folder takes writes now: it may be written (a disk turned read-only may not) and has 32 MiB of room. */
export async function roomIn(folder: string): Promise<{ readonly ok: boolean; readonly detail: string }> {
  try {
    await access(folder, constants.W_OK | constants.X_OK)
    const { bavail, bsize } = await statfs(folder)
    const free = `${Math.floor((bavail * bsize) / 1024 ** 2)} MiB free`
    return bavail * bsize < leastBytes ? { ok: false, detail: `STORAGE_FULL: ${free}` } : { ok: true, detail: free }
  } catch (thrown) {
    // The path is for the log; the code says what is wrong.
    const { code } = thrown as NodeJS.ErrnoException
    return { ok: false, detail: `cannot be written: ${code ?? messageOf(thrown)}` }
  }
}
