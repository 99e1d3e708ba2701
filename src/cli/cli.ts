/** What every command works with: output, exit codes, and how an error becomes one line. */
import { type ErrorCode, errorTable, messageOf, SluiceError } from '../errors.ts'
import type { ProgressBar } from '../sdk/command.ts'

/** Exit codes: 0 done, 1 the work failed, 2 wrong usage or configuration, 3 not reachable. */
export const exitCodes = { done: 0, failed: 1, usage: 2, unreachable: 3 } as const

export interface Output {
  readonly isTTY?: boolean | undefined
  write(text: string): unknown
}

/** Standard output carries results alone; progress and prose go to standard error, and only to a terminal. */
export class Cli {
  readonly #out: Output
  readonly #err: Output
  json = false

  constructor(out: Output = process.stdout, err: Output = process.stderr) {
    this.#out = out
    this.#err = err
  }

  get forPeople(): boolean {
    return this.#err.isTTY === true && !this.json
  }

  /** The result: a text, or as JSON under `--json`. */
  print(text: string, data: unknown): void {
    this.#out.write(this.json ? `${JSON.stringify(data)}\n` : text === '' ? '' : `${text}\n`)
  }

  note(text: string): void {
    if (this.forPeople) this.#err.write(`${text}\n`)
  }

  /** What a long-running command tells, also where no terminal is: its log. */
  log(line: string): void {
    this.#err.write(`${line}\n`)
  }

  /** One clear line for each thing that is wrong; under `--json` a problem document besides. */
  complain(thrown: unknown): void {
    const error = thrown instanceof SluiceError ? thrown : new SluiceError('INTERNAL', messageOf(thrown))
    this.#err.write(`sluice: ${error.message}\n`)
    const told = error.faults.filter(({ message }) => !error.message.includes(message))
    for (const { where, message } of told) this.#err.write(`  ${where} ${message}\n`)
    if (this.json) this.#err.write(`${JSON.stringify(problemOf(error))}\n`)
  }

  progress(title: string): ProgressBar {
    return this.forPeople ? lazyBar(title) : { update() {}, stop() {} }
  }
}

export function exitCodeOf(thrown: unknown): number {
  if (!(thrown instanceof SluiceError)) return exitCodes.failed
  return exitCodeByCode[thrown.code] ?? exitCodes.failed
}

const exitCodeByCode: Partial<Record<ErrorCode, number>> = {
  USAGE: 2,
  CONFIGURATION: 2,
  INVALID_INPUT: 2,
  INVALID_CURSOR: 2,
  MALFORMED_JSON: 2,
  NOT_FOUND: 2,
  CONNECTION_UNKNOWN: 2,
  SECRET_UNKNOWN: 2,
  EMBEDDED_UNAVAILABLE: 2,
  DATABASE_UNSUPPORTED: 2,
  UNAVAILABLE: 3,
  NOT_READY: 3,
  DATABASE_UNREACHABLE: 3,
}

function problemOf(error: SluiceError) {
  const { title, status } = errorTable[error.code]
  const type = `urn:sluice:error:${error.code.toLowerCase().replaceAll('_', '-')}`
  return { type, title, status, code: error.code, detail: error.message, errors: error.faults }
}

/** The bar's library is loaded at the first progress. What was told meanwhile shows then. */
function lazyBar(title: string): ProgressBar {
  let latest: readonly [number, number, string] | undefined
  let stopped = false
  let bar: ProgressBar | undefined
  const opening = import('./progress-bar.ts').then(({ openBar }) => {
    if (stopped) return
    bar = openBar(title)
    if (latest) bar.update(...latest)
  })
  opening.catch(() => {})
  return {
    update(done, total, text = '') {
      latest = [done, total, text]
      bar?.update(done, total, text)
    },
    stop() {
      stopped = true
      bar?.stop()
    },
  }
}
