/**
 * Answers to approvals. The first message under the key of a wait counts, be it an answer or its deadline: whoever puts the
 * second one finds it.
 */
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'
import { putInbox } from './inbox.ts'

/** One wait of an approval. */
export interface Asked {
  readonly runId: string
  readonly node: number
  readonly mapIndex: number
  readonly attempt: number
}

const keyOf = ({ runId, node, mapIndex, attempt }: Asked) => `answer ${runId} ${node} ${mapIndex} ${attempt}`

const lock = statement<{ open: boolean; late: boolean; state: string; run: string }>(
  'approvals.lock',
  `select t.state = 'deferred' and t.attempt = $4 and r.state in ('queued', 'running') as open,
     coalesce(t.retry_at <= sluice.sluice_now(), false) as late, t.state, r.state as run
   from sluice.tasks t join sluice.runs r on r.id = t.run_id
   where t.run_id = $1 and t.node = $2 and t.map_index = $3
   for share of t`,
)

const put = statement(
  'approvals.put_answer',
  `with put as (
     insert into sluice.inbox (run_id, kind, key, node, map_index, attempt, body)
     values ($1, 'resume', $5, $2, $3, $4, $6::json) on conflict (key) do nothing
     returning 1
   )
   select pg_notify('sluice_inbox', $1::text) from put`,
)

/**
 * Puts an answer, JSON text, for the owner of the run; in a transaction.
 * @throws SluiceError CONFLICT when the approval has ended, its deadline has passed, or it was answered already
 */
export async function putAnswer(session: Session, asked: Asked, body: string): Promise<void> {
  const { runId, node, mapIndex, attempt } = asked
  const [task] = await session.query(lock, [runId, node, mapIndex, attempt])
  if (!task?.open) {
    const state = task === undefined ? 'not asked yet' : task.state === 'deferred' ? `over: ${task.run}` : task.state
    throw new SluiceError('CONFLICT', `The approval cannot be answered: it is ${state}`)
  }
  if (task.late) throw new SluiceError('CONFLICT', 'The approval cannot be answered: its deadline has passed')
  if ((await session.execute(put, [runId, node, mapIndex, attempt, keyOf(asked), body])) === 0) {
    throw new SluiceError('CONFLICT', 'The approval was answered already, or its deadline has passed')
  }
}

/** Says that the deadline of an approval has passed, unless an answer was before it. */
export async function putDeadline(session: Session, asked: Asked): Promise<void> {
  const { runId, node, mapIndex, attempt } = asked
  const task = { node, mapIndex, attempt }
  await putInbox(session, { runId, kind: 'resume', key: keyOf(asked), task, body: '{"deadline":true}' })
}
