/** Places among the active runs of a workflow: `maxActiveRuns`, or a person's word on it. */
import { type Database, statement } from '../ports/database.ts'

const full = `select l.name from sluice.limits l
   where l.kind = 'runs' and coalesce(l.override, l.declared) is not null and exists (
     select from sluice.runs r
     where r.workflow = l.name and r.state = 'queued' and r.lane = 'default' and r.admitted_at is null)`

const findFull = statement<{ name: string }>('limits.find_runs', full)
const lockFull = statement<{ name: string }>('limits.lock_runs', `${full} order by l.name for update of l`)

const admit = statement(
  'limits.admit_runs',
  `with places as (
     select l.name, coalesce(l.override, l.declared) - (
       select count(*) from sluice.runs r
       where r.workflow = l.name and r.lane = 'default' and r.state in ('queued', 'running')
         and (r.state = 'running' or r.admitted_at is not null)) as free
     from sluice.limits l where l.kind = 'runs' and l.name = any ($1::text[])
   ), next as (
     select n.id from places p, lateral (
       select r.id from sluice.runs r
       where r.workflow = p.name and r.state = 'queued' and r.lane = 'default' and r.admitted_at is null
       order by r.priority desc, r.id limit greatest(p.free, 0)) as n
   ), admitted as (
     update sluice.runs r set admitted_at = sluice.sluice_now() from next where r.id = next.id returning r.id
   ), told as (
     select pg_notify('sluice_runs', '') from admitted limit 1
   )
   select count(*) from admitted, told`,
)

/**
 * Gives the free places among the active runs of limited workflows to runs that wait: by priority, then age.
 * Engines are told to take them.
 * @returns the workflows of which runs waited: when one of their runs ends, it is time to look again.
 */
export async function admitRuns(db: Database): Promise<readonly string[]> {
  // Nearly always none waits, and this is on the way of every new run: one trip to the server, and no transaction.
  if ((await db.query(findFull)).length === 0) return []
  return db.transaction(async (session) => {
    const limited = (await session.query(lockFull)).map(({ name }) => name)
    if (limited.length > 0) await session.query(admit, [limited])
    return limited
  })
}
