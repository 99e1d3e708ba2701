/**
 * The one broker of a test run: started by the main process of vitest when the first test asks for it, over a Unix socket,
 * and stopped with the run. Runs without such tests pay nothing.
 */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { messageOf } from '../../src/errors.ts'
import { findKafka, isMissing } from './found.ts'
import { Broker } from './kafka.ts'

/** Answers each connection with a line of JSON: `{ brokers }`, or `{ fault }`. */
export async function hostSharedBroker(socket: string): Promise<{ stop(): Promise<void> }> {
  let starting: Promise<Broker> | undefined
  const start = async () => {
    const found = findKafka()
    if (isMissing(found)) throw new Error(found.missing)
    return Broker.start(found)
  }
  const server = createServer(async (asker) => {
    asker.on('error', () => {})
    try {
      starting ??= start()
      asker.end(`${JSON.stringify({ brokers: (await starting).brokers })}\n`)
    } catch (thrown) {
      asker.end(`${JSON.stringify({ fault: messageOf(thrown) })}\n`)
    }
  })
  server.listen(socket)
  await once(server, 'listening')
  return {
    async stop() {
      server.close()
      await (await starting?.catch(() => undefined))?.remove()
    },
  }
}
