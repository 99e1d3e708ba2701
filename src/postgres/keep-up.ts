/**
 * Has a server started again whose main process has died, for as long as somebody needs it. A connection that does nothing
 * tells of its end: it ends with the server. That it ended alone, or that the server restarts its sessions by itself, is
 * seen by whoever is asked to start it.
 */
import { setTimeout as delay } from 'node:timers/promises'
import pg, { type ClientConfig } from 'pg'
import { messageOf } from '../errors.ts'

export interface KeepUpParts {
  readonly config: ClientConfig
  /** Starts the server unless it runs. */
  readonly start: () => Promise<void>
  readonly log: (line: string) => void
}

const firstPauseMs = 20
const longestPauseMs = 2_000

/** Gives what ends the watch; a start under way is not waited for. */
export function keepUp({ config, start, log }: KeepUpParts): () => Promise<void> {
  const ending = new AbortController()
  const { signal } = ending
  let told = ''
  const watch = async () => {
    for (let pauseMs = firstPauseMs; !signal.aborted; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
      try {
        await connectedUntilEnd(config, signal)
        pauseMs = firstPauseMs
        told = ''
      } catch {
        // It does not take connections: it restarts its sessions, or it is gone.
      }
      if (signal.aborted) return
      await start().catch((thrown: unknown) => {
        // A disk that stays full for hours is told once.
        const failure = messageOf(thrown)
        if (failure !== told) log(`PostgreSQL cannot be started again: ${failure}`)
        told = failure
      })
      await delay(pauseMs, undefined, { signal }).catch(() => {})
    }
  }
  const watching = watch()
  return async () => {
    ending.abort()
    await watching
  }
}

async function connectedUntilEnd(config: ClientConfig, signal: AbortSignal): Promise<void> {
  const client = new pg.Client(config)
  client.on('error', () => {})
  const ended = new Promise<void>((resolve) => client.once('end', () => resolve()))
  const stop = () => void client.end().catch(() => {})
  signal.addEventListener('abort', stop, { once: true })
  try {
    await client.connect()
    if (signal.aborted) stop()
    await ended
  } finally {
    signal.removeEventListener('abort', stop)
    stop()
  }
}
