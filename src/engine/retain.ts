/** Keeps history within its horizon: once an hour, in batches, and never what an unfinished run or a stream needs. */
import { messageOf } from '../errors.ts'
import type { Database, Session } from '../ports/database.ts'
import type { ObjectStore } from '../ports/objects.ts'
import { forgetAnswers } from '../store/answered-requests.ts'
import { forgetBackfills } from '../store/backfills.ts'
import { withoutBackup } from '../store/backup.ts'
import { forgetDeliveries } from '../store/hook-deliveries.ts'
import { cleanInbox } from '../store/inbox.ts'
import { forgetIngestIds } from '../store/ingest.ts'
import { dropLedgerPartitions, foldLedger, makeLedgerPartitions } from '../store/ledger.ts'
import { removeDeadGrants } from '../store/limits.ts'
import { deleteOldDatasetVersions } from '../store/lineage.ts'
import { removeLapsedNodes } from '../store/nodes.ts'
import { adoptObjects, releaseObjects, sweepObjects } from '../store/objects.ts'
import {
  deleteFinishedRuns,
  deleteOldEdits,
  deleteOldTicks,
  deleteUnusedVersions,
  dropOldDays,
  listTopics,
  preparePartitions,
} from '../store/retention.ts'
import { forgetIds, trim } from '../store/topics.ts'
import { knownVersions } from '../store/versions.ts'
import type { Clock } from '../time.ts'

export interface RetainParts {
  readonly db: Database
  readonly store: ObjectStore
  readonly clock: Clock
  readonly note: (line: string) => void
  /** How long runs, records, logs and ticks are kept. */
  readonly historyMs: number
  /** The versions whose code is on this machine and was not built again since a time, by hash. */
  readonly versionFolders: (before: Date) => Promise<readonly string[]>
  /** Removes the code of a version that nothing needs any more. */
  readonly removeVersion: (hash: string) => Promise<void>
}

const firstMs = 60_000
const everyMs = 3_600_000
/** The sweep waits this long after the last need of an object. */
const graceMs = 24 * 3_600_000
const batch = 500
/** Ids are small; at thousands a second an hour has many. */
const forgetBatch = 10_000
/** Looking at every file of the store is for once a day. */
const roundsPerDay = 24

export class Retain {
  private timer: NodeJS.Timeout | undefined
  private working: Promise<void> = Promise.resolve()
  private stopped = false
  private rounds = 0
  private readonly parts: RetainParts

  constructor(parts: RetainParts) {
    this.parts = parts
  }

  /** Makes the partitions that writing needs. During a backup that would wait for its end, and all writers for us. */
  async prepare(): Promise<void> {
    await this.unlessBackedUp(async (session) => {
      await preparePartitions(session)
      await makeLedgerPartitions(session)
    })
  }

  /** The first round comes soon, for a process that seldom lives an hour. */
  start(waitMs = firstMs): void {
    this.timer = setTimeout(() => {
      this.working = this.once()
        .catch((error) => this.parts.note(`retention failed: ${messageOf(error)}`))
        .then(() => {
          if (!this.stopped) this.start(everyMs)
        })
    }, waitMs)
  }

  async stop(): Promise<void> {
    this.stopped = true
    clearTimeout(this.timer)
    await this.working
  }

