/** The sinks that lie in the platform's database, by the suite that every sink passes. */

import { testDatabase } from '../../test/database.ts'
import { describeSink, type SinkSubject } from '../../test/sink-conformance.ts'
import { noObjects } from '../../test/stream-world.ts'
import { tableOf } from '../core/table-definition.ts'
import type { Database } from '../ports/database.ts'
import { statement } from '../ports/database.ts'
import type { Sink } from '../ports/sink.ts'
import { z } from '../sdk/schema.ts'
import { type TableOptions, table } from '../sdk/table.ts'
import { documentSink } from './document-sink.ts'
import { tableSink } from './table-sink.ts'
import { topicSink } from './topic-sink.ts'
import { ensureTopic } from './topics.ts'

const row = (key: string, text: string) => ({ key, text })

async function subjectOver(
  make: (db: Database) => Promise<Sink>,
  rows: string,
  refused: SinkSubject['refused'],
): Promise<SinkSubject> {
  const test = await testDatabase()
  const sink = await make(test.db)
  const all = statement<{ key: string; text: string }>('test.sink-rows', rows)
  return {
    sink,
    row,
    refused,
    transaction: (work) => test.db.transaction(work),
    rows: () => test.db.query(all),
    close: () => test.drop(),
  }
}

describeSink('documents', { second: 'duplicate', stands: 'first' }, () =>
  subjectOver(
    async () => documentSink({ collection: 'c', key: 'key', merge: undefined, objects: noObjects }),
    `select key, body ->> 'text' as text from sluice.documents order by seq`,
    [
      [{ key: '', text: 'a' }, 'invalid document'],
      [{ key: 'k', text: 'a\0b' }, 'invalid document'],
      ['k', 'invalid document'],
    ],
  ),
)

const rowSchema = z.object({ key: z.string(), text: z.string() })
type Row = z.infer<typeof rowSchema>

const overTable = (ddl: string, options: Omit<TableOptions<Row>, 'schema'>) => () =>
  subjectOver(
    async (db) => {
      await db.script(`create schema app; create table app.lines (${ddl})`)
      const lines = table('app.lines', { schema: rowSchema, ...options })
      return tableSink(db, { ...tableOf(lines), schema: rowSchema })
    },
    'select key, text from app.lines order by seq',
    [
      [{ key: 'k', text: 'a\0b' }, 'zero character'],
      [{ key: 'k', text: '\ud800' }, 'not unicode'],
      [{ key: 'k', text: 'a', more: 1 }, 'unknown field'],
      [{ key: 'k' }, 'invalid row'],
      [{ key: 'k', text: 5 }, 'invalid row'],
      ['k', 'invalid row'],
    ],
  )

const columns = 'seq bigint generated always as identity, key text, text text not null'
describeSink('a table without a key', { second: 'written', stands: 'both', again: 'doubled' }, overTable(columns, {}))
describeSink(
  'a table with a key that ignores conflicts',
  { second: 'duplicate', stands: 'first', again: 'duplicate' },
  overTable(`${columns}, primary key (key)`, { key: 'key' }),
)
describeSink(
  'a table that keeps the ids of records',
  { second: 'duplicate', stands: 'first' },
  overTable(`${columns}, record_id text not null, primary key (key)`, { key: ['key'], recordId: 'record_id' }),
)
describeSink(
  'a table with a key that updates',
  { second: 'written', stands: 'last' },
  overTable(`${columns}, primary key (key)`, { key: 'key', onConflict: 'update' }),
)

describeSink('a topic', { second: 'written', stands: 'both' }, () =>
  subjectOver(
    async (db) => {
      await ensureTopic(db, 'lines', 3)
      return topicSink({ name: 'lines', schema: rowSchema, key: (line: Row) => line.key })
    },
    `select key, value::json ->> 'text' as text from sluice.topic_records where topic = 'lines' order by partition, "offset"`,
    [
      [{ key: 'k' }, 'invalid row'],
      [{ key: '', text: 'a' }, 'invalid key'],
      [{ key: 'a\0', text: 'a' }, 'invalid key'],
      [{ key: 'k'.repeat(1_001), text: 'a' }, 'invalid key'],
      [{ key: 'k', text: 'x'.repeat(1_048_576) }, 'record too large'],
    ],
  ),
)
