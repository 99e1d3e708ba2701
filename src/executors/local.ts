/**
 * Warm runner processes on this host.
 *
 * 1. An attempt belongs to one runner, and ends once: by its runner's word, or as lost when the runner is gone.
 * 2. A runner that does not answer within `stallMs` is killed: its event loop answers the ping, so a busy loop cannot
 *    fake it. One that ignores a cancel or a time limit for `graceMs` is killed too; that is the attempt's own failure,
 *    and a loss to its neighbours.
 * 3. Runners know until when they may work, and end by themselves then: nobody else could when this process is stopped.
 * 4. A runner is replaced after `recycleAfter` attempts or above `maxRssBytes`, when it has nothing under way.
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import type { Outcome } from '../core/run-progress.ts'
import { SluiceError } from '../errors.ts'
import { attemptError, timeLimitPassed } from './attempt.ts'
import type { AttemptEnd, AttemptLog, AttemptProgress, AttemptStart, FromRunner, ToRunner } from './runner-protocol.ts'

export interface LocalSettings {
  /** Shared runners kept warm. */
  readonly runners: number
  /** Attempts at once per runner. Fewer than 64 make commits small and slow (measured). Default 128. */
  readonly capacity: number
  /** Attempts with a process of their own at once. Default 8. */
  readonly isolated: number
  readonly stallMs: number
  readonly graceMs: number
  readonly recycleAfter: number
  readonly maxRssBytes: number
}

export const localDefaults = {
  runners: 2,
  capacity: 128,
  isolated: 8,
  stallMs: 30_000,
  graceMs: 5_000,
  recycleAfter: 100_000,
  maxRssBytes: 1024 ** 3,
} as const satisfies LocalSettings

export interface LocalEvents {
  ended(attempt: AttemptStart, outcome: Outcome): void
  /** All ends that came in one message were told. */
  batchEnded(): void
  logs(logs: readonly (AttemptLog & { readonly attempt: AttemptStart })[]): void
  progress(attempt: AttemptStart, progress: AttemptProgress): void
  call(attempt: AttemptStart, name: string, args: unknown): Promise<unknown>
  /** A runner's own output and what became of it. */
  note(line: string): void
}

const longestLine = 64 * 1024

interface Live {
  readonly attempt: AttemptStart
  /** When the runner is killed unless the attempt has ended. */
  deadline: number
  /** It is being killed for this attempt. */
  late?: boolean
}

interface Runner {
  readonly process: ChildProcess
  readonly live: Map<number, Live>
  readonly isolated: boolean
  started: number
  ready: boolean
  lastHeard: number
  pinged: number
  retiring: boolean
}

export class LocalExecutor {
  private readonly runners = new Set<Runner>()
  private readonly byToken = new Map<number, Runner>()
  /** The ends of runners whose attempts are forgotten. */
  private readonly abandoned = new Set<Promise<void>>()
  private readonly sweep: NodeJS.Timeout
  private stopping = false
  private failedStarts = 0
  private workUntil: number | undefined
  private readonly settings: LocalSettings
  private readonly fork: () => ChildProcess
  private readonly events: LocalEvents

  constructor(settings: LocalSettings, fork: () => ChildProcess, events: LocalEvents) {
    this.settings = settings
    this.fork = fork
    this.events = events
    for (let index = 0; index < settings.runners; index += 1) this.add(false)
    this.sweep = setInterval(() => this.watch(performance.now()), 1_000)
  }

  /** How many more attempts can start now. */
  free(isolation: 'shared' | 'process'): number {
    if (this.stopping) return 0
    let free = isolation === 'process' ? this.settings.isolated : 0
    for (const runner of this.runners) {
      if (isolation === 'process') free -= runner.isolated ? 1 : 0
      else if (!runner.isolated && !runner.retiring) free += this.settings.capacity - runner.live.size
    }
    return Math.max(0, free)
  }

  /** Attempts under way, and how many there can be at once. */
  size(isolation: 'shared' | 'process'): { readonly busy: number; readonly slots: number } {
    let busy = 0
    let shared = 0
    for (const runner of this.runners) {
      if (runner.isolated !== (isolation === 'process')) continue
      busy += runner.live.size
      if (!runner.retiring) shared += this.settings.capacity
    }
    return { busy, slots: isolation === 'process' ? this.settings.isolated : shared }
  }

  has(token: number): boolean {
    return this.byToken.has(token)
  }

