/** What engines show of limits and runners to people: who holds, who waits, how much is in use. Nothing decides by it. */
import { limitNameOf } from '../core/limit-names.ts'
import { type Session, statement } from '../ports/database.ts'

/** An attempt or a task that waits, as it is shown. */
export interface ShownTask {
  readonly run: string
  readonly node: number
  readonly index: number
  readonly amount: number
  readonly priority?: number
  /** Milliseconds since the epoch. */
  readonly since?: number
}

export interface ShownLine {
  readonly limit: string
  readonly inUse: number
  readonly waiting: number
  readonly holders: readonly ShownTask[]
  readonly line: readonly ShownTask[]
}

const show = statement(
  'limits.show',
  `with given as (
     select * from unnest($2::text[], $3::text[], $4::text[], $5::int[], $6::int[], $7::text[]::json[], $8::text[]::jsonb[])
       as g(kind, name, value, in_use, waiting, holders, line)
   ), gone as (
     delete from sluice.limit_lines s using given g
     where s.node_id = $1 and s.kind = g.kind and s.name = g.name and s.value = g.value and g.in_use = 0 and g.waiting = 0
   )
   insert into sluice.limit_lines as s (node_id, kind, name, value, in_use, waiting, holders, line)
   select n.id, g.* from given g cross join (select id from sluice.nodes where id = $1 for key share) n
   where g.in_use > 0 or g.waiting > 0
   on conflict (node_id, kind, name, value) do update
     set in_use = excluded.in_use, waiting = excluded.waiting, holders = excluded.holders, line = excluded.line,
         shown_at = sluice.sluice_now()`,
)

/** What a node shows of limits whose line or holders changed. */
export async function showLines(session: Session, nodeId: string, lines: readonly ShownLine[]): Promise<void> {
  if (lines.length === 0) return
  const names = lines.map(({ limit }) => limitNameOf(limit))
  await session.execute(show, [
    nodeId,
    names.map(({ kind }) => kind),
    names.map(({ name }) => name),
    names.map(({ value }) => value),
    lines.map(({ inUse }) => inUse),
    lines.map(({ waiting }) => waiting),
    lines.map(({ holders }) => JSON.stringify(holders)),
    lines.map(({ line }) => JSON.stringify(line)),
  ])
}

export interface ShownRunners {
  readonly lane: 'shared' | 'process'
  readonly busy: number
  readonly slots: number
  readonly ready: number
}

const showSlots = statement(
  'limits.show_runners',
  `insert into sluice.runner_slots as s (node_id, lane, busy, slots, ready)
   select n.id, g.* from unnest($2::text[], $3::int[], $4::int[], $5::int[]) as g(lane, busy, slots, ready)
   cross join (select id from sluice.nodes where id = $1 for key share) n
   on conflict (node_id, lane) do update
     set busy = excluded.busy, slots = excluded.slots, ready = excluded.ready, shown_at = sluice.sluice_now()`,
)

export async function showRunners(session: Session, nodeId: string, runners: readonly ShownRunners[]): Promise<void> {
  await session.execute(showSlots, [
    nodeId,
    runners.map(({ lane }) => lane),
    runners.map(({ busy }) => busy),
    runners.map(({ slots }) => slots),
    runners.map(({ ready }) => ready),
  ])
}
