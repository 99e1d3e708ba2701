/** Objects that are claimed, referred to, shared, released and swept; results that are large; documents that name bytes. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { openFiles } from '../../../src/objects/files.ts'
import { statement } from '../../../src/ports/database.ts'
import { groupedClaims, referToObjects, releaseObjects, sweepObjects } from '../../../src/store/objects.ts'
import { deleteFinishedRuns } from '../../../src/store/retention.ts'
import { EngineWorld } from '../../engine-world.ts'
import type { Findings } from '../findings.ts'

const endClaims = statement(
  'test.end-claims',
  `update sluice.object_claims set expires_at = sluice.sluice_now() - interval '1 minute'`,
)
/** Rows of runs, each in a table of its own. */
const kept = statement<{ lists: number; steps: number; progress: number; wishes: number }>(
  'test.kept',
  `select (select count(*) from sluice.map_ranges)::int as lists, (select count(*) from sluice.checkpoints)::int as steps,
     (select count(*) from sluice.task_progress)::int as progress, (select count(*) from sluice.inbox)::int as wishes`,
)
const endIdle = statement(
  'test.end-idle',
  `update sluice.objects set idle_since = sluice.sluice_now() - interval '1 minute' where idle_since is not null`,
)

export default async function objects(findings: Findings): Promise<void> {
  const world = await EngineWorld.open('seeded-project')
  const home = join(world.dir, 'home')
  const store = openFiles(join(home, 'objects'))
  const sweep = (graceMs = 0) => sweepObjects(world.db, store, { graceMs })
  await findings.within(world, async () => {
    const engine = await world.engine()
    const ids = [await world.start('weighs', { seed: 'ab' }), await world.start('weighs', { seed: 'cd' })]
    for (const name of ['first', 'second', 'first']) ids.push(await world.start('keeping', { name }))
    await Promise.all([sweep(), sweep()])
    for (const id of ids) {
      const state = await world.ended(id)
      if (state !== 'success')
        findings.note(12, `run ${id} of what it put ended as ${state}: ${(await world.run(id)).error}`)
    }
    await sweep()
    await findings.look(world, { acknowledged: { runs: ids } })

    // A claim protects what was put and is not referred to yet, however often it is swept.
    const put = (text: string, claimant: string) =>
      store.put(Buffer.from(text), groupedClaims(world.db, claimant, 60_000))
    const refer = (sha256: string, id: string, claimant: string) =>
      world.db.transaction((session) => referToObjects(session, claimant, [{ sha256, kind: 'seeded', id }]))
    const { sha256 } = await put('claimed bytes', 'one')
    await sweep()
    await world.db.execute(endIdle)
    await sweep()
    await findings.must(12, 'what is claimed was not there to be referred to', () => refer(sha256, 'a', 'one'))
    await put('claimed bytes', 'two')
    await findings.must(12, 'what is claimed was not there to be referred to', () => refer(sha256, 'b', 'two'))
    await world.db.execute(endIdle)
    await sweep()
    await findings.look(world)

    // One of two references goes: it stays. A put that was never referred to goes when its claim has ended.
    await world.db.transaction((session) => releaseObjects(session, 'seeded', ['a']))
    await put('forgotten bytes', 'three')
    await world.db.execute(endClaims)
    await world.db.execute(endIdle)
    await sweep(1_000)
    await findings.look(world)
    const forgotten = createHash('sha256').update('forgotten bytes').digest('hex')
    if ((await store.stat(forgotten)) !== undefined) findings.note(12, 'forgotten bytes are still stored')
    if ((await store.stat(sha256)) === undefined) findings.note(12, 'bytes that are referred to are gone')

    // Runs leave, and with them what only they needed: of every kind that a run has.
    const others = [await world.start('maps', { n: 3 }), await world.start('writes')]
    const cancelled = await world.start('gated', world.place('cut'))
    await world.started('cut')
    await world.cancel(cancelled)
    for (const id of [...others, cancelled]) await world.ended(id)
    await engine.stop()
    for (const [what, rows] of Object.entries((await world.db.query(kept))[0]!))
      if (rows === 0) throw new Error(`there are no ${what} to be deleted`)
    await findings.look(world, { atRest: true, home })
    await world.db.transaction(async (session) => {
      const deleted = await deleteFinishedRuns(session, new Date(Date.now() + 60_000), 100)
      await releaseObjects(session, 'run', deleted)
    })
    await world.db.execute(endClaims)
    await world.db.execute(endIdle)
    await sweep(1_000)
    await findings.look(world, { atRest: true, home, sweepGraceMs: 10_000, historyMs: -120_000 })
    let left = 0
    for await (const _ of store.list()) left += 1
    // Those of two documents, and of the reference that was not released.
    if (left !== 3) findings.note(12, `${left} objects are stored, and 3 are needed`)
  })
}
