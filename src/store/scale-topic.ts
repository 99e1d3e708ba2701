/** More partitions for a topic, and shards for them in every stream that reads it. */
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'
import { type Asked, noteOperation } from './stream-controls.ts'
import { ensureTopic } from './topics.ts'

/** Of a topic that lies elsewhere, the shards bear another name. */
const lockStatement = statement<{ partitions: number }>(
  'scale-topic.lock',
  `select partitions from sluice.topics t
   where name = $1 and not exists (select from sluice.shards s where s.stream = $2 and s.topic <> $1)
   for no key update of t`,
)

const shardsStatement = statement(
  'scale-topic.shards',
  `
  with made as (
    insert into sluice.shards (stream, partition, topic, committed_offset)
    select s.stream, p.partition, p.topic, p.first_offset
    from (select distinct stream from sluice.shards where topic = $1) s, sluice.topic_partitions p
    where p.topic = $1
    on conflict do nothing
    returning 1
  )
  select pg_notify('sluice_shards', '') from made limit 1`,
)

/**
 * Part of a transaction. Whoever holds shards takes the new ones at once.
 * @throws SluiceError NOT_FOUND (the topic does not lie in this database), CONFLICT (it has more)
 */
export async function scaleTopic(
  session: Session,
  { stream, topic, partitions }: { readonly stream: string; readonly topic: string; readonly partitions: number },
  asked: Asked,
): Promise<{ readonly partitions: number; readonly before: number }> {
  const [found] = await session.query(lockStatement, [topic, stream])
  if (found === undefined) {
    throw new SluiceError(
      'NOT_FOUND',
      `The topic ${topic} does not lie in this database; add partitions to it where it lies, and they become shards`,
    )
  }
  const before = found.partitions
  if (partitions < before) {
    throw new SluiceError('CONFLICT', `The topic ${topic} has ${before} partitions; none is ever taken away`)
  }
  if (partitions > before) {
    await ensureTopic(session, topic, partitions)
    await session.execute(shardsStatement, [topic])
    await noteOperation(session, stream, 'scale', asked, { topic, before, partitions })
  }
  return { partitions, before }
}
