/**
 * What waits, branches, is set up and torn down, and runs in runs: while nothing fails; when it is cancelled; when the engine
 * dies in the midst of it; and when it is cleared and runs again.
 */
import { WorkflowGraphs } from '../../../src/engine/workflow-graphs.ts'
import { statement } from '../../../src/ports/database.ts'
import { putAnswer } from '../../../src/store/approvals.ts'
import { clearRun } from '../../../src/store/clear.ts'
import { EngineWorld, until } from '../../engine-world.ts'
import type { Findings } from '../findings.ts'

const forgetNode = statement('test.forget-node', 'delete from sluice.nodes where id = $1')
const runsOf = statement<{ id: string; state: string; error: string | null; result: string | null }>(
  'test.semantics.run',
  'select id, state, error, result from sluice.runs where id = $1',
)
const childrenOf = statement<{ id: string; state: string }>(
  'test.semantics.children',
  'select id, state from sluice.runs where parent_run_id = $1 order by id',
)
const logOf = statement<{ node: number; to_state: string; seq: number }>(
  'test.semantics.log',
  'select node, to_state, seq::int as seq from sluice.transitions where run_id = $1 and node >= 0 order by seq',
)
const leaseMs = 600_000

export default async function semantics(findings: Findings): Promise<void> {
  const world = await EngineWorld.open('seeded-semantics')
  await findings.within(world, () => new Play(world, findings).play())
}

/** Runs that are half done. */
type Begun = Readonly<Record<'asks' | 'waits' | 'holds' | 'sets' | 'right' | 'tired', string>>

class Play {
  readonly #world: EngineWorld
  readonly #findings: Findings
  readonly #runs: string[] = []

  constructor(world: EngineWorld, findings: Findings) {
    this.#world = world
    this.#findings = findings
  }

  async play(): Promise<void> {
    // Longer than it takes whatever is stopped here: a runner that is killed takes others with it.
    const settings = { runners: 1, graceMs: 10_000 }
    const one = await this.#world.engine({ settings, leaseMs })
    await this.#calm()
    await this.#cancelled()
    const open = await this.#begun()
    await one.crash()
    await this.#world.db.execute(forgetNode, [one.nodeId])
    const two = await this.#world.engine({ settings, leaseMs })
    await this.#adopted(open)
    await this.#cleared()
    await two.stop()
    await this.#findings.look(this.#world, { atRest: true, acknowledged: { runs: this.#runs } })
  }

