/** How far topics of Kafka are copied into the tables for plans. */
import { type Session, statement } from '../ports/database.ts'

const topicsStatement = statement<{ topic: string; partitions: number }>(
  'kafka-copies.topics',
  `select t.name as topic, t.partitions from sluice.topics t
   where exists (select from sluice.plan_topic_cursors c where c.topic = t.name) order by t.name`,
)

/** Topics for whose records plans start runs. */
export function plannedTopics(session: Session): Promise<{ topic: string; partitions: number }[]> {
  return session.query(topicsStatement, [])
}

const beginStatement = statement<{ partition: number; next: number }>(
  'kafka-copies.begin',
  `
  with known as (
    select partition, next_offset from sluice.kafka_copies where topic = $1
  ), made as (
    insert into sluice.kafka_copies (topic, partition, next_offset)
    select $1, n - 1, case when exists (select from known) then 0 else ($2::bigint[])[n] end
    from generate_series(1, cardinality($2::bigint[])) as n
    on conflict do nothing
    returning partition, next_offset
  )
  select partition, next_offset as next from known union all select partition, next_offset from made`,
)

/** A topic that was never copied begins at these offsets; a partition that it got since, at 0. Gives where each goes on. */
export async function beginCopy(
  session: Session,
  topic: string,
  since: readonly number[],
): Promise<Map<number, number>> {
  const rows = await session.query(beginStatement, [topic, since])
  return new Map(rows.map(({ partition, next }) => [partition, next]))
}

const moveStatement = statement(
  'kafka-copies.move',
  'update sluice.kafka_copies set next_offset = $4 where topic = $1 and partition = $2 and next_offset = $3',
)

/** False when it is not at `from`. */
export async function moveCopy(
  session: Session,
  {
    topic,
    partition,
    from,
    to,
  }: { readonly topic: string; readonly partition: number; readonly from: number; readonly to: number },
): Promise<boolean> {
  return (await session.execute(moveStatement, [topic, partition, from, to])) > 0
}
