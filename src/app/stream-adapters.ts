/** Chooses what serves the sources and sinks that streams name. */
import { tableOf } from '../core/table-definition.ts'
import { SluiceError } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import type { DocumentObjects } from '../store/document-bytes.ts'
import { documentSink } from '../store/document-sink.ts'
import { moveShards } from '../store/kafka-shards.ts'
import { tableSink } from '../store/table-sink.ts'
import { topicSink } from '../store/topic-sink.ts'
import { ensureTopic, topicSource } from '../store/topics.ts'
import type { StreamAdapters } from '../streams/streams.ts'
import type { Timers } from '../streams/timer/timers.ts'
import { type KafkaTopics, outboxSink } from './kafka/kafka-topics.ts'

export interface AdapterParts {
  readonly db: Database
  readonly objects: DocumentObjects
  /** Where topics lie; default: in the database. `outbox`: rows are sent to Kafka from there. */
  readonly kafka?: KafkaTopics | 'outbox' | undefined
  /** Where shards run. */
  readonly timers?: Timers
}

export function streamAdapters({ db, objects, kafka, timers }: AdapterParts): StreamAdapters {
  const inKafka = kafka === 'outbox' ? undefined : kafka
  return {
    async ensure({ name, options: { from, to } }) {
      if (to.kind === 'topic') await ensureTopic(db, to.name, to.partitions)
      if (from.kind === 'timer') return timersOf(timers).place(from)
      const place =
        inKafka === undefined
          ? { source: from.name, partitions: await ensureTopic(db, from.name, from.partitions) }
          : await inKafka.ensure(name, from)
      await moveShards(db, name, place.source)
      return place
    },
    source({ name, options: { from } }) {
      if (from.kind === 'timer') return timersOf(timers).source(from)
      return inKafka !== undefined ? inKafka.source(name, from) : topicSource(db, from.name)
    },
    sink({ options: { to } }) {
      switch (to.kind) {
        case 'documents':
          return documentSink({ collection: to.collection, key: to.key, merge: to.merge as never, objects })
        case 'table':
          return tableSink(db, { ...tableOf(to), schema: to.schema })
        case 'topic':
          return inKafka?.sink(to) ?? (kafka === 'outbox' ? outboxSink(to) : topicSink(to))
      }
    },
  }
}

function timersOf(timers: Timers | undefined): Timers {
  if (timers === undefined) throw new SluiceError('INTERNAL', 'Timers are read where shards run, not here')
  return timers
}
