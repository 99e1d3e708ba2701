/** Which records of topics plans have taken, and those that come next. Cursors move in the transaction that inserts runs. */
import type { PublishedRecord } from '../core/record-starts.ts'
import { type Session, statement } from '../ports/database.ts'

export interface TopicPlan {
  readonly workflow: string
  readonly plan: string
  readonly topic: string
}

const beginStatement = statement(
  'plan-topics.begin',
  `insert into sluice.plan_topic_cursors (workflow, plan, topic, partition, next_offset)
   select g.workflow, g.plan, g.topic, p.partition,
     case when exists (
       select from sluice.plan_topic_cursors c where c.workflow = g.workflow and c.plan = g.plan and c.topic = g.topic)
     then p.first_offset else p.next_offset end
   from unnest($1::text[], $2::text[], $3::text[]) as g(workflow, plan, topic)
   join sluice.topic_partitions p on p.topic = g.topic
   on conflict do nothing`,
)

/** A plan that is seen for the first time starts with what comes next; a partition that is new to it, with its first record. */
export async function beginTopicPlans(session: Session, plans: readonly TopicPlan[]): Promise<void> {
  await session.execute(beginStatement, [
    plans.map((plan) => plan.workflow),
    plans.map((plan) => plan.plan),
    plans.map((plan) => plan.topic),
  ])
}

const forgetStatement = statement(
  'plan-topics.forget',
  `delete from sluice.plan_topic_cursors c
   where not exists (
     select from unnest($1::text[], $2::text[], $3::text[]) as g(workflow, plan, topic)
     where g.workflow = c.workflow and g.plan = c.plan and g.topic = c.topic)`,
)

/** Forgets where all other plans stood, so that they hold back no trimming. */
export async function forgetOtherTopicPlans(session: Session, plans: readonly TopicPlan[]): Promise<void> {
  await session.execute(forgetStatement, [
    plans.map((plan) => plan.workflow),
    plans.map((plan) => plan.plan),
    plans.map((plan) => plan.topic),
  ])
}

const takeStatement = statement<{ partition: number; next: number; paused: boolean }>(
  'plan-topics.take',
  `select c.partition, c.next_offset::float8 as next,
     coalesce((select w.paused from sluice.workflows w where w.name = c.workflow), false) as paused
   from sluice.plan_topic_cursors c
   where c.workflow = $1 and c.plan = $2 and c.topic = $3
   order by c.partition for update`,
)

const readStatement = statement<Omit<PublishedRecord, 'publishedAt'> & { publishedAt: Date }>(
  'plan-topics.read',
  `select partition, "offset"::float8 as "offset", id, key, value, published_at as "publishedAt" from (
     select r.*, sum(r.bytes) over (order by r.nth, r.partition rows unbounded preceding) - r.bytes as before
     from unnest($2::int[], $3::bigint[]) as c(partition, next)
     cross join lateral (
       select t.partition, t."offset", t.id, t.key, t.value, t.bytes, t.published_at,
         row_number() over (order by t."offset") as nth
       from sluice.topic_records t
       where t.topic = $1 and t.partition = c.partition and t."offset" >= c.next
       order by t."offset" limit $4
     ) as r
   ) as summed
   where before < $5
   order by nth, partition limit $4`,
)

const moveStatement = statement(
  'plan-topics.move',
  `update sluice.plan_topic_cursors c set next_offset = m.next
   from unnest($4::int[], $5::bigint[]) as m(partition, next)
   where c.workflow = $1 and c.plan = $2 and c.topic = $3 and c.partition = m.partition`,
)

/**
 * Locks a plan's cursors until the transaction ends and reads what comes next: of each partition in order, and from all in
 * turn, so that none waits for another. `full` says that there may be more.
 */
export async function takeRecords(
  session: Session,
  { workflow, plan, topic }: TopicPlan,
  limits: { readonly records: number; readonly bytes: number },
): Promise<{ readonly records: PublishedRecord[]; readonly paused: boolean; readonly full: boolean }> {
  const cursors = await session.query(takeStatement, [workflow, plan, topic])
  const rows = await session.query(readStatement, [
    topic,
    cursors.map((cursor) => cursor.partition),
    cursors.map((cursor) => cursor.next),
    limits.records,
    limits.bytes,
  ])
  const records = rows.map((row) => ({ ...row, publishedAt: row.publishedAt.getTime() }))
  const bytes = records.reduce((sum, record) => sum + Buffer.byteLength(record.value), 0)
  const full = records.length === limits.records || bytes >= limits.bytes
  return { records, paused: cursors[0]?.paused ?? false, full }
}

/** @param cursors by partition, the offset that comes next. */
export async function moveTopicCursors(
  session: Session,
  { workflow, plan, topic }: TopicPlan,
  cursors: ReadonlyMap<number, number>,
): Promise<void> {
  if (cursors.size === 0) return
  await session.execute(moveStatement, [workflow, plan, topic, [...cursors.keys()], [...cursors.values()]])
}
