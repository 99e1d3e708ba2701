/**
 * Tables and topics as sinks: what the ledger says was written is there. Which streams write where is told by the caller, since the
 * database does not know. Nobody else may write there, nothing may be removed there, and tables are those that ignore conflicts.
 */
import { statement } from '../../src/ports/database.ts'
import type { CheckOptions, Invariant, Snapshot } from './breach.ts'

/** How many records of each stream were written and not taken back by a rewind; those that the ledger names, with their ids. */
const written = `
  with counts as (
    select stream, partition, written from sluice.ledger_folds
    union all
    select b.stream, b.partition, b.written from sluice.ledger_batches b
    join sluice.shards s on s.stream = b.stream and s.partition = b.partition and b.committed_at >= s.folded_through
    union all
    select stream, partition, -written from sluice.stream_rewinds
    union all
    select l.stream, l.partition, 1 from sluice.ledger_records l
    join sluice.shards s on s.stream = l.stream and s.partition = l.partition and l.at >= s.folded_through
    where l.was is not null and l.outcome = 'written'
  ), written as (
    select coalesce(sum(written), 0) as records from counts where stream = $1
  ), named as (
    select record_id from sluice.ledger_records where stream = $1 and outcome = 'written'
  )`

const quoted = (name: string): string =>
  name
    .split('.')
    .map((part) => `"${part.replaceAll('"', '""')}"`)
    .join('.')

function tableText({ table, recordId }: NonNullable<CheckOptions['tables']>[number]): string {
  const rows = `${written}, rows as (select * from ${quoted(table)})
    select format('%s: written %s, and ${table} has %s rows', $1, w.records, (select count(*) from rows)) as what
    from written w where w.records <> (select count(*) from rows)`
  if (recordId === undefined) return rows
  return `${rows}
    union all
    select format('%s: record %L is in ${table} %s times', $1, ${quoted(recordId)}, count(*)) from rows group by ${quoted(recordId)} having count(*) > 1
    union all
    select format('%s: record %L was written late, and is not in ${table}', $1, record_id) from named
    where not exists (select from rows r where r.${quoted(recordId)} = named.record_id)`
}

const topicText = `${written}
  select format('%s: written %s, and the topic %s knows %s ids', $1, w.records, $2::text, (select count(*) from sluice.topic_ids where topic = $2)) as what
  from written w where w.records <> (select count(*) from sluice.topic_ids where topic = $2)
  union all
  select format('%s: record %L was written late, and the topic %s does not know it', $1, record_id, $2) from named
  where not exists (select from sluice.topic_ids i where i.topic = $2 and i.id = named.record_id)`

export const sinkInvariants: readonly Invariant[] = [
  /** 11. As many rows are in the table as were written, and each record that the ledger names. */
  {
    number: 11,
    when: 'always',
    find: ({ session, options: { tables = [] } }) =>
      all(tables, (one) => ask(session, `table.${one.stream}`, tableText(one), [one.stream])),
  },
  /** 11. As many ids are in the topic as were written, and each record that the ledger names. */
  {
    number: 11,
    when: 'always',
    find: ({ session, options: { topics = [] } }) =>
      all(topics, ({ stream, topic }) => ask(session, `topic.${stream}`, topicText, [stream, topic])),
  },
]

async function ask(session: Snapshot['session'], name: string, text: string, values: readonly string[]) {
  return (await session.query(statement<{ what: string }>(`invariant.sink-${name}`.slice(0, 63), text), values)).map(
    ({ what }) => what,
  )
}

async function all<One>(of: readonly One[], find: (one: One) => Promise<readonly string[]>): Promise<string[]> {
  const found: string[] = []
  for (const one of of) found.push(...(await find(one)))
  return found
}
