/** Approvals that wait for an answer, of all runs, those of the oldest runs first. */
import { type Session, statement } from '../../ports/database.ts'

export interface WaitingApproval {
  readonly runId: string
  readonly node: number
  readonly mapIndex: number
  readonly attempt: number
  readonly workflow: string
  readonly version: string
  readonly askedAt: Date
  readonly deadline: Date | null
  /** `shown` has title and what is shown. */
  readonly wait: { readonly shown?: { readonly title?: unknown; readonly show?: unknown } }
}

export interface ApprovalPlace {
  readonly runId: string
  readonly node: number
  readonly mapIndex: number
}

/** Before all others. */
export const firstApproval: ApprovalPlace = {
  runId: '00000000-0000-0000-0000-000000000000',
  node: -1,
  mapIndex: -1,
}

const list = statement<WaitingApproval>(
  'reading.approvals',
  `select t.run_id as "runId", t.node, t.map_index as "mapIndex", t.attempt, r.workflow, r.version,
     t.started_at as "askedAt", t.retry_at as deadline, t.wait
   from sluice.tasks t join sluice.runs r on r.id = t.run_id
   where t.wait is not null and (t.run_id, t.node, t.map_index) > ($1::uuid, $2, $3)
     and t.state = 'deferred' and t.wait ->> 'kind' = 'approval' and r.state in ('queued', 'running')
     and not exists (
       select from sluice.inbox i where i.run_id = t.run_id and i.kind = 'resume' and i.node = t.node
         and i.map_index = t.map_index and i.attempt = t.attempt)
   order by t.run_id, t.node, t.map_index limit $4`,
)
const ofRun = statement<WaitingApproval>(
  'reading.approvals_of_run',
  `select t.run_id as "runId", t.node, t.map_index as "mapIndex", t.attempt, r.workflow, r.version,
     t.started_at as "askedAt", t.retry_at as deadline, t.wait
   from sluice.tasks t join sluice.runs r on r.id = t.run_id
   where t.wait is not null and t.run_id = $5 and (t.run_id, t.node, t.map_index) > ($1::uuid, $2, $3)
     and t.state = 'deferred' and t.wait ->> 'kind' = 'approval' and r.state in ('queued', 'running')
     and not exists (
       select from sluice.inbox i where i.run_id = t.run_id and i.kind = 'resume' and i.node = t.node
         and i.map_index = t.map_index and i.attempt = t.attempt)
   order by t.run_id, t.node, t.map_index limit $4`,
)

/** Those after a place that nobody has answered; `runId` for those of one run. */
export function listApprovals(
  session: Session,
  { after, limit, runId }: { after: ApprovalPlace; limit: number; runId?: string | undefined },
): Promise<WaitingApproval[]> {
  const values = [after.runId, after.node, after.mapIndex, limit]
  return runId === undefined ? session.query(list, values) : session.query(ofRun, [...values, runId])
}
