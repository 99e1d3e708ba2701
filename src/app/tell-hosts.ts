/** Carries what a process knows of the hosts that it asks to where the API finds it. */
import type { HostState } from '../connectors/fetch/fetch.ts'
import type { Session } from '../ports/database.ts'
import { type FetchHost, tellHosts } from '../store/fetch-hosts.ts'

export interface AskedHost extends HostState {
  /** Name of the connection. */
  readonly connection: string
}

/** Hosts of one process that are told at most. */
const mostHosts = 200
/** Of a last error; it may quote the other side. */
const longestError = 300

const inTrouble = (host: HostState): boolean =>
  host.circuit !== 'closed' || host.retryAt !== null || host.lastError !== null
const busy = (host: HostState): number => host.inFlight + host.queued

/** Those that are not at rest: first those in trouble, then the busiest. */
export const notable = (hosts: readonly AskedHost[]): AskedHost[] =>
  hosts
    .filter((host) => inTrouble(host) || busy(host) > 0)
    .sort((a, b) => Number(inTrouble(b)) - Number(inTrouble(a)) || busy(b) - busy(a))
    .slice(0, mostHosts)

/** Tells them every `everyMs`, as long as there is something to tell or to take back. Gives what ends it. */
export function keepTelling(parts: {
  readonly db: Session
  readonly node: string
  readonly hosts: () => readonly AskedHost[]
  readonly redact: (text: string) => string
  readonly everyMs: number
}): () => void {
  const { db, node, hosts, redact, everyMs } = parts
  let [told, telling] = [0, false]
  const tell = async () => {
    const now = notable(hosts())
    if (telling || (now.length === 0 && told === 0)) return
    telling = true
    try {
      await tellHosts(
        db,
        node,
        now.map((host) => rowOf(host, redact)),
      )
      told = now.length
    } catch {
      // The database is away; what is told next is whole again.
    } finally {
      telling = false
    }
  }
  const timer = setInterval(() => void tell(), everyMs)
  return () => clearInterval(timer)
}

function rowOf(host: AskedHost, redact: (text: string) => string): FetchHost {
  const { lastError, retryAt } = host
  return {
    ...host,
    lastError: lastError === null ? null : redact(lastError).replaceAll('\0', '\uFFFD').slice(0, longestError),
    retryAt: retryAt === null ? null : new Date(retryAt),
  }
}
