import { Resolver, lookup as systemLookup } from 'node:dns/promises'

/** Every address of a host name, IPv4 first; fails when there is none. */
export type HostLookup = (hostname: string) => Promise<readonly string[]>

/** How long one DNS server is waited for, in milliseconds, and how often it is asked. */
const dnsTimeoutMs = 3_000
const dnsTries = 2

/**
 * Asks the DNS servers directly, which never takes a thread: the system's `getaddrinfo` runs on the few threads that
 * image work shares, and two names whose servers are silent would stop every other look-up. Only a name that DNS does
 * not know at all is asked of the system, for the sake of its hosts file. `localhost` is loopback (RFC 6761).
 */
export function dnsLookup(): HostLookup {
  const resolver = new Resolver({ timeout: dnsTimeoutMs, tries: dnsTries })
  return async (hostname) => {
    const name = hostname.replace(/\.$/, '')
    if (name === 'localhost' || name.endsWith('.localhost')) return ['127.0.0.1', '::1']
    const [four, six] = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)])
    const found = [four, six].flatMap((family) => (family.status === 'fulfilled' ? family.value : []))
    if (found.length > 0) return found
    const codes = [four, six].map((family) => (family.status === 'rejected' ? family.reason.code : undefined))
    if (codes.includes('ETIMEOUT')) throw (four as PromiseRejectedResult).reason
    return (await systemLookup(hostname, { all: true })).map((entry) => entry.address)
  }
}
