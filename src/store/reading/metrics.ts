/** Figures that whoever watches the platform reads every few seconds: of what goes on now, however long the history is. */
import { type Session, statement } from '../../ports/database.ts'

interface Counted {
  readonly state: string
  readonly count: number
}

const runs = statement<Counted>(
  'reading.live_runs',
  `select state::text as state, count(*)::int as count from sluice.runs where state in ('queued', 'running') group by state`,
)

const tasks = statement<Counted>(
  'reading.live_tasks',
  `select t.state::text as state, count(*)::int as count
   from sluice.runs r join sluice.tasks t on t.run_id = r.id
   where r.state = 'running' and t.state not in ('success', 'failed', 'skipped', 'upstream_failed', 'cancelled', 'removed')
   group by t.state`,
)

const ended = statement<Counted>(
  'reading.runs_ended_lately',
  `select state::text as state, count(*)::int as count from sluice.runs
   where finished_at > sluice.sluice_now() - interval '5 minutes' group by state`,
)

export interface LiveFigures {
  /** Queued and running. */
  readonly runs: readonly Counted[]
  /** Of running runs: tasks that have a row and have not ended. */
  readonly tasks: readonly Counted[]
  /** In the last five minutes. */
  readonly ended: readonly Counted[]
}

export async function readLiveFigures(session: Session): Promise<LiveFigures> {
  return {
    runs: await session.query(runs),
    tasks: await session.query(tasks),
    ended: await session.query(ended),
  }
}
