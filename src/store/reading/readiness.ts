import { type Session, statement } from '../../ports/database.ts'

const engines = statement<{ live: number; heartbeat: Date | null }>(
  'reading.engines',
  `select count(*) filter (where lease_until > sluice.sluice_now()) as live, max(heartbeat_at) as heartbeat
   from sluice.nodes where kind = 'engine'`,
)

/** How many engine nodes hold their lease, and the last heartbeat of any. */
export async function readEngines(session: Session): Promise<{ live: number; heartbeat: Date | null }> {
  return (await session.query(engines))[0] ?? { live: 0, heartbeat: null }
}

const held = statement<{ stream: string; shards: number; held: number }>(
  'reading.shard_holders',
  `select stream, count(*) as shards, count(*) filter (where holder is not null and lease_until > sluice.sluice_now()) as held
   from sluice.shards where stream = any($1::text[]) group by stream`,
)

/** Of each stream: its shards, and how many have a holder whose lease is live. */
export function readShardHolders(
  session: Session,
  streams: readonly string[],
): Promise<{ stream: string; shards: number; held: number }[]> {
  return session.query(held, [streams])
}
