/**
 * Decides which URLs and which network addresses a fetch may reach, so that a URL from outside can never be used to
 * read what only this machine or its network can see.
 *
 * 1. Only http and https; never credentials in the URL.
 * 2. Only globally routable unicast addresses, whatever name led to them; everything special is refused.
 * 3. A numeric host is taken only as a plain dotted quad: `2130706433`, `0x7f.1` and `0177.0.0.1` are refused even
 *    when they mean a public address, since nobody writes one in good faith.
 * 4. Only ports that no other well-known protocol owns.
 * 5. What the deployment admits is named exactly: `host:port`, or a CIDR block.
 */
import { isIPv4, isIPv6 } from 'node:net'
import ipaddr from 'ipaddr.js'
import { SluiceError } from '../../errors.ts'

type Block = [ipaddr.IPv4 | ipaddr.IPv6, number]

/** What the deployment admits beyond public addresses. */
export interface AddressPolicy {
  /** `host:port` as `hostPort` writes it; each admits every address that the host resolves to, at that port. */
  readonly hosts: ReadonlySet<string>
  /** Address blocks admitted at every port. */
  readonly blocks: readonly Block[]
}

/**
 * Reads the `allow` list: `host:port` (`files.internal:8080`, `10.1.2.3:80`, `[::1]:4010`) or a CIDR block (`10.0.0.0/8`).
 * @throws SluiceError CONFIGURATION naming the entry.
 */
export function parseAllow(allow: readonly string[]): AddressPolicy {
  const hosts = new Set<string>()
  const blocks: Block[] = []
  allow.forEach((entry, index) => {
    const url = /^[^/?#@\\]+:\d+$/.test(entry) ? URL.parse(`http://${entry}`) : null
    if (url) hosts.add(hostPort(url))
    else if (ipaddr.isValidCIDR(entry)) blocks.push(ipaddr.parseCIDR(entry))
    else {
      const allowed = 'a host with its port (files.internal:8080, [::1]:80) or a CIDR block (10.0.0.0/8)'
      throw new SluiceError('CONFIGURATION', `allow[${index}]: "${entry}" is not ${allowed}`)
    }
  })
  return { hosts, blocks }
}

/** The host and the effective port of a URL, `example.com:443`. */
export function hostPort(url: URL): string {
  return `${url.hostname}:${url.port || (url.protocol === 'https:' ? 443 : 80)}`
}

/**
 * Parses a URL that somebody gave, or the target of a redirect relative to `base`. The fragment is dropped.
 * @throws SluiceError INVALID_INPUT (not a URL, credentials), ADDRESS_BLOCKED (scheme, disguised numeric host).
 */
export function parseTarget(text: string, base?: URL): URL {
  const url = URL.parse(text, base?.href)
  if (!url) throw new SluiceError('INVALID_INPUT', `"${text.slice(0, 200)}" is not a URL`)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new SluiceError('ADDRESS_BLOCKED', `the scheme "${url.protocol}" is not allowed, only http: and https:`)
  }
  if (url.username !== '' || url.password !== '') {
    throw new SluiceError('INVALID_INPUT', `a URL must not carry credentials (host ${url.hostname})`)
  }
  if (isIPv4(url.hostname) && writtenHost(text, base) !== url.hostname) {
    throw new SluiceError('ADDRESS_BLOCKED', `the host is a disguised form of ${url.hostname}; write it plainly`)
  }
  url.hash = ''
  // the same host, and the same certificate, limits and entry of the allow list
  if (url.hostname.endsWith('.')) url.hostname = url.hostname.slice(0, -1)
  return url
}

/**
 * Ports of other protocols (mail, news, directories, ...), which a request must not speak to: the "bad ports" of the Fetch
 * standard, https://fetch.spec.whatwg.org/#port-blocking.
 */
const badPorts: ReadonlySet<string> = new Set(
  (
    '0 1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115 117 119 123 135 ' +
    '137 139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 989 990 993 995 1719 ' +
    '1720 1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080'
  ).split(' '),
)

/** @throws SluiceError ADDRESS_BLOCKED when the port belongs to another protocol. */
export function admitPort(url: URL): void {
  if (!badPorts.has(url.port)) return
  throw new SluiceError('ADDRESS_BLOCKED', `port ${url.port} of ${url.hostname} belongs to another protocol`)
}

/** The host as it stands in the text, or that of the base when the text is relative. */
function writtenHost(text: string, base: URL | undefined): string | undefined {
  const authority = /^(?:[a-z][a-z0-9+.-]*:[/\\]*|[/\\]{2,})([^/\\?#]*)/i.exec(text.trim())?.[1]
  return authority === undefined ? base?.hostname : authority.replace(/:\d*$/, '')
}

/** Why an address (no brackets, no zone) may not be connected to, or `undefined` when it may. */
export function addressRefusal(address: string, policy: AddressPolicy): string | undefined {
  if (!isIPv4(address) && !isIPv6(address)) return 'not an address'
  if (address.includes('%')) return 'zoned'
  const parsed = ipaddr.parse(address)
  if (policy.blocks.some(([block, bits]) => block.kind() === parsed.kind() && parsed.match(block, bits)))
    return undefined
  const range = parsed.range()
  if (range !== 'unicast') return range
  // global unicast is 2000::/3 and nothing else; the old IPv4-compatible form (::7f00:1) lies outside
  const outside = parsed instanceof ipaddr.IPv6 && ((parsed.parts[0] ?? 0) & 0xe000) !== 0x2000
  return outside ? 'not global' : undefined
}

/**
 * All of the addresses when every one may be connected to: one bad address among good ones refuses the host, since the
 * same name would reach it next time.
 * @throws SluiceError ADDRESS_BLOCKED naming host, address and range.
 */
export function admitAddresses(host: string, addresses: readonly string[], policy: AddressPolicy): readonly string[] {
  for (const address of addresses) {
    const reason = addressRefusal(address, policy)
    if (reason !== undefined) {
      const named = host === address ? address : `${host} is ${address}, which`
      throw new SluiceError('ADDRESS_BLOCKED', `${named} may not be reached: ${reason}`)
    }
  }
  return addresses
}