  /** One round; gives how many runs were deleted. What goes wrong in one part keeps none of the others from their turn. */
  async once(): Promise<number> {
    const { db, store, clock, historyMs } = this.parts
    const before = new Date(clock.now() - historyMs)
    let runs = 0
    await this.part('making partitions', () => this.prepare())
    await this.part('cleaning the inbox', () => cleanInbox(db))
    await this.part('deleting runs', async () => {
      runs = await this.deleteRuns(before)
      await forgetBackfills(db, before)
    })
    await this.part('deleting versions of datasets', () => this.deleteDatasetVersions(before))
    await this.part('dropping days', () => this.unlessBackedUp((session) => dropOldDays(session, before)))
    await this.part('deleting ticks', async () => {
      await deleteOldTicks(db, before)
      await forgetDeliveries(db, before)
    })
    await this.part('removing versions', () => this.removeVersions(before))
    await this.part('folding the ledger', async () => {
      await foldLedger(db, new Date(clock.now() - 600_000))
      await this.unlessBackedUp((session) => dropLedgerPartitions(session, before))
    })
    await this.part('forgetting answers and edits', async () => {
      await forgetAnswers(db, before)
      await deleteOldEdits(db, before)
    })
    await this.part('forgetting ids of events', () => this.forgetIngestIds())
    await this.part('trimming topics', () => this.trimTopics(before))
    await this.part('removing nodes', async () => {
      await removeLapsedNodes(db)
      await removeDeadGrants(db)
    })
    await this.part('sweeping objects', () => this.sweep(store))
    return runs
  }

  private async part(name: string, work: () => Promise<unknown>): Promise<void> {
    if (this.stopped) return
    try {
      await work()
    } catch (error) {
      this.parts.note(`retention, ${name}: ${messageOf(error)}`)
    }
  }

  /** What a backup's snapshot would miss is left for the next round. */
  private unlessBackedUp(work: (session: Session) => Promise<unknown>): Promise<unknown> {
    return this.parts.db.transaction(async (session) => (await withoutBackup(session)) && work(session))
  }

  /** First the rows, then code without a row: what a build made and nobody deployed, and what a crash left here. */
  private async removeVersions(before: Date): Promise<void> {
    const { db, versionFolders, removeVersion } = this.parts
    const done = await this.unlessBackedUp(async (session) => {
      await deleteUnusedVersions(session, before)
      return true
    })
    if (!done) return
    const folders = await versionFolders(before)
    const known = await knownVersions(db, folders)
    for (const hash of folders) if (!known.has(hash)) await removeVersion(hash)
  }

  private async trimTopics(before: Date): Promise<void> {
    const { db } = this.parts
    for (const topic of await listTopics(db)) {
      while (!this.stopped && (await trim(db, topic, before)) > 0);
      while (!this.stopped && (await forgetIds(db, topic, before)) > 0);
    }
  }

  private async forgetIngestIds(): Promise<void> {
    while (!this.stopped && (await forgetIngestIds(this.parts.db, forgetBatch)) === forgetBatch);
  }

  private async sweep(store: ObjectStore): Promise<void> {
    await store.removeStale(graceMs)
    if (this.rounds % roundsPerDay === 0) await this.adoptStrays()
    this.rounds += 1
    for (let examined = batch; examined === batch && !this.stopped; ) {
      examined = (await sweepObjects(this.parts.db, store, { graceMs, limit: batch })).examined
    }
  }

  private async deleteRuns(before: Date): Promise<number> {
    let total = 0
    while (!this.stopped) {
      const ids = await this.parts.db.transaction(async (session) => {
        const deleted = await deleteFinishedRuns(session, before, batch)
        await releaseObjects(session, 'run', deleted)
        return deleted
      })
      total += ids.length
      if (ids.length < batch) break
    }
    return total
  }

  private async deleteDatasetVersions(before: Date): Promise<void> {
    const some = () => this.parts.db.transaction((session) => deleteOldDatasetVersions(session, before, batch))
    while (!this.stopped && (await some()) === batch);
  }

  /** Files that lost their row are given one, so that the sweep sees them. */
  private async adoptStrays(): Promise<void> {
    const { db, store } = this.parts
    let found: { sha256: string; bytes: number }[] = []
    for await (const sha256 of store.list()) {
      if (this.stopped) return
      const info = await store.stat(sha256)
      if (info) found.push(info)
      if (found.length < 1_000) continue
      await adoptObjects(db, found)
      found = []
    }
    if (found.length > 0) await adoptObjects(db, found)
  }
}
