/**
 * A TCP proxy on loopback that breaks what passes through it, for tests of what a bad network does to Sluice.
 *
 * It stands between a client and a server behind a TCP port or a Unix socket. What it does to a connection is read at
 * every piece of bytes, so a change holds for connections that are open, too. It knows the frames of PostgreSQL's
 * protocol only as far as the faults need that are placed by message: it counts those of the server and finds COMMIT's answer.
 */
import { once } from 'node:events'
import { type AddressInfo, createConnection, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

export type Fault =
  | { readonly kind: 'pass' }
  /** New connections are refused as by a port on which nobody listens: reset at once. Open ones go on. */
  | { readonly kind: 'refuse' }
  /** New connections are answered as by a PostgreSQL that turns them away, with an SQLSTATE. Open ones go on. */
  | { readonly kind: 'turn away'; readonly sqlstate: string; readonly message: string }
  /** Bytes vanish, in the named direction, while the sockets stay open; an end of the client is not passed on either. */
  | { readonly kind: 'vanish'; readonly of: 'requests' | 'answers' | 'both' }
  /** Bytes of the client are held back, and come through when the fault is over, also those of clients that have gone. */
  | { readonly kind: 'hold' }
  /** Each piece waits; `bytesPerSecond` bounds what passes in a direction. */
  | { readonly kind: 'slow'; readonly latencyMs: number; readonly bytesPerSecond?: number }

/** A fault of one place in what the server says, counted from when it was set, over all connections. It strikes once. */
export type Cut =
  /** Reset instead of, or right after, the n-th message of the server (1 is the first). */
  | { readonly at: 'message'; readonly number: number; readonly side: 'before' | 'after' }
  /** Of the server's bytes so many pass, then nothing more, with the sockets open: a message that is torn. */
  | { readonly at: 'byte'; readonly number: number; readonly end: 'reset' | 'stall' }
  /** Reset in place of the answer to the n-th COMMIT: it is done, and its client never learns so. */
  | { readonly at: 'commit'; readonly number: number }

export interface ProxyTarget {
  readonly host?: string
  readonly port?: number
  /** A Unix socket instead. */
  readonly path?: string
}

interface Link {
  readonly client: Socket
  readonly server: Socket
  readonly frames: Frames
  stalled: boolean
}

export class TcpProxy {
  readonly port: number
  #fault: Fault = { kind: 'pass' }
  #cut: { readonly wish: Cut; seen: number; struck: boolean } | undefined
  readonly #links = new Set<Link>()
  readonly #close: () => Promise<void>
  /** Connections that were ever made. */
  accepted = 0
  /** What the server said in its error messages. */
  readonly errors: string[] = []
  #changed: () => void = () => {}
  #change = new Promise<void>((resolve) => {
    this.#changed = resolve
  })

  static async open(target: ProxyTarget): Promise<TcpProxy> {
    const server = createServer({ allowHalfOpen: true })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const proxy = new TcpProxy((server.address() as AddressInfo).port, async () => {
      server.close()
      proxy.reset()
      await once(server, 'close')
    })
    server.on('connection', (client) => proxy.#accept(client, target))
    return proxy
  }

  private constructor(port: number, close: () => Promise<void>) {
    this.port = port
    this.#close = close
  }

  /** Connections that are open now. */
  get links(): number {
    return this.#links.size
  }

  set(fault: Fault): void {
    this.#fault = fault
    this.#changed()
    this.#change = new Promise((resolve) => {
      this.#changed = resolve
    })
  }

  cut(wish: Cut): void {
    this.#cut = { wish, seen: 0, struck: false }
  }

  /** Whether the cut that was set has struck. */
  get struck(): boolean {
    return this.#cut?.struck ?? false
  }

  /** Resets connections, on both sides: all of them, or the oldest only. */
  reset(which: 'all' | 'one' = 'all'): void {
    for (const link of this.#links) {
      this.#resetLink(link)
      if (which === 'one') return
    }
  }

  close(): Promise<void> {
    return this.#close()
  }

  #accept(client: Socket, target: ProxyTarget): void {
    this.accepted += 1
    client.on('error', () => {})
    if (this.#fault.kind === 'refuse') {
      client.resetAndDestroy()
      return
    }
    if (this.#fault.kind === 'turn away') {
      const refusal = errorResponse(this.#fault)
      client.once('data', () => client.end(refusal))
      return
    }
    const server = createConnection({ ...target, allowHalfOpen: true } as never)
    const link: Link = { client, server, frames: new Frames(), stalled: false }
    this.#links.add(link)
    server.on('error', () => client.resetAndDestroy())
    const over = () => {
      if (client.destroyed && server.destroyed) this.#links.delete(link)
    }
    client.on('close', over)
    server.on('close', over)
    this.#pipe(link, client, server, 'requests')
    this.#pipe(link, server, client, 'answers')
  }

  #pipe(link: Link, from: Socket, to: Socket, direction: 'requests' | 'answers'): void {
    let last: Promise<void> = Promise.resolve()
    const inOrder = (work: () => Promise<void> | void) => {
      last = last.then(work)
    }
    from.on('data', (bytes: Buffer) => {
      from.pause()
      inOrder(async () => {
        await this.#passOn(link, bytes, to, direction)
        from.resume()
      })
    })
    const unlessVanished = (end: () => void) => () =>
      inOrder(() => {
        if (!this.#vanishes(direction, link)) end()
      })
    from.on(
      'end',
      unlessVanished(() => to.end()),
    )
    from.on(
      'close',
      unlessVanished(() => (direction === 'requests' ? to.end() : to.destroy())),
    )
  }

  #vanishes(direction: 'requests' | 'answers', link: Link): boolean {
    const fault = this.#fault
    return link.stalled || (fault.kind === 'vanish' && (fault.of === 'both' || fault.of === direction))
  }

  async #passOn(link: Link, bytes: Buffer, to: Socket, direction: 'requests' | 'answers'): Promise<void> {
    while (this.#fault.kind === 'hold' && direction === 'requests') await this.#change
    if (this.#vanishes(direction, link)) return
    const fault = this.#fault
    if (fault.kind === 'slow') {
      const { latencyMs, bytesPerSecond = Number.POSITIVE_INFINITY } = fault
      await delay(latencyMs + (bytes.length / bytesPerSecond) * 1_000)
    }
    const passing = direction === 'answers' ? this.#cutShort(link, bytes) : bytes
    if (to.destroyed || passing.length === 0) return
    if (!to.write(passing)) await Promise.race([once(to, 'drain'), once(to, 'close')]).catch(() => {})
  }

  /** What of the server's bytes passes. */
  #cutShort(link: Link, bytes: Buffer): Buffer {
    const messages = link.frames.push(bytes)
    for (const { type, text } of messages) if (type === 'E') this.errors.push(text)
    const cut = this.#cut
    if (cut === undefined || cut.struck) return bytes
    const { wish } = cut
    if (wish.at === 'byte') {
      const left = wish.number - cut.seen
      cut.seen += bytes.length
      return left >= bytes.length ? bytes : this.#strike(link, bytes.subarray(0, left), wish.end)
    }
    for (const { type, text, start, end } of messages) {
      if (wish.at === 'commit' && !(type === 'C' && text === 'COMMIT')) continue
      cut.seen += 1
      if (cut.seen < wish.number) continue
      const until = wish.at === 'message' && wish.side === 'after' ? end : start
      return this.#strike(link, bytes.subarray(0, Math.max(0, until)), 'reset')
    }
    return bytes
  }

  #strike(link: Link, passing: Buffer, end: 'reset' | 'stall'): Buffer {
    this.#cut!.struck = true
    if (end === 'stall') {
      link.stalled = true
      return passing
    }
    if (passing.length > 0) link.client.write(passing, () => this.#resetLink(link))
    else this.#resetLink(link)
    return Buffer.alloc(0)
  }

  #resetLink({ client, server }: Link): void {
    client.resetAndDestroy()
    if (server.remotePort === undefined) server.destroy()
    else server.resetAndDestroy()
  }
}

