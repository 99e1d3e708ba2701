/** The engine: a node that fires plans, owns runs, takes over those of dead nodes, and keeps history within bounds. */
import { leaseTimes } from '../core/lease.ts'
import { messageOf } from '../errors.ts'
import type { LocalEvents, LocalExecutor } from '../executors/local.ts'
import type { Session } from '../ports/database.ts'
import { releaseRuns } from '../store/runs.ts'
import { currentVersion } from '../store/versions.ts'
import { Backfills } from './backfill.ts'
import { datasetPlans } from './dataset-plans.ts'
import { EventPlans } from './event-plans.ts'
import { FirePlans } from './fire-plans.ts'
import { holdNodeLease } from './node-lease.ts'
import { OwnRuns, type OwnRunsParts } from './own-runs.ts'
import { recordPlans } from './record-plans.ts'
import { Retain, type RetainParts } from './retain.ts'
import { WatchFiles } from './watch-files.ts'

export interface EngineParts extends Omit<OwnRunsParts, 'executor'> {
  /** Opened first of all, so that its runners warm up; an attempt's end finds the engine from the first one on. */
  readonly openExecutor: (ends: Pick<LocalEvents, 'ended' | 'batchEnded'>) => LocalExecutor
  readonly host: string
  readonly pid: number
  /** How long, in milliseconds, the node may be silent before others take its runs. */
  readonly leaseMs: number
  /** A connection for the lease alone, whose limits are `leaseTimes(leaseMs).answerMs`; default `db`. */
  readonly heartbeat?: Session
  /** Fails what waits on the engine's connections, since the database seems not to answer. */
  readonly abandonConnections?: () => void
  readonly projectDir: string
  readonly retain: Pick<RetainParts, 'historyMs' | 'store' | 'versionFolders' | 'removeVersion'>
}

export interface Engine {
  readonly runs: OwnRuns
  /** Starts nothing more, writes what is decided, ends the runners, and hands the runs back. */
  stop(): Promise<void>
}

export async function startEngine(parts: EngineParts): Promise<Engine> {
  const { db, nodeId, leaseMs, note } = parts
  const executor = parts.openExecutor({
    ended: (attempt, outcome) => runs.ended(attempt, outcome),
    batchEnded: () => runs.pump(),
  })
  const runs = new OwnRuns({ ...parts, executor })
  const plans = [
    new FirePlans(parts),
    new WatchFiles(parts),
    new EventPlans(parts, recordPlans),
    new EventPlans(parts, datasetPlans),
  ]
  const backfills = new Backfills(parts)
  const retain = new Retain({ ...parts, ...parts.retain })
  await retain.prepare()
  let turns = 0
  /** Gives the number of the turn when no attempt runs any more. */
  const letGo = async (): Promise<number> => {
    turns += 1
    const turn = turns
    runs.suspend()
    await executor.abandon(leaseTimes(leaseMs).graceMs)
    return turn
  }
  const lease = await holdNodeLease({
    db: parts.heartbeat ?? db,
    node: { id: nodeId, kind: 'engine', host: parts.host, pid: parts.pid },
    leaseMs,
    note,
    onHeld: (until) => executor.mayWork(until),
    onDoubt: () => {
      note('the lease cannot be renewed: attempts are ended before others may take their runs')
      void letGo()
      parts.abandonConnections?.()
    },
    onBack: async () => {
      note('this engine was taken for dead, or might have been; it reads its runs again')
      // What was told to stop may take its time, and must not run beside what is begun now; meanwhile the lease may be in doubt again.
      if ((await letGo()) === turns) await runs.startOver()
    },
  })
  const follow = serially(async () => {
    const manifest = await currentVersion(db)
    if (manifest) for (const some of plans) await some.follow(manifest)
  }, note)
  const unlisten = await Promise.all([
    db.listen(
      'sluice_runs',
      () => void runs.wake(),
      () => void runs.wake(),
    ),
    db.listen(
      'sluice_limits',
      (news) => runs.limits.heard(news),
      () => runs.limits.sweep(),
    ),
    db.listen(
      'sluice_inbox',
      () => void Promise.all([runs.wake(), backfills.wake()]),
      () => void Promise.all([runs.wake(), backfills.wake()]),
    ),
    db.listen(
      'sluice_backfills',
      () => void backfills.wake(),
      () => void backfills.wake(),
    ),
    db.listen('sluice_run_ended', (id) => backfills.runEnded(id)),
    db.listen('sluice_deployment', follow, follow),
  ])
  // Notifications can be lost and other nodes can die unseen; a third of the lease finds both in time.
  const sweep = setInterval(() => {
    runs.limits.sweep()
    void Promise.all([runs.wake(), backfills.wake()])
  }, leaseMs / 3)
  follow()
  void backfills.wake()
  await runs.wake()
  retain.start()
  return {
    runs,
    async stop() {
      clearInterval(sweep)
      await Promise.all(unlisten.map((stop) => stop()))
      await Promise.all([...plans.map((some) => some.stop()), backfills.stop(), retain.stop()])
      await runs.stop()
      // Before the runs are anybody's: else their attempts would be tried elsewhere while they still run here.
      await executor.stop()
      await runs.limits.giveUp()
      await releaseRuns(db, nodeId)
      await lease.stop()
    },
  }
}

/** Calls `work` again and again but never at once; what goes wrong is noted. */
function serially(work: () => Promise<void>, note: (line: string) => void): () => void {
  let last = Promise.resolve()
  return () => {
    last = last.then(work).catch((error) => note(`following the deployment failed: ${messageOf(error)}`))
  }
}
