/** Executes the attempts of a simulated world, in this process: the actions are really run, what they ask for is in memory. */
import { attemptContext } from '../app/capabilities/attempt-context.ts'
import { type CapabilityParts, capabilitiesOver } from '../app/capabilities/capabilities.ts'
import { Effects } from '../app/capabilities/effects.ts'
import { minimalEnvironment } from '../app/config.ts'
import { taskIdOf } from '../core/ids.ts'
import { SluiceError } from '../errors.ts'
import { runAttempt } from '../executors/attempt.ts'
import { runProgram } from '../executors/program.ts'
import type { AttemptEnd, AttemptStart } from '../executors/runner-protocol.ts'
import { Skip } from '../sdk/ends.ts'
import { type RunsPrograms, runsPrograms } from '../sdk/program.ts'
import type { Clock } from '../time.ts'
import type { AttemptName, AttemptWorld } from './attempt-world.ts'
import type { DefinedWorld } from './defined-world.ts'
import { MemoryObjects } from './memory-objects.ts'
import type { FakeProgram } from './simulate-options.ts'
import type { LogLine } from './simulated-run.ts'

export interface AttemptsOfWorldParts {
  readonly defined: DefinedWorld
  readonly clock: Clock
  readonly memory: AttemptWorld
  readonly connections: CapabilityParts['connections']
  readonly programs: Readonly<Record<string, FakeProgram>>
  /** Where files are that attempts read, and where programs run. */
  readonly folder: string
  /** Of real time. */
  readonly limitMs: number
}

/** The name under which an attempt's steps and dataset writes are kept. */
export function nameOf({ runId, node, mapIndex, token }: AttemptStart): AttemptName {
  return { task: taskIdOf(runId, node, mapIndex), attempt: String(token) }
}

export class AttemptsOfWorld {
  readonly #parts: AttemptsOfWorldParts
  readonly #objects = new MemoryObjects()
  readonly #running = new Map<number, { readonly runId: string; readonly abort: AbortController }>()
  #idle: (() => void)[] = []
  #broken: { readonly thrown: unknown } | undefined

  constructor(parts: AttemptsOfWorldParts) {
    this.#parts = parts
  }

  /** @param ended is called when it has ended, and not again. */
  start(start: AttemptStart, log: LogLine[], ended: (end: AttemptEnd) => void): void {
    const abort = new AbortController()
    this.#running.set(start.token, { runId: start.runId, abort })
    void this.#run(start, log, abort.signal)
      .then((end) => {
        this.#running.delete(start.token)
        ended(end)
      })
      .catch((thrown: unknown) => {
        this.#running.delete(start.token)
        this.#broken ??= { thrown }
      })
      .finally(() => {
        if (this.#running.size === 0) for (const resolve of this.#idle.splice(0)) resolve()
      })
  }

  kill(token: number): void {
    this.#running.get(token)?.abort.abort(new SluiceError('CANCELLED', 'it was cancelled'))
  }

  /** All attempts of a run; without one, all there are. */
  killOf(runId?: string): void {
    for (const [token, running] of this.#running) if (runId === undefined || running.runId === runId) this.kill(token)
  }

  /** Until no attempt is under way. @throws what should never have happened meanwhile */
  async rest(): Promise<void> {
    while (this.#running.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
    if (this.#broken) throw this.#broken.thrown
  }

  async #run(start: AttemptStart, log: LogLine[], cancelled: AbortSignal): Promise<AttemptEnd> {
    const { defined, clock, limitMs } = this.#parts
    const limited = { ...start, timeoutMs: Math.min(start.timeoutMs, limitMs) }
    const end = await runAttempt(limited, defined.actionOf(start.workflow, start.nodeId), cancelled, {
      clock,
      context: (_, signal) => this.#context(start, log, signal),
      // Results of any size stay with their task.
      storeResult: async () => '',
    })
    if (end.kind !== 'failure' || end.error.code !== 'TIMEOUT' || start.timeoutMs <= limitMs) return end
    const message = `the attempt took longer than ${limitMs} ms of real time, which is what attemptLimitMs of simulate(...) allows`
    return { ...end, error: { ...end.error, message } }
  }

  #context(start: AttemptStart, lines: LogLine[], signal: AbortSignal) {
    const { memory, connections, folder, clock } = this.#parts
    const calls = memory.calls(nameOf(start))
    const say = (level: LogLine['level']) => (message: string, fields?: Record<string, unknown>) => {
      const { nodeId: task, mapIndex, attempt } = start
      lines.push({ task, mapIndex, attempt, level, message, ...(fields ? { fields } : {}) })
    }
    const log = { debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') }
    const parts = { calls, store: this.#objects, connections, projectDir: folder, log }
    const facts = { effects: new Effects(), now: clock.now(), clock }
    const context = attemptContext(capabilitiesOver(parts, signal), calls, start, () => {}, facts)
    return Object.assign(context, { [runsPrograms]: this.#programs(start, { log, signal }) })
  }

  #programs(
    start: AttemptStart,
    { log, signal }: { log: Parameters<typeof runProgram>[1]['log']; signal: AbortSignal },
  ) {
    const { programs, folder } = this.#parts
    const runs: RunsPrograms = async (call) => {
      const fake = Object.hasOwn(programs, call.name) ? programs[call.name] : undefined
      if (!fake) return runProgram(call, { projectDir: folder, environment: environmentOf(start), log, signal })
      try {
        return { result: (await fake({ command: call.command, env: call.env, stdin: call.stdin })) ?? null }
      } catch (thrown) {
        if (thrown instanceof Skip) return { skipped: thrown.message }
        throw thrown
      }
    }
    return runs
  }
}

const environmentOf = (start: AttemptStart) => ({
  ...minimalEnvironment(),
  SLUICE_RUN_ID: start.runId,
  SLUICE_WORKFLOW: start.workflow,
  SLUICE_TASK: start.nodeId,
  SLUICE_ATTEMPT: String(start.attempt),
  SLUICE_MAP_INDEX: String(start.mapIndex),
})
