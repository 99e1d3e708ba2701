/** Opens an embedded server as a process of its own: options as JSON in the argument, a line of JSON when it is there, stops at the end of stdin. */
import { type EmbeddedOptions, startEmbedded } from '../../src/postgres/embedded.ts'

const server = await startEmbedded(JSON.parse(process.argv[2] ?? '') as EmbeddedOptions)
process.stdout.write(`${JSON.stringify({ pid: server.pid, joined: server.joined, url: server.url })}\n`)
process.stdin.resume()
process.stdin.on('end', () => void server.stop())
