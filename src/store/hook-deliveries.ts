/** Deliveries of webhooks, each under every key that no other may have: what comes again starts nothing again. */
import { type Session, statement } from '../ports/database.ts'

const claimStatement = statement<{ runId: string }>(
  'hook-deliveries.claim',
  `insert into sluice.hook_deliveries as d (workflow, plan, key, run_id)
   select $1, $2, k.key, $4 from unnest($3::text[]) with ordinality as k(key, nth) order by k.nth
   on conflict (workflow, plan, key) do update set run_id = d.run_id
   returning d.run_id as "runId"`,
)

const repointStatement = statement(
  'hook-deliveries.repoint',
  'update sluice.hook_deliveries set run_id = $4 where workflow = $1 and plan = $2 and run_id = $3',
)

/**
 * Claims the keys of a delivery for a run; whoever comes with one of them meanwhile waits for the transaction's end. Gives the
 * run that an earlier delivery started, or undefined.
 */
export async function claimDelivery(
  session: Session,
  { workflow, plan }: { readonly workflow: string; readonly plan: string },
  keys: readonly string[],
  runId: string,
): Promise<string | undefined> {
  const rows = await session.query(claimStatement, [workflow, plan, keys, runId])
  const earlier = rows.find((row) => row.runId !== runId)?.runId
  // Keys that are new belong to the same delivery from now on.
  if (earlier !== undefined) await session.execute(repointStatement, [workflow, plan, runId, earlier])
  return earlier
}

const forgetStatement = statement('hook-deliveries.forget', 'delete from sluice.hook_deliveries where at < $1')

/** Forgets deliveries before a time; gives the number of keys. */
export function forgetDeliveries(session: Session, before: Date): Promise<number> {
  return session.execute(forgetStatement, [before])
}
