/**
 * Locks on files that the kernel drops when their holder ends, however it ends.
 *
 * Node has no flock; SQLite, which is part of Node, takes POSIX record locks on its file and knows shared and exclusive
 * ones, also between two holders in one process. The file stays empty. A lock file with a pid in it would need a judgement
 * about re-used pids, and removing a stale one is a race; here there is nothing to judge and nothing to remove.
 */
import { DatabaseSync } from 'node:sqlite'
import { SluiceError } from '../errors.ts'

export type Release = () => void

const sqliteBusy = 5

/** Takes the lock, or gives undefined when others hold it in a way that excludes this. Never waits. */
export function tryLock(file: string, mode: 'shared' | 'exclusive'): Release | undefined {
  let holder: DatabaseSync | undefined
  try {
    holder = new DatabaseSync(file, { timeout: 0 })
    // Nothing is ever written; without this an exclusive holder that is killed leaves an empty journal beside the file.
    holder.exec('PRAGMA journal_mode = MEMORY')
    if (mode === 'exclusive') {
      holder.exec('BEGIN EXCLUSIVE')
    } else {
      // A transaction takes its shared lock with its first read.
      holder.exec('BEGIN')
      holder.prepare('SELECT count(*) FROM sqlite_schema').get()
    }
    const held = holder
    return () => held.close()
  } catch (thrown) {
    holder?.close()
    if (thrown instanceof Error && 'errcode' in thrown && thrown.errcode === sqliteBusy) return undefined
    throw new SluiceError('CONFIGURATION', `The lock file ${file} cannot be used by this user: ${String(thrown)}`, {
      cause: thrown,
    })
  }
}
