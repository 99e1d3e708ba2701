/**
 * Waiting for news of logs and runs without polling: one LISTEN connection for all who wait.
 *
 * 1. Who waits subscribes first and reads then, so nothing falls between reading and waiting.
 * 2. A notification can be lost with its connection: when that is back, everybody looks again.
 * 3. Only so many may wait at once; a subscription that is closed frees its place.
 */
import { runIdOf } from '../core/ids.ts'
import { SluiceError } from '../errors.ts'
import type { Database } from '../ports/database.ts'

/** Told with the source of new lines: a task's id, or a process's. */
export const logsChannel = 'sluice_logs'
/** Told with the id of a run that has ended. */
export const runEndedChannel = 'sluice_run_ended'

export interface Tail {
  /** Resolves when there is news since the last call, when `ms` have passed, or when `signal` aborts. */
  news(ms: number, signal: AbortSignal): Promise<void>
  close(): void
}

export interface Tails {
  /** News of a task (its id), or of a run and all of its tasks (the run's id). @throws SluiceError UNAVAILABLE when too many wait. */
  follow(id: string): Promise<Tail>
  close(): Promise<void>
}

interface Waiter {
  /** News that nobody has waited for yet. */
  pending: boolean
  wake: (() => void) | undefined
}

export function openTails(db: Database, most: number): Tails {
  const waiters = new Map<string, Set<Waiter>>()
  let count = 0
  let listening: Promise<(() => Promise<void>)[]> | undefined

  const tell = (id: string) => {
    for (const waiter of waiters.get(id) ?? []) {
      waiter.pending = true
      waiter.wake?.()
    }
  }
  const tellAll = () => {
    for (const id of waiters.keys()) tell(id)
  }
  const onLogs = (source: string) => {
    tell(source)
    tell(runIdOf(source))
  }
  const listen = () => {
    listening ??= Promise.all([
      db.listen(logsChannel, onLogs, tellAll),
      db.listen(runEndedChannel, tell, tellAll),
    ]).catch((thrown: unknown) => {
      listening = undefined
      throw thrown
    })
    return listening
  }

  return {
    async follow(id) {
      if (count >= most) {
        throw new SluiceError('UNAVAILABLE', `${most} requests wait for news already`, { retryAfterMs: 5_000 })
      }
      count += 1
      const waiter: Waiter = { pending: false, wake: undefined }
      const group = waiters.get(id) ?? new Set()
      waiters.set(id, group.add(waiter))
      let open = true
      const close = () => {
        if (!open) return
        open = false
        count -= 1
        group.delete(waiter)
        if (group.size === 0 && waiters.get(id) === group) waiters.delete(id)
      }
      try {
        await listen()
      } catch (thrown) {
        close()
        throw thrown
      }
      return { news: (ms, signal) => newsOf(waiter, ms, signal), close }
    },
    async close() {
      const stops = await listening?.catch(() => [])
      for (const stop of stops ?? []) await stop()
    },
  }
}

function newsOf(waiter: Waiter, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      waiter.pending = false
      waiter.wake = undefined
      resolve()
    }
    const timer = setTimeout(done, ms)
    if (waiter.pending || signal.aborted) {
      done()
      return
    }
    waiter.wake = done
    signal.addEventListener('abort', done, { once: true })
  })
}
