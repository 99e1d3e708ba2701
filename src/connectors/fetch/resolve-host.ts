import { Resolver, lookup as systemLookup } from 'node:dns/promises'
import { messageOf } from '../../errors.ts'

/** Every address of a host name, IPv4 first; fails when there is none. */
export type HostLookup = (hostname: string) => Promise<readonly string[]>

export interface DnsOptions {
  /** `address` or `address:port`; those of the machine by default. */
  readonly servers?: readonly string[]
  /** How long one server is waited for, in milliseconds, and how often it is asked. */
  readonly timeoutMs?: number
  readonly tries?: number
  /** For names that DNS does not know; that of the machine by default. */
  readonly system?: HostLookup
}

const ofMachine: HostLookup = async (hostname) =>
  (await systemLookup(hostname, { all: true })).map((entry) => entry.address)

/**
 * Asks the DNS servers directly, which never takes a thread: the system's `getaddrinfo` runs on the few threads that
 * image work shares, and two names whose servers are silent would stop every other look-up. Only a name that DNS does
 * not know at all is asked of the system, for the sake of its hosts file. `localhost` is loopback (RFC 6761).
 */
export function dnsLookup(options: DnsOptions = {}): HostLookup {
  const { servers, timeoutMs = 3_000, tries = 2, system = ofMachine } = options
  const resolver = new Resolver({ timeout: timeoutMs, tries })
  if (servers) resolver.setServers(servers)
  return async (hostname) => {
    const name = hostname.replace(/\.$/, '')
    if (name === 'localhost' || name.endsWith('.localhost')) return ['127.0.0.1', '::1']
    const [four, six] = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)])
    const found = [four, six].flatMap((family) => (family.status === 'fulfilled' ? family.value : []))
    if (found.length > 0) return found
    const reasons = [four, six].flatMap((family) => (family.status === 'rejected' ? [family.reason] : []))
    const silent = reasons.find((reason) => reason.code === 'ETIMEOUT')
    if (silent) throw silent
    // the system knows less of why than the server said
    return system(hostname).catch((thrown: unknown) => {
      throw reasons[0] ?? thrown
    })
  }
}

const faults: Readonly<Record<string, string>> = {
  ENOTFOUND: 'there is no such name',
  ENODATA: 'there is no such name',
  ESERVFAIL: 'the name server failed',
  EREFUSED: 'the name server refuses to answer',
  ETIMEOUT: 'no name server answered in time',
  EBADNAME: 'it cannot be a name',
}

/** What a failed look-up means. */
export function lookupFault(thrown: unknown): string {
  const code = String((thrown as NodeJS.ErrnoException | undefined)?.code ?? '')
  return faults[code] ?? messageOf(thrown)
}
