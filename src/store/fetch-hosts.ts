/** The hosts that processes ask, as each said on its last beat; those of a process that is gone are not shown. */
import { type Session, statement } from '../ports/database.ts'

export interface FetchHost {
  /** Name of the connection. */
  readonly connection: string
  readonly host: string
  readonly circuit: 'closed' | 'open' | 'half-open'
  readonly inFlight: number
  readonly queued: number
  readonly requests: number
  readonly lastError: string | null
  /** Nobody asks it before; null when it may be asked. */
  readonly retryAt: Date | null
}

const tellStatement = statement(
  'fetch-hosts.tell',
  `
  with given as (
    select * from unnest($2::text[], $3::text[], $4::text[], $5::int[], $6::int[], $7::bigint[], $8::text[], $9::timestamptz[])
      as given (connection, host, circuit, in_flight, queued, requests, last_error, retry_at)
  ), gone as (
    delete from sluice.fetch_hosts where node = $1 and (connection, host) not in (select connection, host from given)
  )
  insert into sluice.fetch_hosts as told (node, connection, host, circuit, in_flight, queued, requests, last_error, retry_at)
  select n.id, given.* from given cross join (select id from sluice.nodes where id = $1 for key share) n
  on conflict (node, connection, host) do update
  set circuit = excluded.circuit, in_flight = excluded.in_flight, queued = excluded.queued, requests = excluded.requests,
    last_error = excluded.last_error, retry_at = excluded.retry_at
  where told is distinct from excluded`,
)

/** What a process says of its hosts; takes the place of what it said before. Nothing happens when it was taken for dead. */
export async function tellHosts(session: Session, node: string, hosts: readonly FetchHost[]): Promise<void> {
  await session.execute(tellStatement, [
    node,
    hosts.map((host) => host.connection),
    hosts.map((host) => host.host),
    hosts.map((host) => host.circuit),
    hosts.map((host) => host.inFlight),
    hosts.map((host) => host.queued),
    hosts.map((host) => host.requests),
    hosts.map((host) => host.lastError),
    hosts.map((host) => host.retryAt),
  ])
}

export interface ToldHost extends FetchHost {
  /** UUID of the process. */
  readonly node: string
}

const listStatement = statement<ToldHost>(
  'fetch-hosts.list',
  `
  select h.host, h.connection, h.node, h.circuit, h.in_flight as "inFlight", h.queued, h.requests, h.last_error as "lastError",
    h.retry_at as "retryAt"
  from sluice.fetch_hosts h join sluice.nodes n on n.id = h.node and n.lease_until > sluice.sluice_now()
  where ($1::text is null or h.circuit = $1) and (h.host, h.connection, h.node::text) > ($2, $3, $4)
  order by h.host, h.connection, h.node::text
  limit $5`,
)

/** Hosts by name, after a place in that order. */
export function listHosts(
  session: Session,
  {
    circuit,
    after,
    limit,
  }: {
    readonly circuit: FetchHost['circuit'] | null
    readonly after: readonly [host: string, connection: string, node: string]
    readonly limit: number
  },
): Promise<ToldHost[]> {
  return session.query(listStatement, [circuit, ...after, limit])
}
