/**
 * Limits and what nodes hold of them.
 *
 * 1. Whoever changes grants of a limit has locked its row first, and locks rows in the order of kind and name. So what is
 *    read of the grants after that is what stands, and nobody waits in a circle.
 * 2. Grants of a node count as long as its lease is live; those of a dead one are removed by whoever comes across them.
 *    A node that is not live itself is refused.
 * 3. What changes for other nodes is told on the channel `sluice_limits`: `<node that knows> <kind>:<name>`.
 * Measured on two busy cores, without fsync: a word over 1 limit 0.4 to 1.1 ms, over 100 limits 1 ms, over 200 2.2 ms.
 */
import { type Answer, type Bucket, exchange, type Holding, type LimitState } from '../core/limit-exchange.ts'
import type { NodeWord } from '../core/limit-lines.ts'
import { type DeclaredLimit, type LimitKind, limitId, limitNameOf } from '../core/limit-names.ts'
import { SluiceError } from '../errors.ts'
import { type Database, type Session, statement } from '../ports/database.ts'

/** Where nothing is declared there is no limit; but a pool that nobody declared has no slots. */
const unlimited = 1_000_000_000

interface LimitRow {
  readonly kind: LimitKind
  readonly name: string
  readonly slots: number | null
  readonly per_ms: number | null
  readonly burst: number | null
  readonly level: number | null
  readonly level_at: number | null
  readonly now: number
}

const lock = statement<LimitRow>(
  'limits.lock',
  `select l.kind, l.name, coalesce(l.override, l.declared) as slots,
     case when l.override is null then l.per_ms else l.override_per_ms end as per_ms,
     case when l.override is null then l.burst else l.override_burst end as burst,
     l.level, extract(epoch from l.level_at)::float8 * 1000 as level_at, extract(epoch from sluice.sluice_now())::float8 * 1000 as now
   from sluice.limits l join unnest($1::text[], $2::text[]) as w(kind, name) on l.kind = w.kind and l.name = w.name
   order by l.kind, l.name for update of l`,
)

const make = statement(
  'limits.make',
  `insert into sluice.limits (kind, name) select * from unnest($1::text[], $2::text[]) as w(kind, name) order by kind, name
   on conflict do nothing`,
)

const readGrants = statement<{
  kind: LimitKind
  name: string
  value: string
  node_id: string
  amount: number
  used: number
  line: Holding['line']
  live: boolean
}>(
  'limits.read_grants',
  `select g.kind, g.name, g.value, g.node_id, g.amount, g.used, g.line, n.id is not null as live
   from unnest($1::text[], $2::text[], $3::text[]) as w(kind, name, value)
   join sluice.limit_grants g on g.kind = w.kind and g.name = w.name and g.value = w.value
   left join sluice.nodes n on n.id = g.node_id and n.lease_until > sluice.sluice_now()`,
)

const isLive = statement(
  'limits.node_is_live',
  'select from sluice.nodes where id = $1 and lease_until > sluice.sluice_now()',
)

const write = statement(
  'limits.write',
  `with put as (
     insert into sluice.limit_grants as g (kind, name, value, node_id, amount, used, line)
     select * from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::int[], $6::int8[], $7::text[]::json[])
     on conflict (kind, name, value, node_id) do update
       set amount = excluded.amount, used = excluded.used, line = excluded.line
   ), gone as (
     delete from sluice.limit_grants g using unnest($8::text[], $9::text[], $10::text[], $11::uuid[]) as d(kind, name, value, node_id)
     where g.kind = d.kind and g.name = d.name and g.value = d.value and g.node_id = d.node_id
   ), filled as (
     update sluice.limits l set level = b.level, level_at = to_timestamp(b.at / 1000)
     from unnest($12::text[], $13::float8[], $14::float8[]) as b(name, level, at)
     where l.kind = 'rate' and l.name = b.name
   )
   select count(pg_notify('sluice_limits', news)) from unnest($15::text[]) as t(news)`,
)

/**
 * Tells what a node keeps and wishes, of each limit once, and gives what it then holds.
 * @throws SluiceError FENCED when the node's lease is not live: nothing is granted then.
 */
