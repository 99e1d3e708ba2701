/** What the manifest says of streams: one case for each kind of source and of sink. */
import type { SinkManifest, SourceManifest, StreamManifest } from '../../core/manifest.ts'
import { tableOf } from '../../core/table-definition.ts'
import { type HttpStream, isHttpStream, type Stream } from '../../sdk/stream.ts'
import { parseDuration } from '../../time.ts'
import type { Definitions } from '../definitions.ts'
import { checkedPolicy, checkWhole, invalid } from './checks.ts'
import { describeHttpStream } from './http-streams-of.ts'

const maxSteps = 100

/** @param topics - Those that are valid. */
export function describeStream(
  stream: Stream | HttpStream,
  definitions: Definitions,
  topics: ReadonlySet<string>,
): StreamManifest {
  if (isHttpStream(stream))
    return describeHttpStream(stream, definitions, describeSink(stream.options.to, definitions, topics))
  const { from, id, key, distinct, concurrency = {}, to, retry = {}, timeout } = stream.options
  const source = describeSource(from, definitions, topics)
  if (typeof id !== 'function') throw invalid('id must be a function of the record')
  const isDistinct = distinct !== undefined && distinct !== false
  if (isDistinct && source.kind === 'timer')
    throw invalid('distinct is not for a timer, whose items come again and again')
  if (isDistinct && key === undefined) throw invalid('distinct needs key')
  const sink = describeSink(to, definitions, topics)
  if (source.kind === 'topic' && sink.kind === 'topic' && source.name === sink.topic)
    throw invalid(`it reads from the topic ${source.name}, which it writes to`)
  if (stream.steps.length > maxSteps)
    throw invalid(`it has ${stream.steps.length} steps; at most ${maxSteps} are allowed`)
  const total = concurrency.total ?? 64
  checkWhole('concurrency.total', total, 1, 4_096)
  if ((concurrency.per === undefined) !== (concurrency.each === undefined)) {
    throw invalid('concurrency.per and concurrency.each go together')
  }
  if (concurrency.each !== undefined) checkWhole('concurrency.each', concurrency.each, 1, total)
  checkedPolicy(retry, 5, 'the stream')
  if (timeout !== undefined) parseDuration(timeout)
  return {
    name: stream.name,
    file: definitions.fileOf(stream),
    topic: source.name,
    source,
    steps: stream.steps.map((step) => step.name),
    ...(isDistinct ? { distinct: true } : {}),
    sink,
  }
}

function describeSource(
  from: Stream['options']['from'],
  definitions: Definitions,
  topics: ReadonlySet<string>,
): SourceManifest {
  switch (from?.kind) {
    case 'topic':
      if (!topics.has(from.name)) throw invalid(`its topic ${from.name} is not valid`)
      if (definitions.topics.get(from.name) !== from)
        throw invalid(`its topic ${from.name} is not the one that others use`)
      return { kind: 'topic', name: from.name }
    case 'timer': {
      const { name, shards, refreshMs, perProducer } = from
      return { kind: 'timer', name, shards, refreshMs, ...(perProducer === undefined ? {} : { perProducer }) }
    }
    default:
      throw invalid('from must be a topic, a timer or http(...)')
  }
}

function describeSink(
  to: Stream['options']['to'],
  definitions: Definitions,
  topics: ReadonlySet<string>,
): SinkManifest {
  switch (to?.kind) {
    case 'documents':
      return { kind: 'documents', collection: to.collection, key: to.key }
    case 'table':
      return { kind: 'table', ...tableOf(to) }
    case 'topic':
      if (!topics.has(to.name)) throw invalid(`its topic ${to.name} is not valid`)
      if (definitions.topics.get(to.name) !== to) throw invalid(`its topic ${to.name} is not the one that others use`)
      return { kind: 'topic', topic: to.name }
    default:
      throw invalid('to must be documents(...), a table or a topic')
  }
}
