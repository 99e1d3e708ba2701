/** What the manifest says of streams that are fed by HTTP. */
import type { SinkManifest, StreamManifest } from '../../core/manifest.ts'
import { SluiceError } from '../../errors.ts'
import type { HttpSource } from '../../sdk/http-source.ts'
import { type HttpStream, isHttpStream } from '../../sdk/stream.ts'
import { parseDuration } from '../../time.ts'
import type { Definitions } from '../definitions.ts'
import { checkWhole, invalid, jsonSchema, ownPaths } from './checks.ts'

/** What only streams have whose source shards read. */
const notForHttp = ['steps', 'key', 'distinct', 'concurrency', 'retry', 'timeout', 'deadLetters'] as const

const minuteMs = 60_000
const yearMs = 31_536_000_000

export function describeHttpStream(stream: HttpStream, definitions: Definitions, sink: SinkManifest): StreamManifest {
  const { from, id, row } = stream.options
  const given = notForHttp.find((name) => name in stream.options)
  if (given !== undefined)
    throw invalid(
      `${given} is not for a stream from http(...): row makes one row of each event; publish to a topic for more`,
    )
  if (typeof row !== 'function') throw invalid('row must be a function that makes a row of an event')
  if (row.constructor.name === 'AsyncFunction') throw invalid('row must not be async: who posted waits for it')
  if (id !== undefined && typeof id !== 'function') throw invalid('id must be a function of the event')
  const paths = checkedPaths(stream, definitions)
  checkLimits(from)
  jsonSchema(from.schema, 'schema')
  return {
    name: stream.name,
    file: definitions.fileOf(stream),
    topic: from.name,
    source: { kind: 'http', name: from.name, paths, auth: from.auth },
    steps: [],
    sink,
  }
}

function checkedPaths(stream: HttpStream, definitions: Definitions): readonly string[] {
  const paths = pathsOf(stream.options.from)
  for (const path of paths) {
    if (ownPaths.test(path)) throw invalid(`${path} is a path of Sluice itself; choose another`)
    const endpoint = definitions.endpoints.get(`POST ${path}`)
    if (endpoint !== undefined)
      throw invalid(`POST ${path} is an endpoint of ${definitions.fileOf(endpoint)} already; choose another path`)
    for (const other of definitions.streams.values()) {
      // Of two streams with one path the first stands.
      if (other === stream) break
      if (isHttpStream(other) && pathsOf(other.options.from).includes(path))
        throw invalid(
          `POST ${path} is a path of stream ${other.name} of ${definitions.fileOf(other)} already; choose another`,
        )
    }
  }
  return paths
}

const pathsOf = ({ path, batchPath }: HttpSource) => (batchPath === undefined ? [path] : [path, batchPath])

function checkLimits({ maxBatch, maxBytes, maxBatchBytes, auth, rememberIds }: HttpSource): void {
  checkWhole('maxBatch', maxBatch, 1, 10_000)
  checkWhole('maxBytes', maxBytes, 1, 1_048_576)
  checkWhole('maxBatchBytes', maxBatchBytes, 1, 67_108_864)
  if (auth !== 'open' && auth !== 'users') throw invalid(`auth is ${JSON.stringify(auth)}; allowed are open, users`)
  const ms = remembered(rememberIds)
  if (ms < minuteMs || ms > yearMs) throw invalid(`rememberIds is ${JSON.stringify(rememberIds)}; allowed are 1m to 1y`)
}

function remembered(duration: string): number {
  try {
    return parseDuration(duration)
  } catch (thrown) {
    if (thrown instanceof SluiceError) throw invalid(`rememberIds: ${thrown.message}`)
    throw invalid(`rememberIds is ${JSON.stringify(duration)}; write for example 24h`)
  }
}
