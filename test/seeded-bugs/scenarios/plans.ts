/** Plans that nobody watched for a while, by two engines at once, a workflow that is paused, and files that arrive. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Database, statement } from '../../../src/ports/database.ts'
import { EngineWorld, until } from '../../engine-world.ts'
import type { Findings } from '../findings.ts'
import { watched } from '../zombie.ts'

/** As if the plans had been followed up to then. */
const standAt = statement(
  'test.plans-stand-at',
  `insert into sluice.plan_cursors (workflow, plan, since)
   select w ->> 'name', p ->> 'name', date_trunc('minute', sluice.sluice_now()) - $1 * interval '1 minute'
   from sluice.versions v, json_array_elements(v.manifest -> 'workflows') w, json_array_elements(w -> 'plans') p
   where p ->> 'kind' = 'cron'`,
)
const pause = statement('test.pause', `update sluice.workflows set paused = true where name = 'paused'`)
const ticks = statement<{ ticks: number }>(
  'test.count-ticks',
  'select count(*)::int as ticks from sluice.ticks where workflow = $1',
)
const ofPaused = statement<{ runs: number; handled: number }>(
  'test.of-paused',
  `select (select count(*) from sluice.runs where workflow = 'paused')::int as runs,
     (select count(*) from sluice.ticks where workflow = 'paused' and outcome <> 'skipped')::int as handled`,
)
const arrived = statement<{ runs: number }>(
  'test.count-arrivals',
  `select count(*)::int as runs from sluice.runs where workflow = 'arrivals'`,
)

export default async function plans(findings: Findings): Promise<void> {
  const world = await EngineWorld.open('seeded-project')
  await findings.within(world, async () => {
    await world.db.execute(standAt, [31])
    await world.db.execute(pause)
    await findings.look(world)
    const tickedOf = async (workflow: string) => (await world.db.query(ticks, [workflow]))[0]!.ticks
    await mkdir(join(world.dir, 'inbox'))

    // The first engine fails whenever ticks are half written; the second finds them as they were.
    const first = await world.engine({ wrap: failingTicks(1) })
    const second = await world.engine()
    await until(
      'the ticks that were missed',
      async () => (await tickedOf('planned')) >= 31 && (await tickedOf('paused')) >= 10,
    )
    await findings.look(world)
    const { runs, handled } = (await world.db.query(ofPaused))[0]!
    if (runs + handled > 0)
      findings.note(10, `a paused workflow has ${runs} runs and ${handled} ticks that were not skipped`)
    const fileRuns = async () => (await world.db.query(arrived))[0]!.runs
    await writeFile(join(world.dir, 'inbox/a.txt'), 'a')
    await writeFile(join(world.dir, 'inbox/b.txt'), 'b')
    await until('two files to arrive', async () => (await fileRuns()) >= 2)
    await findings.look(world)
    await writeFile(join(world.dir, 'inbox/a.txt'), 'changed')
    await until('a changed file to arrive', async () => (await fileRuns()) >= 3)
    await world.allEnded()
    await first.stop()
    await second.stop()
    if ((await fileRuns()) !== 3) findings.note(10, `${await fileRuns()} runs for 3 arrivals`)
    await findings.look(world, { atRest: true })
  })
}

/** Transactions that fail after their last statement, before the commit, when they wrote ticks. */
function failingTicks(times: number) {
  let left = times
  return (db: Database): Database => ({
    ...db,
    transaction: (work) =>
      db.transaction(async (session) => {
        let wrote = false
        const watching = watched(session, (sql, go) => {
          wrote ||= sql.name === 'plans.tick'
          return go()
        })
        const result = await work(watching)
        if (!wrote || left === 0) return result
        left -= 1
        throw Object.assign(new Error('the server went away'), { code: '57P01' })
      }),
  })
}
