/** One run of a workflow in virtual time, as far as it goes without anybody's help. */
import { type Duration, parseDuration } from '../time.ts'
import type { DefinedWorld } from './defined-world.ts'
import type { SimulatedRun } from './simulated-run.ts'
import { type Outside, SimulatedWorld, type WaitingApproval } from './simulated-world.ts'

export interface RehearseOptions {
  readonly workflow: string
  readonly params: Readonly<Record<string, unknown>>
  /** The time at which it starts; RFC 3339. */
  readonly start: string
  /** How much virtual time may pass. */
  readonly atMost: Duration
  /** The forms with which approvals are approved, by the ids of their tasks. */
  readonly approve: ReadonlyMap<string, unknown>
  /** The project's folder. */
  readonly folder: string
  readonly outside: Outside
  /** How long one attempt may take in real time. */
  readonly attemptLimitMs: number
  readonly signal: AbortSignal
}

export interface Rehearsed {
  readonly run: SimulatedRun
  /** All runs, those that it started included. */
  readonly runs: readonly SimulatedRun[]
  readonly approvals: readonly WaitingApproval[]
  /** The virtual time at which it was left. */
  readonly leftAt: Date
}

/** @throws SluiceError NOT_FOUND, INVALID_INPUT */
export async function rehearse(defined: DefinedWorld, options: RehearseOptions): Promise<Rehearsed> {
  const { workflow, params, atMost, approve, signal } = options
  await using world = await SimulatedWorld.over(defined, { ...options, plans: false })
  const stop = () => void world.close()
  signal.addEventListener('abort', stop, { once: true })
  try {
    const run = await world.start(workflow, params)
    const until = world.now.getTime() + parseDuration(atMost)
    while (run.finishedAt === null) {
      const given = world.approvals.find(({ task }) => approve.has(task))
      const next = world.nextAt
      if (given) await world.answer(given, { approved: true, by: 'sluice test', form: approve.get(given.task) })
      else if (next === undefined || next.getTime() > until) break
      else await world.advanceTo(next)
    }
  } catch (thrown) {
    if (!signal.aborted) throw thrown
  } finally {
    signal.removeEventListener('abort', stop)
  }
  return { run: world.runs()[0]!, runs: world.runs(), approvals: world.approvals, leftAt: world.now }
}