  start(attempts: readonly AttemptStart[], isolation: 'shared' | 'process'): void {
    const batches = new Map<Runner, AttemptStart[]>()
    for (const attempt of attempts) {
      const runner = isolation === 'process' ? this.add(true) : this.leastBusy()
      runner.live.set(attempt.token, {
        attempt,
        deadline: performance.now() + attempt.timeoutMs + this.settings.graceMs,
      })
      runner.started += 1
      this.byToken.set(attempt.token, runner)
      const batch = batches.get(runner)
      if (batch) batch.push(attempt)
      else batches.set(runner, [attempt])
    }
    for (const [runner, batch] of batches) this.send(runner, { t: 'start', attempts: batch })
  }

  cancel(tokens: readonly number[]): void {
    for (const token of tokens) {
      const runner = this.byToken.get(token)
      const live = runner?.live.get(token)
      if (!runner || !live) continue
      live.deadline = Math.min(live.deadline, performance.now() + this.settings.graceMs)
      this.send(runner, { t: 'cancel', tokens: [token] })
    }
  }

  /**
   * Tells every runner, also those that start later, until when it may work.
   * @param until milliseconds of the machine's monotonic clock (`monotonicMs`).
   */
  mayWork(until: number): void {
    this.workUntil = until
    for (const runner of this.runners) this.send(runner, { t: 'lease', until })
  }

  /**
   * Forgets every attempt under way, tells it to stop, and kills its runner after `graceMs` unless it has ended by then.
   * Others take their places at once. Resolves when nothing that was ever forgotten so runs any more.
   */
  async abandon(graceMs: number): Promise<void> {
    for (const runner of [...this.runners]) {
      if (runner.live.size === 0) continue
      const tokens = [...runner.live.keys()]
      this.events.note(`runner ${runner.process.pid} ends its ${tokens.length} attempts`)
      this.send(runner, { t: 'cancel', tokens })
      for (const token of tokens) this.byToken.delete(token)
      runner.live.clear()
      const late = setTimeout(() => runner.process.kill('SIGKILL'), graceMs)
      const gone = once(runner.process, 'exit').then(() => {
        clearTimeout(late)
        this.abandoned.delete(gone)
      })
      this.abandoned.add(gone)
      if (runner.retiring) continue
      runner.retiring = true
      this.add(false)
    }
    await Promise.all(this.abandoned)
  }

  /** Ends every runner; attempts under way are lost, and told so. */
  async stop(): Promise<void> {
    this.stopping = true
    clearInterval(this.sweep)
    const gone = [...this.runners].map(
      (runner) => new Promise<void>((resolve) => runner.process.once('exit', () => resolve())),
    )
    for (const runner of this.runners) runner.process.kill('SIGKILL')
    await Promise.all(gone)
  }

  private leastBusy(): Runner {
    let best: Runner | undefined
    for (const runner of this.runners) {
      if (runner.isolated || runner.retiring) continue
      if (!best || runner.live.size < best.live.size) best = runner
    }
    if (!best) throw new SluiceError('UNAVAILABLE', 'no runner is alive')
    return best
  }

  private add(isolated: boolean): Runner {
    const child = this.fork()
    const now = performance.now()
    const runner: Runner = {
      process: child,
      live: new Map(),
      isolated,
      started: 0,
      ready: false,
      lastHeard: now,
      pinged: 0,
      retiring: isolated,
    }
    this.runners.add(runner)
    child.on('message', (message) => this.hear(runner, message as FromRunner))
    child.on('error', (error) => {
      this.events.note(`runner ${child.pid ?? '?'}: ${error.message}`)
      // It could not be started, and nothing more is heard of it.
      if (child.pid === undefined) this.gone(runner, error.message)
    })
    child.once('exit', (code, signal) => this.gone(runner, signal ?? `exit code ${code}`))
    for (const output of [child.stdout, child.stderr]) {
      if (output) eachLine(output.setEncoding('utf8'), (line) => this.events.note(line))
    }
    if (this.workUntil !== undefined) this.send(runner, { t: 'lease', until: this.workUntil })
    return runner
  }

