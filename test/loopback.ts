/** Servers of tests, each on a free port of 127.0.0.1. */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'

const sockets = new WeakMap<Server, Set<Socket>>()

/** Lets a server listen; gives its port. A connection that breaks is no error. */
export async function listening(server: Server): Promise<number> {
  const open = new Set<Socket>()
  sockets.set(server, open)
  server.on('connection', (socket: Socket) => {
    open.add(socket)
    socket.on('error', () => {}).on('close', () => open.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** Ends a server that listens, and each of its connections. */
export async function closed(server: Server): Promise<void> {
  const over = once(server.close(), 'close')
  for (const socket of sockets.get(server) ?? []) socket.destroy()
  await over
}

/** Ports on which nothing listens any more. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(servers.map(listening))
  await Promise.all(servers.map(closed))
  return ports
}

export async function freePort(): Promise<number> {
  const [port] = await freePorts(1)
  return port!
}
