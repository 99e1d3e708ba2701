/** One process under the supervisor: started ahead of its orders, started again when it dies. */
import { type ChildProcess, fork } from 'node:child_process'
import type { Readable } from 'node:stream'
import { type ErrorCode, SluiceError } from '../errors.ts'
import { pieceRedactor } from '../observe/redact.ts'
import type { FromChild, Orders, ToChild } from './child-process.ts'
import { endGroup } from './dead-neighbours.ts'
import { moduleFile, nodeFlags } from './own-process.ts'

export type Role = 'engine' | 'serving' | 'shard'

export interface ChildParts {
  readonly role: Role
  readonly projectDir: string
  readonly environment: Record<string, string>
  /** Texts that none of its lines may show. */
  readonly secrets: readonly string[]
  readonly log: (line: string) => void
}

/** A process that lived this long had started well: its next death counts as the first. */
const healthyMs = 60_000
/** Longer than a process takes to end itself. */
const killAfterMs = 25_000

/** Records pass through a shard quickly: left alone, its heap grows to 158 MB though 30 are in use; the rate is the same. */
const smallYoungGeneration = '--max-semi-space-size=8'

export class Child {
  private process: ChildProcess
  private orders: Orders | undefined
  private deaths = 0
  private again: NodeJS.Timeout | undefined
  private bornAt = performance.now()
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

  /** Resolves with the address it serves at, if it serves. @throws SluiceError with the code of what went wrong. */
  go(orders: Orders): Promise<string | undefined> {
    const { pid, exitCode, signalCode } = this.process
    if (pid === undefined || exitCode !== null || signalCode !== null) {
      const how = signalCode ?? exitCode ?? 'it could not be started'
      const detail = `the ${this.parts.role} process ended before it was needed (${how})`
      return Promise.reject(new SluiceError('INTERNAL', detail))
    }
    this.orders = orders
    return new Promise((resolve, reject) => {
      this.process.on('message', (message: FromChild) => {
        if (message.t === 'ready') resolve(this.served(message.url))
        else reject(new SluiceError(message.code as ErrorCode, message.message))
      })
      this.process.once('exit', (code, signal) =>
        reject(new SluiceError('INTERNAL', `the ${this.parts.role} process ended while starting (${signal ?? code})`)),
      )
      this.send({ t: 'go', ...orders })
    })
  }

  /** Stops it in good order and starts it again with other orders. */
  async replace(orders: Orders): Promise<void> {
    await this.stop()
    this.stopping = false
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
    const late = setTimeout(() => child.kill('SIGKILL'), killAfterMs)
    await gone
    clearTimeout(late)
  }

  /** Ends it without asking. */
  kill(): void {
    this.stopping = true
    this.process.kill('SIGKILL')
  }

  /** Started again, it serves where it did before, also when any free port was asked for. */
  private served(url: string | undefined): string | undefined {
    if (url !== undefined) this.parts.environment.PORT = new URL(url).port
    return url
  }

  private start(): ChildProcess {
    const { role, projectDir, environment, log } = this.parts
    this.bornAt = performance.now()
    const child = fork(moduleFile(import.meta.url, `./${role}-main`), [], {
      cwd: projectDir,
      execArgv: [...nodeFlags, '--enable-source-maps', ...(role === 'shard' ? [smallYoungGeneration] : [])],
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      // In a session of its own: Ctrl-C goes to the supervisor alone, which stops the processes in order.
      detached: true,
    })
    for (const output of [child.stdout, child.stderr]) if (output) this.tell(output)
    child.on('error', (error) => {
      log(`${role}: ${error.message}`)
      // It could not be started, and nothing more is heard of it.
      if (child.pid === undefined) this.died(error.message)
    })
    child.once('exit', (code, signal) => {
      endGroup(child.pid!)
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
    this.deaths = performance.now() - this.bornAt > healthyMs ? 1 : this.deaths + 1
    const delay = this.deaths === 1 ? 0 : Math.min(10_000, 100 * 2 ** this.deaths)
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
