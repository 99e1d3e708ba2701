/** Chooses what serves the sources and sinks that streams name. */
import type { Database } from '../ports/database.ts'
import type { DocumentObjects } from '../store/document-bytes.ts'
import { documentSink } from '../store/document-sink.ts'
import { ensureTopic, topicSource } from '../store/topics.ts'
import type { StreamAdapters } from '../streams/streams.ts'

export interface AdapterParts {
  readonly db: Database
  readonly objects: DocumentObjects
}

export function streamAdapters({ db, objects }: AdapterParts): StreamAdapters {
  return {
    ensure: ({ options: { from } }) => ensureTopic(db, from.name, from.partitions),
    source: ({ options: { from } }) => topicSource(db, from.name),
    sink({ options: { to } }) {
      return documentSink({ collection: to.collection, key: to.key, merge: to.merge as never, objects })
    },
  }
}
