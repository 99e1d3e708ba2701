/**
 * Runs on two engines while nothing fails; then cancels at bad moments, runners that die, an engine that comes back from
 * the dead with a write in its hand, one that dies in the middle of a graph, and retries that span all of it.
 */
import { statement } from '../../../src/ports/database.ts'
import { EngineWorld, until } from '../../engine-world.ts'
import type { Findings } from '../findings.ts'
import { Gate, heldUp } from '../zombie.ts'

const forgetNode = statement('test.forget-node', 'delete from sluice.nodes where id = $1')

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
    const one = await world.engine({ settings, random })
    const two = await world.engine({ settings, random })
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

    // A runner that dies; a task that waits for its retry; runs that are cancelled while they run, wait, or have half ended.
    await start('delayed')
    await start('quits')
    const cancelled = [await start('gated', world.place('stopped')), await start('rules', world.place('cut'))]
    const waiting = await start('postponed')
    await world.started('stopped')
    await world.started('cut')
    await until('the retry to wait', async () => (await world.tasks(waiting))[0]?.state === 'up_for_retry')
    await findings.look(world)
    for (const id of [...cancelled, waiting]) await world.cancel(id)
    for (const id of [...cancelled, waiting]) {
      const state = await world.ended(id)
      if (state !== 'cancelled') findings.note(4, `run ${id} was cancelled, and is ${state}`)
    }
    await findings.look(world)
    await world.allEnded()
    await findings.look(world, { atRest: true, acknowledged: { runs } })
    await two.stop()
    await one.stop()

    // An engine is taken for dead. What it was about to write arrives when another has its run, and has not begun.
    const dead = await world.engine({ settings, random, wrap: heldUp(late, 'fail') })
    const held = await start('gated', world.place('zombie'))
    await world.started('zombie')
    late.shut()
    await world.go('zombie')
    await until('a write to be held', () => late.held > 0)
    await world.db.execute(forgetNode, [dead.nodeId])
    begun.shut()
    const next = await world.engine({ settings, random, leaseMs: 1_000, wrap: heldUp(begun, 'pass') })
    await until('the run to be adopted', async () => (await world.run(held)).node_id === next.nodeId)
    late.open()
    await until('the late write to be answered', () => late.held === 0)
    await findings.look(world)
    begun.open()
    await world.ended(held)
    await findings.look(world)
    await dead.crash()

    // An engine dies with a graph half done and a retry to come.
    const torn = await start('rules', world.place('torn'))
    for (const workflow of ['stages', 'delayed']) await start(workflow)
    await start('maps', { n: 12 })
    await world.started('torn')
    await next.crash()
    await findings.look(world)
    const last = await world.engine({ settings, random })
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