  async #start(workflow: string, params: object = {}): Promise<string> {
    const id = await this.#world.start(workflow, params)
    this.#runs.push(id)
    return id
  }

  async #run(id: string) {
    return (await this.#world.db.query(runsOf, [id]))[0]!
  }

  /** The run ends, as is expected; `invariant` says which is broken when it does not. */
  async #expect(invariant: number, id: string, expected: { state: string; result?: unknown; error?: RegExp }) {
    await this.#world.ended(id)
    const { state, error, result } = await this.#run(id)
    const wrong =
      state !== expected.state ||
      ('result' in expected && result !== JSON.stringify(expected.result)) ||
      (expected.error && !expected.error.test(error ?? ''))
    if (wrong)
      this.#findings.note(
        invariant,
        `run ${id} is ${state}: ${error ?? ''} ${result ?? ''}; ${JSON.stringify(expected)}`,
      )
  }

  /** By the id of its node: the states of the tasks. */
  async #states(workflow: string, id: string): Promise<Record<string, string>> {
    const nodes = this.#world.version.manifest.workflows.find(({ name }) => name === workflow)!.nodes
    const states: Record<string, string> = {}
    for (const task of await this.#world.tasks(id)) states[nodes[task.node]!.id] = `${task.state} ${task.attempt}`
    return states
  }

  async #expectStates(invariant: number, workflow: string, id: string, expected: Record<string, string>) {
    const found = await this.#states(workflow, id)
    for (const [node, state] of Object.entries(expected))
      if (found[node] !== state)
        this.#findings.note(invariant, `${node} of ${workflow} is ${found[node]}, not ${state}`)
  }

  async #answer(id: string, node: number, approved: boolean): Promise<void> {
    await until(`approval ${node} to be asked`, async () =>
      (await this.#world.tasks(id)).some((task) => task.node === node && task.state === 'deferred'),
    )
    const attempt = (await this.#world.tasks(id)).find((task) => task.node === node)!.attempt
    const body = { approved, by: 'ann', note: null, at: new Date().toISOString(), form: null, onRefuse: 'skip' }
    await this.#world.db.transaction((session) =>
      putAnswer(session, { runId: id, node, mapIndex: -1, attempt }, JSON.stringify(body)),
    )
  }

  async #look(undisturbed = false): Promise<void> {
    await this.#findings.look(this.#world, undisturbed ? { undisturbed } : {})
  }

  /** Nothing fails. */
  async #calm(): Promise<void> {
    const world = this.#world
    const place = (name: string) => world.place(name)
    const left = await this.#start('chooses', { arm: 'left', go: false, gate: place('left') })
    const right = await this.#start('chooses', { arm: 'right', go: true, gate: place('right') })
    const asks = await this.#start('asks')
    const waits = await this.#start('waits', { ms: 1 })
    const parent = await this.#start('parent', { n: 70 })
    const unlucky = await this.#start('unlucky')
    const sets = await this.#start('sets', { gate: place('sets'), fails: true })
    const [policies, skips, tired, limited] = await Promise.all(
      ['policies', 'skips', 'tired', 'limited'].map((workflow) => this.#start(workflow)),
    )
    await world.started('left')
    await world.started('sets')
    for (let look = 0; look < 3; look += 1) await this.#look(true)
    for (const name of ['left', 'right', 'sets']) await world.go(name)
    await this.#answer(asks, 0, true)
    await this.#answer(asks, 2, false)
    await this.#look(true)
    await this.#expect(5, left, { state: 'success' })
    await this.#expectStates(5, 'chooses', left, {
      inside: 'skipped 0',
      right: 'skipped 0',
      one: 'success 1',
      two: 'skipped 0',
    })
    await this.#expect(5, right, { state: 'success' })
    await this.#expectStates(5, 'chooses', right, { left: 'skipped 0', inside: 'skipped 0', right: 'success 1' })
    await this.#expect(7, policies!, { state: 'failed', error: /refused, other/ })
    await this.#expectStates(7, 'policies', policies!, { refused: 'failed 3', other: 'failed 1' })
    await this.#expect(5, skips!, { state: 'success', result: [0, null, 2] })
    await this.#expectStates(5, 'skips', skips!, { odd: 'skipped 1', 'after-odd': 'skipped 0', 'in-a': 'skipped 0' })
    await this.#expect(5, sets, { state: 'success' })
    await this.#look(true)
    await this.#expect(6, limited!, { state: 'failed', error: /^TIMEOUT: the run took/ })
    const inTime = await this.#states('limited', limited!)
    if (inTime.open === 'success 1' && inTime.close !== 'success 1')
      this.#findings.note(5, `what was opened in a run whose time was over was closed so: ${inTime.close}`)
    await this.#expect(7, unlucky, { state: 'failed' })
    await this.#expectStates(7, 'unlucky', unlucky, { child: 'failed 2' })
    await this.#expect(1, parent, {
      state: 'success',
      result: {
        last: 20,
        many: Array.from({ length: 70 }, (_, n) => ({ doubled: 2 * n })),
        bodies: [[0], [0, 2]],
      },
    })
    await this.#expect(10, asks, { state: 'success', result: { by: 'ann', late: true } })
    await this.#expectStates(5, 'asks', asks, { published: 'success 1', removed: 'skipped 0' })
    await this.#expect(6, tired!, { state: 'failed' })
    const [tries] = await world.tasks(tired!)
    if (!tries!.error?.startsWith('TIMEOUT: the time limit'))
      this.#findings.note(6, `within its time a task ended so: ${tries!.error}`)
    await this.#expect(7, waits, { state: 'success', result: { looked: 5, napped: 12 } })
    await this.#look(true)
    await this.#findings.look(world, { undisturbed: true, atRest: true, acknowledged: { runs: this.#runs } })
  }

  /** Runs are cancelled that wait, have started others, and have something to tear down. */
  async #cancelled(): Promise<void> {
    const world = this.#world
    const sets = await this.#start('sets', { gate: world.place('torn'), fails: false })
    const holds = await this.#start('holds', { first: world.place('inner-1'), second: world.place('inner-2') })
    const [asks, waits] = [await this.#start('asks'), await this.#start('waits', { ms: 2 })]
    for (const name of ['torn', 'inner-1', 'inner-2']) await world.started(name)
    await until('the approvals to be asked', async () => (await world.tasks(asks)).length === 3)
    await until('the timer to wait', async () => (await world.tasks(waits)).some((task) => task.state === 'deferred'))
    await this.#look()
    for (const id of [sets, holds, asks, waits]) await world.cancel(id)
    for (const id of [sets, holds, asks, waits]) await this.#expect(8, id, { state: 'cancelled' })
    await this.#expectStates(5, 'sets', sets, { work: 'cancelled 1', 'after-work': 'cancelled 0', close: 'success 1' })
    const log = await world.db.query(logOf, [sets])
    const worked = log.find(({ node, to_state }) => node === 1 && to_state === 'cancelled')
    const torn = log.find(({ node, to_state }) => node === 3 && to_state === 'running')
    if (worked && torn && torn.seq < worked.seq) this.#findings.note(5, 'it was torn down while the work went on')
    for (const { id } of await world.db.query(childrenOf, [holds])) await this.#expect(8, id, { state: 'cancelled' })
    await this.#look()
  }

  /** All that can wait waits, and something of each is done. */
  async #begun(): Promise<Begun> {
    const world = this.#world
    const asks = await this.#start('asks')
    const waits = await this.#start('waits', { ms: 3 })
    const holds = await this.#start('holds', { first: world.place('kept-1'), second: world.place('kept-2') })
    const sets = await this.#start('sets', { gate: world.place('kept-3'), fails: false })
    const right = await this.#start('chooses', { arm: 'right', go: true, gate: world.place('kept-4') })
    const tired = await this.#start('tired')
    for (const name of ['kept-1', 'kept-2', 'kept-3', 'kept-4']) await world.started(name)
    await until('the approvals to be asked', async () => (await world.tasks(asks)).length === 3)
    await until(
      'two to wait',
      async () => (await world.tasks(waits)).filter(({ state }) => state === 'deferred').length >= 2,
    )
    await until('a retry', async () => ((await world.tasks(tired))[0]?.attempt ?? 0) > 1)
    await this.#look()
    return { asks, waits, holds, sets, right, tired }
  }

  /** Another engine has taken all of it. */
  async #adopted(open: Begun): Promise<void> {
    const world = this.#world
    await this.#look()
    await this.#answer(open.asks, 0, true)
    await this.#answer(open.asks, 2, false)
    for (const name of ['kept-1', 'kept-2', 'kept-3', 'kept-4']) await world.go(name)
    await this.#expect(9, open.holds, { state: 'success' })
    await this.#expect(5, open.sets, { state: 'success' })
    await this.#expect(5, open.right, { state: 'success' })
    await this.#look()
    await this.#expect(10, open.asks, { state: 'success', result: { by: 'ann', late: true } })
    await this.#expect(6, open.tired, { state: 'failed' })
    const [tries] = await world.tasks(open.tired)
    if (!tries!.error?.startsWith('TIMEOUT: the time limit'))
      this.#findings.note(6, `its time was over, and a task ended so: ${tries!.error}`)
    await this.#expect(7, open.waits, { state: 'success' })
    await this.#look()
  }

  /** What has ended is cleared, and runs again. */
  async #cleared(): Promise<void> {
    const world = this.#world
    const graphs = new WorkflowGraphs(world.db)
    const again = async (workflow: string, id: string, tasks: string[]) => {
      const { graph } = await graphs.of(world.version.manifest.hash, workflow)
      const request = { tasks, failed: tasks.length === 0, fresh: false, by: 'ann', note: null }
      await world.db.transaction((session) => clearRun(session, id, graph, request))
    }
    const parent = await this.#start('parent', { n: 3 })
    const policies = await this.#start('policies')
    for (const id of [parent, policies]) await world.ended(id)
    await again('parent', parent, ['count'])
    await again('policies', policies, [])
    await this.#look()
    await this.#expect(5, parent, { state: 'success' })
    await this.#expectStates(7, 'parent', parent, { count: 'success 2', last: 'success 2' })
    await this.#expect(7, policies, { state: 'failed' })
    await this.#expectStates(7, 'policies', policies, { refused: 'failed 6', other: 'failed 2' })
    await world.allEnded()
    await this.#look()
  }
}
