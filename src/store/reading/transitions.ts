import { type Session, statement } from '../../ports/database.ts'

export interface TransitionRow {
  /** Counts from 1 within the run, without gaps, in the order of commits. */
  readonly seq: number
  readonly at: Date
  /** -1 for the run itself. */
  readonly node: number
  readonly mapIndex: number
  readonly attempt: number
  readonly from: string
  readonly to: string
  readonly detail: string | null
}

// Partitioned by day: the day before the run's creation bounds what is looked through, and allows for clocks that differ.
const after = statement<TransitionRow>(
  'reading.transitions',
  `select t.seq, t.at, t.node, t.map_index as "mapIndex", t.attempt, t.from_state as "from", t.to_state as "to", t.detail
   from sluice.transitions t
   where t.run_id = $1 and t.seq > $2
     and t.at >= (select r.created_at - interval '1 day' from sluice.runs r where r.id = $1)
   order by t.seq limit $3`,
)

/** Every change of state of a run and its tasks after `seq`, in order. */
export function readTransitions(session: Session, runId: string, seq: number, limit: number): Promise<TransitionRow[]> {
  return session.query(after, [runId, seq, limit])
}
