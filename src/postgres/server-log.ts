import { copyFile, stat, truncate } from 'node:fs/promises'

/** The server's log and one former piece of it are kept: at most twice this, and what comes within a minute. */
const longestLogBytes = 8 * 1024 * 1024

/** Moves a long log to `<file>.1`. The server writes by appending, so emptying the file under it is safe. */
export async function rotateLog(file: string, longest = longestLogBytes): Promise<void> {
  const present = await stat(file).catch(() => undefined)
  if (present === undefined || present.size <= longest) return
  await copyFile(file, `${file}.1`)
  await truncate(file)
}
