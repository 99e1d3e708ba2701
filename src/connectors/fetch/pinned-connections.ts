/**
 * Keep-alive connections whose address was checked before they were opened.
 *
 * 1. A connection is made only to an address that came out of the check, in the same step: a name that answers
 *    differently the next moment (DNS rebinding) gains nothing.
 * 2. A connection opened under an admission is only reused under the same admission.
 * 3. One request at a time per connection; at most `maxIdle` are kept idle over all hosts, the longest idle goes first.
 */
import { isIP, type Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { TLSSocket } from 'node:tls'
import { buildConnector, Client } from 'undici'
import { type AddressPolicy, admitAddresses, admitPort, hostPort } from './address-guard.ts'
import { certificateEnd } from './certificate-end.ts'
import { FetchFailure } from './fetch-failure.ts'
import { type HostLookup, lookupFault } from './resolve-host.ts'

const maxIdle = 256
/** An idle connection is closed by us after this long (or earlier when the server says so). */
const keepAliveMs = 4_000
const connectTimeoutMs = 10_000
/** Larger heads are refused. */
const maxHeaderBytes = 32 * 1024
/** The key of connections that nobody takes again. */
const fresh = 'fresh'
/** Addresses of one host that are tried. */
const maxTried = 8

/** Milliseconds that opening took; all 0 for a connection that was open already. */
export interface Opening {
  dnsMs: number
  connectMs: number
  tlsMs: number
}

export interface Connection {
  readonly client: Client
  readonly key: string
  /** Of the latest opening; whoever uses the connection sets it back to `alreadyOpen`. */
  opening: Opening
  /** Of an opening that failed too: the phases that it came through. */
  phases: Partial<Opening>
  /** When the certificate that was shown ends, also of one that was refused: milliseconds since the epoch. */
  certificateEndsAt: number | undefined
  /** The latest; it may not be open yet. */
  socket: Socket | undefined
}

export const alreadyOpen: Opening = { dnsMs: 0, connectMs: 0, tlsMs: 0 }

export class PinnedConnections {
  readonly #policy: AddressPolicy
  readonly #lookup: HostLookup
  /** Oldest first. */
  readonly #idle = new Set<Connection>()
  readonly #idleByKey = new Map<string, Connection[]>()
  readonly #open = new Set<Connection>()

  constructor(policy: AddressPolicy, lookup: HostLookup) {
    this.#policy = policy
    this.#lookup = lookup
  }

  /** A connection to the origin of `url`. `admitted`: the deployment named this target, its address is not judged. */
  take(url: URL, admitted: boolean): Connection {
    const key = `${admitted ? 'admitted' : 'checked'} ${url.origin}`
    const idle = this.#idleByKey.get(key)?.at(-1)
    if (idle) {
      this.#unrest(idle)
      return idle
    }
    return this.#create(url, admitted, key)
  }

  /** One that was never used, to be dropped after its exchange. */
  fresh(url: URL, admitted: boolean): Connection {
    return this.#create(url, admitted, fresh)
  }

  /** For one whose exchange ended well. */
  give(connection: Connection): void {
    if (connection.client.destroyed || connection.client.closed) {
      this.#open.delete(connection)
      return
    }
    this.#idle.add(connection)
    const peers = this.#idleByKey.get(connection.key)
    if (peers) peers.push(connection)
    else this.#idleByKey.set(connection.key, [connection])
    const [oldest] = this.#idle
    if (oldest && this.#idle.size > maxIdle) this.drop(oldest)
  }

  async close(): Promise<void> {
    const clients = [...this.#open].map((connection) => connection.client)
    this.#open.clear()
    this.#idle.clear()
    this.#idleByKey.clear()
    await Promise.all(clients.map((client) => client.destroy()))
  }

  #create(url: URL, admitted: boolean, key: string): Connection {
    const client = new Client(url.origin, {
      connect: (options, callback) => this.#connect(url, admitted, connection, options, callback),
      allowH2: false,
      pipelining: 1,
      keepAliveTimeout: keepAliveMs,
      keepAliveMaxTimeout: keepAliveMs,
      maxHeaderSize: maxHeaderBytes,
      // the deadline of the whole fetch stands above both
      headersTimeout: 0,
      bodyTimeout: 0,
    })
    const connection: Connection = {
      ...{ client, key, opening: alreadyOpen, phases: {} },
      ...{ certificateEndsAt: undefined, socket: undefined },
    }
    client.on('disconnect', () => {
      if (this.#idle.has(connection)) this.drop(connection)
    })
    this.#open.add(connection)
    return connection
  }

  #connect(
    url: URL,
    admitted: boolean,
    connection: Connection,
    options: buildConnector.Options,
    callback: buildConnector.Callback,
  ): void {
    const asked = performance.now()
    this.#addresses(url, admitted).then(
      (addresses) => {
        if (connection.client.destroyed)
          return callback(new Error('the fetch ended while its name was looked up'), null)
        const resolved = performance.now()
        let connected = resolved
        connection.phases = { dnsMs: resolved - asked }
        const connect = buildConnector({
          allowH2: false,
          timeout: connectTimeoutMs,
          autoSelectFamily: true,
          noDelay: true,
          // said here, so that nothing in the environment (NODE_TLS_REJECT_UNAUTHORIZED, --tls-min-v1.0) says otherwise
          rejectUnauthorized: true,
          minVersion: 'TLSv1.2',
          lookup: (_host, _options, found) =>
            found(
              null,
              addresses.slice(0, maxTried).map((address) => ({ address, family: isIP(address) })),
            ),
        })
        const socket = connect(options, (...outcome: Parameters<buildConnector.Callback>) => {
          const { dnsMs, ready } = { dnsMs: resolved - asked, ready: performance.now() }
          connection.opening = { dnsMs, connectMs: connected - resolved, tlsMs: ready - connected }
          if (outcome[1]) connection.phases = connection.opening
          callback(...outcome)
        })
        const opened = socket as unknown as Socket
        connection.socket = opened
        opened.once('connect', () => {
          connected = performance.now()
          connection.phases = { ...connection.phases, connectMs: connected - resolved }
        })
        // before the certificate is judged, which destroys the socket of one that is refused
        if (connection.key === fresh && opened instanceof TLSSocket) {
          opened.prependOnceListener('secure', () => {
            connection.certificateEndsAt = certificateEnd(opened)
          })
        }
      },
      (error: Error) => callback(error, null),
    )
  }

  async #addresses(url: URL, admitted: boolean): Promise<readonly string[]> {
    const host = url.hostname.replace(/^\[|\]$/g, '')
    const free = admitted || this.#policy.hosts.has(hostPort(url))
    if (!free) admitPort(url)
    const addresses = isIP(host) ? [host] : await this.#resolve(host)
    return free ? addresses : admitAddresses(host, addresses, this.#policy)
  }

  async #resolve(host: string): Promise<readonly string[]> {
    const found = await this.#lookup(host).catch((cause: unknown) => {
      throw new FetchFailure('dns', `${host} has no address: ${lookupFault(cause)}`, { cause })
    })
    if (found.length === 0) throw new FetchFailure('dns', `${host} has no address`)
    return found
  }

  #unrest(connection: Connection): void {
    this.#idle.delete(connection)
    const peers = this.#idleByKey.get(connection.key)?.filter((peer) => peer !== connection) ?? []
    if (peers.length === 0) this.#idleByKey.delete(connection.key)
    else this.#idleByKey.set(connection.key, peers)
  }

  /** For one whose exchange failed. */
  drop(connection: Connection): void {
    this.#unrest(connection)
    this.#open.delete(connection)
    connection.client.destroy().catch(() => {})
    // a client has nothing to do with a socket that is not open yet, and would leave it to its time limit
    connection.socket?.destroy()
  }
}
