import { SluiceError } from '../errors.ts'
import type { Schema } from './schema.ts'

/** The platform's HTTP API, as a command sees it. */
export interface ApiClient {
  /** JSON in, JSON out. @throws SluiceError with the code of the problem document; UNAVAILABLE when nothing answers. */
  request<Answer = unknown>(method: string, path: string, body?: unknown): Promise<Answer>
  /** Sends a file as it is. */
  upload<Answer = unknown>(method: string, path: string, file: string, contentType: string): Promise<Answer>
}

/** A progress bar in a terminal, nothing elsewhere; on standard error. */
export interface ProgressBar {
  update(done: number, total: number, text?: string): void
  stop(): void
}

export interface CommandContext<Options> {
  readonly args: readonly string[]
  readonly options: Options
  readonly api: ApiClient
  /** For people: standard error. */
  note(text: string): void
  /** The result: printed as text, or as JSON under `--json`. */
  print(text: string, data: unknown): void
  progress(title: string): ProgressBar
  readonly signal: AbortSignal
}

export interface CommandOptions<Options> {
  readonly summary: string
  /** Names of the positional arguments; `[name]` is optional. */
  readonly args?: readonly string[]
  /** One option per field; booleans are flags. */
  readonly options?: Schema<Options>
  /** Gives the exit code: 0 done, 1 the work failed. */
  run(context: CommandContext<Options>): Promise<number> | number
}

export interface Command {
  readonly kind: 'command'
  readonly name: string
  readonly options: CommandOptions<unknown>
}

/** `command('catalog add', ...)` is run as `sluice catalog add FILE`. @throws SluiceError DEFINITION_INVALID */
export function command<Options = Record<never, never>>(name: string, options: CommandOptions<Options>): Command {
  if (!/^[a-z][a-z-]*( [a-z][a-z-]*)?$/.test(name)) {
    throw new SluiceError(
      'DEFINITION_INVALID',
      `${JSON.stringify(name)} is not a name for a command; use one or two words of a-z and -`,
    )
  }
  return { kind: 'command', name, options: options as unknown as CommandOptions<unknown> }
}
