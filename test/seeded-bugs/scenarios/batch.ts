/**
 * Runs on two engines while nothing fails; then cancels at bad moments, runners that die, an engine that comes back from
 * the dead with a write in its hand, one that dies in the middle of a graph, and retries that span all of it.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { statement } from '../../../src/ports/database.ts'
import { EngineWorld, until } from '../../engine-world.ts'
import type { Findings } from '../findings.ts'
import { Gate, heldUp } from '../zombie.ts'

const forgetNode = statement('test.forget-node', 'delete from sluice.nodes where id = $1')
const published = statement<{ records: number }>(
  'test.published',
  `select count(*)::int as records from sluice.topic_records where topic = 'things'`,
)
/** Longer than any scenario: a busy machine takes no lease away, and no node that was forgotten registers again. */
const leaseMs = 600_000

export default async function batch(findings: Findings): Promise<void> {
  const world = await EngineWorld.open('seeded-project')
  await findings.within(world, async () => {
    const runs: string[] = []
    const start = async (workflow: string, params: object = {}) => {
      const id = await world.start(workflow, params)
      runs.push(id)
      return id
    }
    const settings = { runners: 1, graceMs: 500 }
    const [late, begun] = [findings.opened(new Gate()), findings.opened(new Gate())]
    // Retries wait at least half of what they may.
    const random = () => 0.5 + Math.random() / 2

    // Nothing fails: two engines, each with its own runs. Each start wakes both, and they look for what is free.
    const one = await world.engine({ settings, random, leaseMs })
    const two = await world.engine({ settings, random, leaseMs })
    await start('gated', world.place('calm'))
    await start('rules', world.place('graph'))
    await world.started('calm')
    await world.started('graph')
    for (const workflow of ['stages', 'fails', 'writes']) await start(workflow)
    await start('maps', { n: 12 })
    await findings.look(world, { undisturbed: true })
    await world.go('calm')
    await world.go('graph')
    await world.allEnded()
    await findings.look(world, { undisturbed: true, atRest: true, acknowledged: { runs } })
    const { records } = (await world.db.query(published))[0]!
    if (records !== 300) findings.note(2, `an action that published 300 records, in two attempts, left ${records}`)

    // A runner that dies; a task that waits for its retry; runs that are cancelled while they run, wait, or have half ended.
    const delayed = await start('delayed')
    const quits = await start('quits')
    const cancelled = [await start('gated', world.place('stopped')), await start('rules', world.place('cut'))]
    const waiting = await start('postponed')
    await world.started('stopped')
    await world.started('cut')
    await until('the retry to wait', async () => (await world.tasks(waiting))[0]?.state === 'up_for_retry')
    await until('four retries to wait', async () => {
      const tasks = (await world.tasks(delayed)).filter((task) => task.map_index >= 0)
      return tasks.length === 4 && tasks.every((task) => task.state === 'up_for_retry' || task.attempt > 1)
    })
    await findings.look(world)
    for (const id of [...cancelled, waiting]) await world.cancel(id)
    for (const id of [...cancelled, waiting]) {
      const state = await world.ended(id)
      if (state !== 'cancelled') findings.note(4, `run ${id} was cancelled, and is ${state}`)
    }
    await findings.look(world)
    await world.allEnded()
    const quit = (await world.tasks(quits))[0]!
    if (quit.state !== 'success' || quit.losses < 1 || quit.attempt !== quit.losses + 1)
      findings.note(7, `a task whose runner exits once ended as ${JSON.stringify(quit)}`)
    await findings.look(world, { atRest: true, acknowledged: { runs } })
    await two.stop()
    await one.stop()

    // An engine is taken for dead. What it was about to write arrives when another has its run, and has not begun.
    const dead = await world.engine({ settings, random, leaseMs, wrap: heldUp(late, 'fail') })
    const held = await start('gated', world.place('zombie'))
    const lingering = await start('lingering', world.place('lingering'))
    await world.started('zombie')
    await world.started('lingering')
    await findings.look(world)
    late.shut()
    await world.go('zombie')
    await until('a write to be held', () => late.held > 0)
    await world.db.execute(forgetNode, [dead.nodeId])
    begun.shut()
    const next = await world.engine({ settings, random, leaseMs: 3_000, wrap: heldUp(begun, 'pass') })
    for (const id of [held, lingering])
      await until('the run to be adopted', async () => (await world.run(id)).node_id === next.nodeId)
    late.open()
    await until('the late write to be answered', () => late.held === 0)
    await findings.look(world)
    begun.open()
    await world.ended(held)
    await findings.look(world)

    // So does an attempt of its: it writes all that it can when another attempt of its task is live.
    await world.started('lingering', 2)
    await world.go('lingering.first')
    for (const [what, end] of await writesOf(world, 'lingering', 1)) {
      if (end === 'accepted') findings.note(3, `the ${what} of an attempt was accepted when another was live`)
      else if (!end.includes('no longer the live one')) throw new Error(`the ${what} was refused otherwise: ${end}`)
    }
    await world.go('lingering.others')
    const state = await world.ended(lingering)
    if (state !== 'success') findings.note(9, `run ${lingering} ended as ${state}`)
    const { attempt } = (await world.tasks(lingering))[0]!
    for (const [what, end] of await writesOf(world, 'lingering', attempt))
      if (end !== 'accepted') throw new Error(`the ${what} of the live attempt was refused: ${end}`)
    await findings.look(world)
    await dead.crash()

    // An engine dies with a graph half done and a retry to come.
    const torn = await start('rules', world.place('torn'))
    for (const workflow of ['stages', 'delayed']) await start(workflow)
    await start('maps', { n: 12 })
    await world.started('torn')
    await next.crash()
    await findings.look(world)
    const last = await world.engine({ settings, random, leaseMs })
    await world.started('torn', 2)
    await findings.look(world)
    await world.go('torn')
    await world.ended(torn)
    await world.allEnded()
    await last.stop()
    const processes = [one, two, dead, next, last].flatMap(({ forked }) => forked.flatMap(({ pid }) => pid ?? []))
    await findings.look(world, { atRest: true, acknowledged: { runs }, processes, home: `${world.dir}/home` })
  })
}

/** What became of the writes of an attempt of the workflow `lingering`. */
async function writesOf(world: EngineWorld, name: string, attempt: number): Promise<[string, string][]> {
  const file = join(world.dir, `${name}.${attempt}.writes`)
  await until(`the writes of ${name} ${attempt}`, () => existsSync(file))
  return JSON.parse(readFileSync(file, 'utf8'))
}
