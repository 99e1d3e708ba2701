/** The engine: a node that fires plans, owns runs, takes over those of dead nodes, and keeps history within bounds. */
import type { Manifest } from '../core/manifest.ts'
import { messageOf } from '../errors.ts'
import { releaseRuns } from '../store/runs.ts'
import { currentVersion } from '../store/versions.ts'
import { FirePlans } from './fire-plans.ts'
import { holdNodeLease } from './node-lease.ts'
import { OwnRuns, type OwnRunsParts } from './own-runs.ts'
import { Retain, type RetainParts } from './retain.ts'
import { WatchFiles } from './watch-files.ts'

export interface EngineParts extends OwnRunsParts {
  readonly host: string
  readonly pid: number
  /** Default 10,000. */
  readonly leaseMs: number
  readonly projectDir: string
  readonly retain: Pick<RetainParts, 'historyMs' | 'store'>
}

export interface Engine {
  readonly runs: OwnRuns
  /** Starts nothing more, writes what is decided, and hands the runs back. */
  stop(): Promise<void>
}

export async function startEngine(parts: EngineParts): Promise<Engine> {
  const { db, nodeId, leaseMs, note } = parts
  const runs = new OwnRuns(parts)
  const plans = new FirePlans(parts)
  const files = new WatchFiles(parts)
  const retain = new Retain({ ...parts, ...parts.retain })
  await retain.prepare()
  const lease = await holdNodeLease({
    db,
    node: { id: nodeId, kind: 'engine', host: parts.host, pid: parts.pid },
    leaseMs,
    note,
    onLost: () => {
      note('this engine was taken for dead; it reads its runs again')
      runs.forgetAll()
      void runs.wake()
    },
  })
  const follow = serially(async () => {
    const manifest = await currentVersion(db)
    if (manifest) await followAll(manifest, plans, files)
  }, note)
  const unlisten = await Promise.all([
    db.listen(
      'sluice_runs',
      () => void runs.wake(),
      () => void runs.wake(),
    ),
    db.listen(
      'sluice_inbox',
      () => void runs.wake(),
      () => void runs.wake(),
    ),
    db.listen('sluice_deployment', follow, follow),
  ])
  // Notifications can be lost and other nodes can die unseen; a third of the lease finds both in time.
  const sweep = setInterval(() => void runs.wake(), leaseMs / 3)
  follow()
  await runs.wake()
  retain.start()
  return {
    runs,
    async stop() {
      clearInterval(sweep)
      await Promise.all(unlisten.map((stop) => stop()))
      await Promise.all([plans.stop(), files.stop(), retain.stop()])
      await runs.stop()
      await releaseRuns(db, nodeId)
      await lease.stop()
    },
  }
}

async function followAll(manifest: Manifest, plans: FirePlans, files: WatchFiles): Promise<void> {
  await plans.follow(manifest)
  await files.follow(manifest)
}

/** Calls `work` again and again but never at once; what goes wrong is noted. */
function serially(work: () => Promise<void>, note: (line: string) => void): () => void {
  let last = Promise.resolve()
  return () => {
    last = last.then(work).catch((error) => note(`following the deployment failed: ${messageOf(error)}`))
  }
}
