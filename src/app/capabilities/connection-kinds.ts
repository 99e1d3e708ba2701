/** The kinds of connection: what opens one, by its settings, and what an author's function is given of it. */
import { fetchSettings, type HostState, openFetch } from '../../connectors/fetch/fetch.ts'
import { openPostgres } from '../../connectors/postgres/postgres.ts'
import { postgresSettings } from '../../connectors/postgres/settings.ts'
import { faultsOf } from '../../core/input-faults.ts'
import { inOneLine, SluiceError } from '../../errors.ts'
import type { ConnectionClient, ConnectionKind, FetchClient } from '../../sdk/connection.ts'
import type { z } from '../../sdk/schema.ts'
import { systemClock } from '../../time.ts'
import { version } from '../version.ts'

/** A connection that is open in this process. */
export interface OpenConnection<Kind extends ConnectionKind> {
  /** What is asked for through it is given up when the signal aborts. */
  client(signal: AbortSignal): ConnectionClient<Kind>
  /** The hosts that it asks, or has asked of late. */
  hosts(): readonly HostState[]
  close(): Promise<void>
}

interface Opener<Kind extends ConnectionKind> {
  /** @throws SluiceError CONFIGURATION */
  open(name: string, settings: unknown): OpenConnection<Kind>
  /** A client that opens the connection when it is first asked for something. */
  later(opening: () => Promise<OpenConnection<Kind>>, signal: AbortSignal): ConnectionClient<Kind>
}

export const connectionKinds: { readonly [Kind in ConnectionKind]: Opener<Kind> } = {
  fetch: {
    open(name, settings) {
      const parts = { clock: systemClock, random: Math.random, product: `sluice/${version}` }
      const fetch = openFetch(parsed(name, fetchSettings, settings), parts)
      const client = (signal: AbortSignal): FetchClient => {
        const until = (own?: AbortSignal) => ({ signal: own ? AbortSignal.any([signal, own]) : signal })
        return {
          get: (url, options) => fetch.get(url, { ...options, ...until(options?.signal) }),
          check: (url, options) => fetch.check(url, { ...options, ...until(options?.signal) }),
        }
      }
      return { client, hosts: () => fetch.hosts(), close: () => fetch.close() }
    },
    later: (opening, signal) => ({
      get: async (url, options) => (await opening()).client(signal).get(url, options),
      check: async (url, options) => (await opening()).client(signal).check(url, options),
    }),
  },
  postgres: {
    open(name, settings) {
      const postgres = openPostgres(name, parsed(name, postgresSettings, settings))
      return { client: (signal) => postgres.client(signal), hosts: () => [], close: () => postgres.close() }
    },
    later: (opening, signal) => ({
      query: async (sql, values) => (await opening()).client(signal).query(sql, values),
      transaction: async (work, options) => (await opening()).client(signal).transaction(work, options),
    }),
  },
}

function parsed<Settings extends z.ZodType>(name: string, schema: Settings, settings: unknown): z.infer<Settings> {
  const judged = schema.safeParse(settings)
  if (judged.success) return judged.data
  const faults = faultsOf(judged.error, '')
  throw new SluiceError('CONFIGURATION', `connection ${name}: ${inOneLine(faults)}`, { faults })
}
