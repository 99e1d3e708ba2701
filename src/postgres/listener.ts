/**
 * LISTEN on one connection of its own, which comes back by itself.
 *
 * 1. The connection is opened by the first `listen` and carries every channel.
 * 2. When it is lost it is opened again, after 50 ms at first and up to 5 s; every channel is listened to again, and only
 *    then is each `onReconnect` called, so a reader that then reads misses nothing.
 * 3. Commands to the connection go one after another.
 * 4. A connection that only seems open would be silent for ever, as one is on which nothing happens: it is asked every
 *    `checkMs` and destroyed when no answer comes within `answerMs`. So a lost one is noticed within the sum, 15 s.
 */
import { setTimeout as delay } from 'node:timers/promises'
import pg, { type Client } from 'pg'
import { type ConnectionOptions, clientConfig } from './connection-options.ts'
import { answered, destroyConnection } from './conversation.ts'

interface Subscriber {
  readonly onNotify: (payload: string) => void
  readonly onReconnect: (() => void) | undefined
}

export interface Listener {
  listen(channel: string, onNotify: (payload: string) => void, onReconnect?: () => void): Promise<() => Promise<void>>
  /** Destroys the connection; it comes back like one that was lost. */
  abandon(): void
  close(): Promise<void>
}

export interface ListenerTimes {
  readonly checkMs: number
  readonly answerMs: number
}

const firstPauseMs = 50
const longestPauseMs = 5_000
const defaultTimes: ListenerTimes = { checkMs: 10_000, answerMs: 5_000 }

export function openListener(options: ConnectionOptions, times: ListenerTimes = defaultTimes): Listener {
  const config = clientConfig({ ...options, applicationName: `${options.applicationName} listen` })
  const channels = new Map<string, Set<Subscriber>>()
  const stop = new AbortController()
  let client: Client | undefined
  let checking: NodeJS.Timeout | undefined
  let queue: Promise<unknown> = Promise.resolve()

  const inOrder = <T>(work: () => Promise<T>): Promise<T> => {
    const result = queue.then(work)
    queue = result.catch(() => {})
    return result
  }
  const ask = (of: Client, sql: string) => answered(of, times.answerMs, of.query(sql))
  const check = () => void inOrder(async () => client && ask(client, 'SELECT')).catch(() => {})

  const connect = async (): Promise<Client> => {
    const fresh = new pg.Client(config)
    fresh.on('error', () => {})
    fresh.on('notification', ({ channel, payload }) => {
      for (const subscriber of channels.get(channel) ?? []) subscriber.onNotify(payload ?? '')
    })
    try {
      await fresh.connect()
      for (const channel of channels.keys()) await ask(fresh, `LISTEN ${pg.escapeIdentifier(channel)}`)
    } catch (thrown) {
      destroyConnection(fresh, 'it could not listen')
      throw thrown
    }
    fresh.on('end', () => {
      if (client !== fresh) return
      client = undefined
      void reconnect()
    })
    client = fresh
    checking ??= setInterval(check, times.checkMs)
    return fresh
  }

  const reconnect = async (): Promise<void> => {
    for (let pauseMs = firstPauseMs; !stop.signal.aborted; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
      const stopped = await delay(pauseMs, false, { signal: stop.signal }).catch(() => true)
      if (stopped || channels.size === 0) return
      const back = await inOrder(async () => {
        if (!stop.signal.aborted && client === undefined) await connect()
      }).then(
        () => true,
        () => false,
      )
      if (back) break
    }
    if (stop.signal.aborted) return
    for (const subscribers of channels.values()) for (const { onReconnect } of subscribers) onReconnect?.()
  }

  const subscribe = async (channel: string, subscriber: Subscriber): Promise<void> => {
    const present = channels.get(channel)
    if (present !== undefined) {
      present.add(subscriber)
      return
    }
    channels.set(channel, new Set([subscriber]))
    try {
      if (client === undefined) await connect()
      else await ask(client, `LISTEN ${pg.escapeIdentifier(channel)}`)
    } catch (thrown) {
      channels.delete(channel)
      throw thrown
    }
  }

  const unsubscribe = async (channel: string, subscriber: Subscriber): Promise<void> => {
    const present = channels.get(channel)
    if (!present?.delete(subscriber) || present.size > 0) return
    channels.delete(channel)
    // A connection that is lost at this moment listens to nothing any more, which is what was asked for.
    if (client !== undefined) await ask(client, `UNLISTEN ${pg.escapeIdentifier(channel)}`).catch(() => {})
  }

  return {
    listen: async (channel, onNotify, onReconnect) => {
      const subscriber: Subscriber = { onNotify, onReconnect }
      await inOrder(() => subscribe(channel, subscriber))
      return () => inOrder(() => unsubscribe(channel, subscriber))
    },
    abandon: () => {
      if (client !== undefined) destroyConnection(client, 'it was given up')
    },
    close: async () => {
      stop.abort()
      clearInterval(checking)
      await inOrder(async () => {
        const last = client
        client = undefined
        channels.clear()
        if (last !== undefined) await answered(last, times.answerMs, last.end()).catch(() => {})
      })
    },
  }
}