function errorResponse({ sqlstate, message }: { readonly sqlstate: string; readonly message: string }): Buffer {
  const fields = Buffer.from(`SFATAL\0VFATAL\0C${sqlstate}\0M${message}\0\0`)
  const head = Buffer.alloc(5)
  head.write('E')
  head.writeUInt32BE(fields.length + 4, 1)
  return Buffer.concat([head, fields])
}

interface Message {
  readonly type: string
  /** Of a CommandComplete its tag, of an ErrorResponse its fields. */
  readonly text: string
  /** Where it begins and ends in the piece that completed it; the beginning is below 0 when it began in an earlier one. */
  readonly start: number
  readonly end: number
}

/** Finds the server's messages in its bytes: a type, a length that counts itself, a body. */
class Frames {
  #held: Buffer = Buffer.alloc(0)

  push(bytes: Buffer): Message[] {
    const before = this.#held.length
    this.#held = before === 0 ? bytes : Buffer.concat([this.#held, bytes])
    const found: Message[] = []
    let at = 0
    while (this.#held.length - at >= 5) {
      const end = at + 1 + this.#held.readUInt32BE(at + 1)
      if (this.#held.length < end) break
      const type = String.fromCharCode(this.#held[at]!)
      const text = type === 'C' || type === 'E' ? this.#held.toString('latin1', at + 5, end - 1) : ''
      found.push({ type, text, start: at - before, end: end - before })
      at = end
    }
    this.#held = this.#held.subarray(at)
    return found
  }
}

/** The proxy's target and the client's URL for a database URL of PostgreSQL's, whose server is on TCP or a Unix socket. */
export async function proxyFor(databaseUrl: string): Promise<{ proxy: TcpProxy; url: string }> {
  const url = new URL(databaseUrl.replace(/^(\w+:\/\/[^@/]*@)\//, '$1localhost/'))
  const port = Number(url.port || 5432)
  const folder = url.searchParams.get('host')
  const target = folder === null ? { host: url.hostname, port } : { path: `${folder}/.s.PGSQL.${port}` }
  const proxy = await TcpProxy.open(target)
  url.searchParams.delete('host')
  url.hostname = '127.0.0.1'
  url.port = String(proxy.port)
  return { proxy, url: url.toString() }
}
