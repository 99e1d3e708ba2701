/** Limits as people see them, and the facts by which it is told why something waits. */
import type { LimitKind } from '../../core/limit-names.ts'
import { type Session, statement } from '../../ports/database.ts'
import type { ShownTask } from '../shown-limits.ts'

export interface LimitRow {
  readonly kind: LimitKind
  readonly name: string
  /** What holds now; null: nobody has said anything. Of a rate: tokens per `perMs`. */
  readonly slots: number | null
  readonly declared: number | null
  readonly perMs: number | null
  readonly burst: number | null
  /** The present deployment declares it. */
  readonly deployed: boolean
  readonly setBy: string | null
  readonly setAt: Date | null
  /** Held by attempts, and tasks that wait, as engines showed it last. */
  readonly inUse: number
  readonly waiting: number
}

const list = statement<LimitRow>(
  'reading.limits',
  `select l.kind, l.name, coalesce(l.override, l.declared) as slots, l.declared,
     case when l.override is null then l.per_ms else l.override_per_ms end::float8 as "perMs",
     case when l.override is null then l.burst else l.override_burst end as burst,
     l.deployed, case when l.override is not null then l.set_by end as "setBy", case when l.override is not null then l.set_at end as "setAt",
     coalesce(s.in_use, 0)::int as "inUse", coalesce(s.waiting, 0)::int as waiting
   from sluice.limits l left join lateral (
     select sum(s.in_use) as in_use, sum(s.waiting) as waiting
     from sluice.limit_lines s join sluice.nodes n on n.id = s.node_id and n.lease_until > sluice.sluice_now()
     where s.kind = l.kind and s.name = l.name
   ) s on true
   where ($1::text is null or l.kind = $1) and (l.kind, l.name) > ($2, $3)
     and (l.deployed or l.override is not null or s.in_use > 0 or s.waiting > 0)
   order by l.kind, l.name limit $4`,
)

/** Those that are declared, set by a person, or in use. */
export function listLimits(
  session: Session,
  {
    kind,
    after,
    limit,
  }: { readonly kind: LimitKind | null; readonly after: readonly [string, string]; readonly limit: number },
): Promise<LimitRow[]> {
  return session.query(list, [kind, ...after, limit])
}

const one = statement<LimitRow>(
  'reading.limit',
  `select l.kind, l.name, coalesce(l.override, l.declared) as slots, l.declared,
     case when l.override is null then l.per_ms else l.override_per_ms end::float8 as "perMs",
     case when l.override is null then l.burst else l.override_burst end as burst,
     l.deployed, case when l.override is not null then l.set_by end as "setBy", case when l.override is not null then l.set_at end as "setAt",
     coalesce(sum(s.in_use), 0)::int as "inUse", coalesce(sum(s.waiting), 0)::int as waiting
   from sluice.limits l
   left join sluice.limit_lines s on s.kind = l.kind and s.name = l.name
     and exists (select from sluice.nodes n where n.id = s.node_id and n.lease_until > sluice.sluice_now())
   where l.kind = $1 and l.name = $2
   group by l.kind, l.name`,
)

export async function findLimit(session: Session, kind: LimitKind, name: string): Promise<LimitRow | undefined> {
  return (await session.query(one, [kind, name]))[0]
}

const names = statement<{ name: string }>(
  'reading.limit_names',
  'select name from sluice.limits where kind = $1 order by name',
)

export async function limitNames(session: Session, kind: LimitKind): Promise<string[]> {
  return (await session.query(names, [kind])).map(({ name }) => name)
}

/** A limit at which a task waits: as its row says, and as all engines showed it last. */
export interface WaitedLimit {
  readonly kind: LimitKind
  readonly name: string
  readonly value: string
  readonly slots: number | null
  readonly inUse: number
  readonly waiting: number
  readonly holders: readonly ShownTask[]
  readonly line: readonly ShownTask[]
  /** Of a rate: when there is a token again. */
  readonly nextAt: Date | null
}

