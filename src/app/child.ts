/** One process under the supervisor: started ahead of its orders, started again when it dies. */
import { type ChildProcess, fork } from 'node:child_process'
import type { Readable } from 'node:stream'
import { type ErrorCode, errorTable, SluiceError } from '../errors.ts'
import { pieceRedactor } from '../observe/redact.ts'
import type { FromChild, Orders, ToChild } from './child-process.ts'
import { endGroup } from './dead-neighbours.ts'
import { moduleFile, nodeFlags } from './own-process.ts'
import type { StartedProcesses } from './started-processes.ts'

export type Role = 'engine' | 'serving' | 'shard'

export interface ChildParts {
  readonly role: Role
  readonly projectDir: string
  readonly environment: Record<string, string>
  /** Texts that none of its lines may show. */
  readonly secrets: readonly string[]
  readonly log: (line: string) => void
  /** Told of every process, so that none outlives a supervisor that was killed. */
  readonly processes: StartedProcesses
  /** How long it may take to stop before it is killed, in milliseconds; default 25 s. */
  readonly killAfterMs?: number
}

/** A process that worked this long had started well: its next death counts as the first. */
const healthyMs = 10_000
/** So many deaths before it has ever been ready are a start that failed. */
const failedStarts = 3
/** Between a death and the next start: nothing after the first, then from 400 ms on twice as much each time. */
const longestPauseMs = 5_000
/** Longer than a process takes to end itself (20 s). */
const defaultKillAfterMs = 25_000

/** Records pass through a shard quickly: left alone, its heap grows to 158 MB though 30 are in use; the rate is the same. */
const smallYoungGeneration = '--max-semi-space-size=8'

export class Child {
  private process: ChildProcess
  private orders: Orders | undefined
  private deaths = 0
  private again: NodeJS.Timeout | undefined
  private readyAt: number | undefined
  /** Who waits for it to be ready. */
  private awaited: PromiseWithResolvers<string | undefined> | undefined
  /** Why the last start failed, if it said so. */
  private failure: SluiceError | undefined
  private stopping = false
  private readonly parts: ChildParts

  /** Loads its code at once; does nothing before `go`. */
  constructor(parts: ChildParts) {
    this.parts = parts
    this.process = this.start()
  }

  get pid(): number | undefined {
    return this.process.pid
  }

  /**
   * Resolves with the address it serves at, if it serves. One that is killed meanwhile is started again.
   * @throws SluiceError with the code of what went wrong.
   */
  go(orders: Orders): Promise<string | undefined> {
    this.orders = orders
    this.awaited = Promise.withResolvers()
    const { promise } = this.awaited
    const { pid, exitCode, signalCode } = this.process
    if (pid === undefined || exitCode !== null || signalCode !== null) {
      this.died(String(signalCode ?? exitCode ?? 'it could not be started'))
    } else this.send({ t: 'go', ...orders })
    return promise
  }

  /** Stops it in good order and starts it again with other orders. */
  async replace(orders: Orders): Promise<void> {
    await this.stop()
    this.stopping = false
    this.deaths = 0
    this.process = this.start()
    await this.go(orders)
  }

  async stop(): Promise<void> {
    this.stopping = true
    clearTimeout(this.again)
    const child = this.process
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    this.send({ t: 'stop' })
    const { role, log, killAfterMs = defaultKillAfterMs } = this.parts
    const late = setTimeout(() => {
      log(`${role}: the process has not stopped for ${killAfterMs} ms; it is killed`)
      child.kill('SIGKILL')
    }, killAfterMs)
    await gone
    clearTimeout(late)
  }

  /** Ends it without asking. */
  kill(): void {
    this.stopping = true
    this.process.kill('SIGKILL')
  }

  private hear(child: ChildProcess, message: FromChild): void {
    if (child !== this.process) return
    if (message.t === 'ready') {
      this.readyAt = performance.now()
      // Started again, it serves where it did before, also when any free port was asked for.
      if (message.url !== undefined) this.parts.environment.PORT = new URL(message.url).port
      this.awaited?.resolve(message.url)
      this.awaited = undefined
      return
    }
    this.failure = new SluiceError(message.code as ErrorCode, message.message)
    // What can pass is tried again, as after a death: the process ends now.
    if (this.awaited && !errorTable[this.failure.code]?.retryable) this.failed(this.failure)
    else this.parts.log(`${this.parts.role}: ${message.code}: ${message.message}`)
  }

  private failed(why: SluiceError): void {
    this.awaited?.reject(why)
    this.awaited = undefined
  }

  private start(): ChildProcess {
    const { role, projectDir, environment, log, processes } = this.parts
    this.readyAt = undefined
    this.failure = undefined
    const child = fork(moduleFile(import.meta.url, `./${role}-main`), [], {
      cwd: projectDir,
      execArgv: [...nodeFlags, '--enable-source-maps', ...(role === 'shard' ? [smallYoungGeneration] : [])],
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      // In a session of its own: Ctrl-C goes to the supervisor alone, which stops the processes in order.
      detached: true,
    })
    if (child.pid !== undefined) processes.started(child.pid)
    for (const output of [child.stdout, child.stderr]) if (output) this.tell(output)
    child.on('message', (message: FromChild) => this.hear(child, message))
    child.on('error', (error) => {
      log(`${role}: ${error.message}`)
      // It could not be started, and nothing more is heard of it.
      if (child.pid === undefined) this.died(error.message)
    })
    child.once('exit', (code, signal) => {
      endGroup(child.pid!)
      processes.ended(child.pid!)
      this.died(signal ?? `exit code ${code}`)
    })
    return child
  }

  /** Authors' code prints here too. */
  private tell(output: Readable): void {
    const { role, secrets, log } = this.parts
    const redact = pieceRedactor(secrets)
    const lines = (text: string) => {
      for (const line of text.split('\n')) if (line !== '') log(`${role}: ${line}`)
    }
    output.setEncoding('utf8').on('data', (text: string) => lines(redact.push(text)))
    output.on('end', () => lines(redact.end()))
  }

  private died(how: string): void {
    if (this.stopping || !this.orders) return
    const { role, log } = this.parts
    const healthy = this.readyAt !== undefined && performance.now() - this.readyAt > healthyMs
    this.deaths = healthy ? 1 : this.deaths + 1
    if (this.awaited && this.deaths >= failedStarts) {
      this.failed(this.failure ?? new SluiceError('INTERNAL', `the ${role} process ended while starting (${how})`))
    }
    const delay = this.deaths === 1 ? 0 : Math.min(longestPauseMs, 100 * 2 ** this.deaths)
    log(`${role}: the process ended (${how}); it starts again${delay > 0 ? ` in ${delay} ms` : ''}`)
    this.again = setTimeout(() => {
      if (this.stopping || !this.orders) return
      this.process = this.start()
      this.send({ t: 'go', ...this.orders })
    }, delay)
  }

  private send(message: ToChild): void {
    if (this.process.connected) this.process.send(message, () => {})
  }
}