export function exchangeLimits(db: Database, nodeId: string, words: readonly NodeWord[]): Promise<Map<string, Answer>> {
  return db.transaction(async (session) => {
    const names = words.map((word) => limitNameOf(word.limit))
    const limits = await lockLimits(session, names)
    if ((await session.execute(isLive, [nodeId])) !== 1)
      throw new SluiceError('FENCED', 'the lease of this node has lapsed; it is granted nothing')
    const columns = [names.map(({ kind }) => kind), names.map(({ name }) => name), names.map(({ value }) => value)]
    const grants = Map.groupBy(await session.query(readGrants, columns), (row) => limitId(row))
    const answers = new Map<string, Answer>()
    const changes = new Changes()
    for (const [index, word] of words.entries()) {
      const { kind, name, value } = names[index]!
      const row = limits.get(`${kind}:${name}`)!
      const rows = grants.get(word.limit) ?? []
      const { state, answer, tell } = exchange(stateOf(row, rows), word, row.now)
      answers.set(word.limit, answer)
      for (const dead of rows) if (!dead.live) changes.remove({ kind, name, value }, dead.node_id)
      changes.note({ kind, name, value }, rows, state)
      if (tell) changes.news.add(`${nodeId} ${kind}:${name}`)
    }
    if (changes.any) await session.query(write, changes.columns())
    return answers
  })
}

async function lockLimits(
  session: Session,
  names: readonly { readonly kind: LimitKind; readonly name: string }[],
): Promise<Map<string, LimitRow>> {
  const wanted = [...new Map(names.map((one) => [`${one.kind}:${one.name}`, one])).values()]
  const columns = [wanted.map(({ kind }) => kind), wanted.map(({ name }) => name)]
  let rows = await session.query(lock, columns)
  if (rows.length < wanted.length) {
    await session.execute(make, columns)
    rows = await session.query(lock, columns)
  }
  return new Map(rows.map((row) => [`${row.kind}:${row.name}`, row]))
}

function stateOf(
  row: LimitRow,
  grants: readonly { node_id: string; amount: number; used: number; line: Holding['line']; live: boolean }[],
): LimitState {
  const { kind, slots, per_ms, burst } = row
  const live = grants.filter((grant) => grant.live)
  const bucket: Bucket | undefined =
    slots === null || per_ms === null || burst === null
      ? undefined
      : { limit: slots, perMs: per_ms, burst, level: Math.min(burst, row.level ?? burst), at: row.level_at ?? row.now }
  return {
    capacity: bucket ? bucket.burst : (slots ?? (kind === 'pool' ? 0 : unlimited)),
    bucket,
    holdings: live.map(({ node_id: node, amount, used, line }) => ({ node, amount, used, line })),
    lapsed: bucket ? grants.reduce((sum, grant) => sum + (grant.live ? 0 : grant.amount), 0) : 0,
  }
}

interface Place {
  readonly kind: LimitKind
  readonly name: string
  readonly value: string
}

/** What an exchange changes of the rows. */
class Changes {
  readonly news = new Set<string>()
  readonly #put: (Place & Holding)[] = []
  readonly #removed: (Place & { readonly node: string })[] = []
  readonly #buckets = new Map<string, Bucket>()

  get any(): boolean {
    return this.#put.length + this.#removed.length + this.#buckets.size + this.news.size > 0
  }

  remove(place: Place, node: string): void {
    this.#removed.push({ ...place, node })
  }

  note(
    place: Place,
    rows: readonly { node_id: string; amount: number; used: number; line: Holding['line'] }[],
    state: LimitState,
  ) {
    if (state.bucket) this.#buckets.set(place.name, state.bucket)
    for (const holding of state.holdings) {
      const was = rows.find((row) => row.node_id === holding.node)
      const isNothing = holding.amount === 0 && holding.line.length === 0 && !state.bucket
      if (isNothing && was) this.remove(place, holding.node)
      else if (!isNothing && !isSame(was, holding)) this.#put.push({ ...place, ...holding })
    }
  }