  private hear(runner: Runner, message: FromRunner): void {
    runner.lastHeard = performance.now()
    runner.pinged = 0
    switch (message.t) {
      case 'ready':
        runner.ready = true
        this.failedStarts = 0
        return
      case 'pong':
        if (message.rss > this.settings.maxRssBytes) this.retire(runner, 'memory')
        return
      case 'ended':
        for (const end of message.ends) this.end(runner, end)
        this.afterEnds(runner)
        return
      case 'logs':
        this.events.logs(
          message.logs.flatMap((log) => {
            const attempt = runner.live.get(log.token)?.attempt
            return attempt ? [{ ...log, attempt }] : []
          }),
        )
        return
      case 'progress':
        for (const progress of message.progress) {
          const attempt = runner.live.get(progress.token)?.attempt
          if (attempt) this.events.progress(attempt, progress)
        }
        return
      case 'call':
        void this.answer(runner, message)
    }
  }

  private async answer(runner: Runner, call: FromRunner & { t: 'call' }): Promise<void> {
    try {
      const attempt = runner.live.get(call.token)?.attempt
      if (!attempt) throw new SluiceError('FENCED', 'the attempt has ended')
      this.send(runner, { t: 'answer', id: call.id, value: await this.events.call(attempt, call.name, call.args) })
    } catch (thrown) {
      this.send(runner, { t: 'refuse', id: call.id, error: attemptError(thrown) })
    }
  }

  private end(runner: Runner, end: AttemptEnd): void {
    const live = runner.live.get(end.token)
    if (!live) return
    runner.live.delete(end.token)
    this.byToken.delete(end.token)
    this.events.ended(live.attempt, end)
  }

  private afterEnds(runner: Runner): void {
    if (runner.started >= this.settings.recycleAfter) this.retire(runner, 'its number of attempts')
    if (runner.retiring && runner.live.size === 0) runner.process.disconnect()
    this.events.batchEnded()
  }

  private retire(runner: Runner, why: string): void {
    if (runner.retiring || this.stopping) return
    runner.retiring = true
    this.events.note(`runner ${runner.process.pid} is replaced for ${why}`)
    this.add(false)
    if (runner.live.size === 0) runner.process.disconnect()
  }

  private gone(runner: Runner, how: string): void {
    this.runners.delete(runner)
    const lost = [...runner.live.values()]
    runner.live.clear()
    for (const { attempt, late } of lost) {
      this.byToken.delete(attempt.token)
      this.events.ended(attempt, late ? tooLate(attempt) : { kind: 'lost', reason: `the runner ended (${how})` })
    }
    if (this.stopping) return
    if (!runner.isolated && !runner.retiring) {
      this.failedStarts += runner.ready ? 0 : 1
      const delay = Math.min(10_000, 50 * 2 ** this.failedStarts)
      this.events.note(`runner ${runner.process.pid} ended (${how}); another starts in ${delay} ms`)
      setTimeout(() => {
        if (this.stopping) return
        this.add(false)
        this.events.batchEnded()
      }, delay)
    }
    if (lost.length > 0 || runner.isolated) this.events.batchEnded()
  }

  private watch(now: number): void {
    for (const runner of this.runners) {
      const late = [...runner.live.values()].find((live) => live.deadline < now)
      if (late) {
        this.events.note(`runner ${runner.process.pid} is killed: ${late.attempt.nodeId} did not stop in time`)
        late.late = true
        runner.process.kill('SIGKILL')
      } else if (runner.pinged > 0 && now - runner.pinged > this.settings.stallMs) {
        this.events.note(`runner ${runner.process.pid} is killed: it did not answer for ${this.settings.stallMs} ms`)
        runner.process.kill('SIGKILL')
      } else if (runner.pinged === 0 && now - runner.lastHeard > this.settings.stallMs / 6) {
        runner.pinged = now
        this.send(runner, { t: 'ping' })
      }
    }
  }

  private send(runner: Runner, message: ToRunner): void {
    // A closed channel means that the exit event is near; it tells what was lost.
    if (runner.process.connected) runner.process.send(message, () => {})
  }
}

/** Whole lines, so that what is looked for in them is not cut in two; of a longer one parts of 64 KiB. */
function eachLine(output: Readable, onLine: (line: string) => void): void {
  let held = ''
  output.on('data', (text: string) => {
    const lines = (held + text).split('\n')
    held = lines.pop()!
    for (const line of lines) onLine(line)
    if (held.length < longestLine) return
    onLine(held)
    held = ''
  })
  output.on('end', () => {
    if (held !== '') onLine(held)
  })
}

/** Its runner was killed for it, so this is no loss but its own failure. One that was cancelled ends as cancelled. */
function tooLate({ timeoutMs }: AttemptStart): Outcome {
  return { kind: 'failure', error: attemptError(timeLimitPassed(timeoutMs)) }
}