const waited = statement<WaitedLimit>(
  'reading.waited_limits',
  `with mine as (
     select s.kind, s.name, s.value from sluice.limit_lines s
     where s.line @> jsonb_build_array(jsonb_build_object('run', $1::text, 'node', $2::int, 'index', $3::int))
   )
   select m.kind, m.name, m.value, coalesce(l.override, l.declared) as slots, sum(s.in_use)::int as "inUse", sum(s.waiting)::int as waiting,
     coalesce((select json_agg(h) from sluice.limit_lines o, json_array_elements(o.holders) h
       where o.kind = m.kind and o.name = m.name and o.value = m.value), '[]') as holders,
     coalesce((select json_agg(w order by (w ->> 'priority')::int desc, (w ->> 'since')::float8)
       from sluice.limit_lines o, jsonb_array_elements(o.line) w
       where o.kind = m.kind and o.name = m.name and o.value = m.value), '[]') as line,
     case when m.kind = 'rate' and coalesce(l.override, l.declared) > 0 then
       l.level_at + greatest(1 - l.level, 0) * coalesce(l.override_per_ms, l.per_ms) / coalesce(l.override, l.declared) * interval '1 ms'
     end as "nextAt"
   from mine m join sluice.limit_lines s on s.kind = m.kind and s.name = m.name and s.value = m.value
   left join sluice.limits l on l.kind = m.kind and l.name = m.name
   group by m.kind, m.name, m.value, l.kind, l.name`,
)

/** Where a task was shown waiting; nothing when it is behind the first hundred of its engine. */
export function readWaited(session: Session, runId: string, node: number, mapIndex: number): Promise<WaitedLimit[]> {
  return session.query(waited, [runId, node, mapIndex])
}

export interface RunFacts {
  readonly priority: number
  readonly lane: string
  readonly nodeId: string | null
  readonly host: string | null
  readonly leaseUntil: Date | null
  /** Engines whose lease is live. */
  readonly engines: number
  readonly paused: boolean
  /** Its backfill, where that holds it back. */
  readonly backfill: string | null
  /** How many of its workflow may be active; null: any number, or it is one of them. */
  readonly places: number | null
  /** The first that are active, when it waits for a place; and how many go before it. */
  readonly active: readonly string[]
  readonly before: number
}

const runFacts = statement<RunFacts>(
  'reading.run_facts',
  `select r.priority, r.lane, r.node_id as "nodeId", n.host, n.lease_until as "leaseUntil",
     (select count(*) from sluice.nodes e where e.kind = 'engine' and e.lease_until > sluice.sluice_now())::int as engines,
     exists (select from sluice.workflows w where w.name = r.workflow and w.paused) as paused,
     case when r.held then r.backfill_id end as backfill,
     case when waits.places is not null then waits.places end as places,
     case when waits.places is null then '{}' else array(
       select a.id from sluice.runs a
       where a.workflow = r.workflow and a.lane = 'default' and a.state in ('queued', 'running')
         and (a.state = 'running' or a.admitted_at is not null)
       order by a.id limit 1000) end as active,
     case when waits.places is null then 0 else (
       select count(*) from sluice.runs b
       where b.workflow = r.workflow and b.lane = 'default' and b.state = 'queued' and b.admitted_at is null
         and (b.priority > r.priority or (b.priority = r.priority and b.id < r.id)))::int end as before
   from sluice.runs r
   left join sluice.nodes n on n.id = r.node_id
   left join lateral (
     select coalesce(l.override, l.declared) as places from sluice.limits l
     where l.kind = 'runs' and l.name = r.workflow and r.state = 'queued' and r.lane = 'default' and r.admitted_at is null
   ) waits on true
   where r.id = $1`,
)

export async function readRunFacts(session: Session, runId: string): Promise<RunFacts | undefined> {
  return (await session.query(runFacts, [runId]))[0]
}

const taskFacts = statement<{ wait: { kind?: string; text?: string } | null; due: Date | null }>(
  'reading.task_facts',
  'select wait, retry_at as due from sluice.tasks where run_id = $1 and node = $2 and map_index = $3',
)

export async function readTaskFacts(session: Session, runId: string, node: number, mapIndex: number) {
  return (await session.query(taskFacts, [runId, node, mapIndex]))[0]
}

const ended = statement<{ node: number; ended: number; state: string; whole: boolean }>(
  'reading.ended_of_nodes',
  `select node, (count(*) filter (where state in ('success', 'failed', 'skipped', 'upstream_failed', 'cancelled', 'removed')))::int as ended,
     min(state) as state, bool_or(map_index = -1) as whole
   from sluice.tasks where run_id = $1 and node = any ($2::int[]) group by node`,
)

/** Of nodes that have rows: how many of their tasks have ended, one of their states, and whether a row stands for all. */
export async function readEndedOf(session: Session, runId: string, nodes: readonly number[]) {
  return new Map((await session.query(ended, [runId, nodes])).map((row) => [row.node, row]))
}

const runners = statement<{ busy: number; slots: number; ready: number }>(
  'reading.runner_slots',
  'select busy, slots, ready from sluice.runner_slots where node_id = $1 and lane = $2',
)

export async function readRunners(session: Session, nodeId: string, lane: 'shared' | 'process') {
  return (await session.query(runners, [nodeId, lane]))[0]
}