  columns(): unknown[] {
    const put = this.#put
    const removed = this.#removed
    const buckets = [...this.#buckets]
    return [
      ...[put.map((one) => one.kind), put.map((one) => one.name), put.map((one) => one.value)],
      ...[put.map((one) => one.node), put.map((one) => one.amount), put.map((one) => one.used)],
      put.map((one) => JSON.stringify(one.line)),
      ...[removed.map((one) => one.kind), removed.map((one) => one.name), removed.map((one) => one.value)],
      removed.map((one) => one.node),
      ...[buckets.map(([name]) => name), buckets.map(([, { level }]) => level), buckets.map(([, { at }]) => at)],
      [...this.news],
    ]
  }
}

function isSame(was: { amount: number; used: number; line: Holding['line'] } | undefined, is: Holding): boolean {
  if (!was || was.amount !== is.amount || was.used !== is.used) return false
  return JSON.stringify(was.line) === JSON.stringify(is.line)
}

const giveUp = statement(
  'limits.give_up',
  `with gone as (delete from sluice.limit_grants where node_id = $1 returning kind, name)
   select count(pg_notify('sluice_limits', $1 || ' ' || kind || ':' || name)) from (select distinct kind, name from gone) as g`,
)

/** A node that stops gives everything back; its attempts must have ended. */
export async function giveUpGrants(session: Session, nodeId: string): Promise<void> {
  await session.execute(giveUp, [nodeId])
}

const removeDead = statement(
  'limits.remove_dead',
  'delete from sluice.limit_grants g where not exists (select from sluice.nodes n where n.id = g.node_id)',
)

/** Grants of nodes that are no more; of those that lapsed a while ago, which count for nothing already. */
export async function removeDeadGrants(session: Session): Promise<void> {
  await session.execute(removeDead)
}

const declare = statement(
  'limits.declare',
  `with given as (
     select * from unnest($1::text[], $2::text[], $3::int[], $4::int8[], $5::int[]) as g(kind, name, slots, per_ms, burst)
   ), former as (
     update sluice.limits l set deployed = false
     where l.deployed and not exists (select from given g where g.kind = l.kind and g.name = l.name)
   ), put as (
     insert into sluice.limits as l (kind, name, declared, per_ms, burst, deployed)
     select kind, name, slots, per_ms, burst, true from given order by kind, name
     on conflict (kind, name) do update
       set declared = excluded.declared, per_ms = excluded.per_ms, burst = excluded.burst, deployed = true
       where (l.declared, l.per_ms, l.burst, l.deployed)
         is distinct from (excluded.declared, excluded.per_ms, excluded.burst, excluded.deployed)
     returning kind, name
   )
   select count(pg_notify('sluice_limits', '- ' || kind || ':' || name)) from put`,
)

/** What a deployment declares. Limits of earlier deployments stay as they were, for runs of their versions. */
export async function declareLimits(session: Session, limits: readonly DeclaredLimit[]): Promise<void> {
  await session.execute(declare, [
    limits.map(({ kind }) => kind),
    limits.map(({ name }) => name),
    limits.map(({ slots }) => slots),
    limits.map(({ rate }) => rate?.perMs ?? null),
    limits.map(({ rate }) => rate?.burst ?? null),
  ])
}

const set = statement<{ slots: number | null }>(
  'limits.set',
  `with put as (
     insert into sluice.limits as l (kind, name, override, override_per_ms, override_burst, set_by, set_at)
     values ($1, $2, $3, $4, $5, $6, sluice.sluice_now())
     on conflict (kind, name) do update
       set override = excluded.override, override_per_ms = excluded.override_per_ms, override_burst = excluded.override_burst,
           set_by = excluded.set_by, set_at = excluded.set_at
     returning coalesce(l.override, l.declared) as slots
   )
   select slots, pg_notify('sluice_limits', '- ' || $1 || ':' || $2), pg_notify('sluice_runs', '') from put`,
)

export interface LimitSetting {
  readonly kind: LimitKind
  readonly name: string
  /** Null: what the definitions say holds again. 0: closed. */
  readonly slots: number | null
  /** Of a rate: the time in which `slots` tokens come, and how many may be used at once. */
  readonly rate?: { readonly perMs: number; readonly burst: number } | undefined
}

/** A person's word on a limit; it holds at once on all nodes. Nothing that runs is ended. */
export async function setLimit(session: Session, limit: LimitSetting, by: string): Promise<void> {
  const { kind, name, slots, rate } = limit
  await session.query(set, [kind, name, slots, rate?.perMs ?? null, rate?.burst ?? null, by])
}
