import { connect } from 'node:net'

/** Where a connection leads, and the number and secret under which the server knows it. */
export interface Cancellable {
  readonly host: string
  readonly port: number
  readonly processID: number | null
  readonly secretKey: number | null
}

const cancelCode = 80_877_102

/**
 * Asks the server to end what a connection has under way, as the protocol says: over a connection of its own, without a login and without an
 * answer. Of a failure nothing is heard: who must be sure destroys the connection after a while.
 */
export function askToCancel({ host, port, processID, secretKey }: Cancellable): void {
  if (processID === null || secretKey === null) return
  const request = Buffer.alloc(16)
  for (const [index, word] of [16, cancelCode, processID, secretKey].entries()) request.writeInt32BE(word, index * 4)
  const socket = host.startsWith('/') ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host)
  socket.setTimeout(2_000, () => socket.destroy())
  socket.on('error', () => {})
  socket.end(request)
}
