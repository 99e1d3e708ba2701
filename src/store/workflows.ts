/** Workflows by name, across their versions: whether they are paused. */
import { type Session, statement } from '../ports/database.ts'

const paused = statement<{ name: string }>(
  'workflows.paused',
  'select name from sluice.workflows where paused order by name',
)

export async function pausedWorkflows(session: Session): Promise<string[]> {
  return (await session.query(paused)).map(({ name }) => name)
}

const known = statement('workflows.known', 'select from sluice.workflows where name = $1')

/** Whether any version had it. */
export async function isKnown(session: Session, name: string): Promise<boolean> {
  return (await session.execute(known, [name])) === 1
}

const set = statement(
  'workflows.set_paused',
  `with kept as (
     insert into sluice.workflows (name, paused) values ($1, $2)
     on conflict (name) do update set paused = excluded.paused where workflows.paused <> excluded.paused
     returning 1
   )
   select pg_notify('sluice_runs', '') from kept`,
)

/** Pauses a workflow or lets it go on, and wakes the engines. False: it was so already. */
export async function setPaused(session: Session, name: string, value: boolean): Promise<boolean> {
  return (await session.execute(set, [name, value])) === 1
}
