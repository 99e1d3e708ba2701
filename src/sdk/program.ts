/** Actions that are programs: a command with an argument array, run as a child process. */
import { SluiceError } from '../errors.ts'
import type { Duration } from '../time.ts'
import { type Action, action } from './action.ts'
import type { RetryOptions } from './action-definition.ts'
import type { ActionContext } from './context.ts'
import { skip } from './ends.ts'
import type { Schema } from './schema.ts'
import type { SecretHandle } from './secret.ts'

type Word = string | number | boolean

/** Exit codes other than 0 that are no plain failure; each 1 to 125. */
export interface ExitCodes {
  /** The task is skipped. Default `[99]`, as in Airflow's BashOperator. */
  readonly skip?: readonly number[]
  /** It fails, and is not tried again whatever its retry policy says. Default none. */
  readonly final?: readonly number[]
}

export interface ProgramOptions<In, Input, Output> {
  /**
   * The program and its first arguments, as they are: no shell sees them. Ask for one as `['sh', '-c', 'text']`; arguments
   * of a call then come as `$0`, `$1`... from `args`, never inside the text. A path with `/` is relative to `cwd`.
   */
  readonly command: readonly string[]
  /** Further arguments, each a word of its own whatever is in it; up to 100,000 bytes each. */
  readonly args?: readonly Word[] | ((input: Input) => readonly Word[])
  /** Environment variables besides the minimal ones; names of `A-Z`, `a-z`, `0-9`, `_`, none starting with `SLUICE_`. */
  readonly env?: Readonly<Record<string, Word>> | ((input: Input) => Readonly<Record<string, Word>>)
  /** Secrets by the environment variable that carries each. */
  readonly secrets?: Readonly<Record<string, SecretHandle | string>>
  readonly input?: Schema<Input, In>
  /** What is written to standard input as JSON; default the whole input. */
  readonly stdin?: (input: Input) => unknown
  /** Of the JSON that the program wrote to the file named by `SLUICE_RESULT_FILE`; null when it wrote none. */
  readonly output?: Schema<Output>
  /** The time limit of one attempt; default `1h`. */
  readonly timeout?: Duration
  readonly retry?: RetryOptions
  /** The folder it runs in, relative to the project's and inside it; default the project's. */
  readonly cwd?: string
  readonly exitCodes?: ExitCodes
}

/** A program ready to be run. */
export interface ProgramCall {
  readonly name: string
  readonly command: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Relative to the project. */
  readonly cwd: string
  readonly stdin: unknown
  readonly skip: readonly number[]
  readonly final: readonly number[]
}

/** Where whoever executes attempts puts its way to run programs; the same symbol in every copy of this module. */
export const runsPrograms = Symbol.for('sluice.runsPrograms')

/** Gives what the program gave as its result, or why its task is to be skipped. */
export type RunsPrograms = (call: ProgramCall) => Promise<{ readonly result: unknown } | { readonly skipped: string }>

/**
 * An action that runs a program: arguments as JSON on standard input, its output in the attempt's log, exit code 0 for
 * success; docs/program.md says it all. @throws SluiceError DEFINITION_INVALID
 */
export function program<Output = unknown, In = Record<never, never>, Input = In>(
  name: string,
  options: ProgramOptions<In, Input, Output>,
): Action<In, Output> {
  const fixed = checked(name, options)
  return action<Output, In, Input>(name, {
    ...(options.input && { input: options.input }),
    ...(options.output && { output: options.output }),
    ...(options.retry && { retry: options.retry }),
    ...(options.timeout !== undefined && { timeout: options.timeout }),
    run: (context) => run(options, fixed, context),
  })
}

async function run<In, Input, Output>(
  { args = [], env = {}, stdin, secrets = {} }: ProgramOptions<In, Input, Output>,
  fixed: Pick<ProgramCall, 'name' | 'command' | 'cwd' | 'skip' | 'final'>,
  context: ActionContext<Input>,
): Promise<Output> {
  const { input } = context
  const runs = (context as { [runsPrograms]?: RunsPrograms })[runsPrograms]
  if (!runs) throw new SluiceError('USAGE', `program ${fixed.name}: programs cannot be run here`)
  const words = typeof args === 'function' ? args(input) : args
  const variables = Object.entries(typeof env === 'function' ? env(input) : env).map(
    ([key, value]) => [key, String(value)] as const,
  )
  const hidden = await Promise.all(
    Object.entries(secrets).map(async ([key, secret]) => [key, await context.secret(secret)] as const),
  )
  const ended = await runs({
    ...fixed,
    command: [...fixed.command, ...words.map(String)],
    env: Object.fromEntries([...variables, ...hidden]),
    stdin: stdin ? stdin(input) : input,
  })
  if ('skipped' in ended) throw skip(ended.skipped)
  return ended.result as Output
}

function checked<In, Input, Output>(name: string, options: ProgramOptions<In, Input, Output>) {
  const { command, cwd = '.', env, secrets = {}, exitCodes = {} } = options
  const refuse = (detail: string) => new SluiceError('DEFINITION_INVALID', `program ${name}: ${detail}`)
  if (!Array.isArray(command) || command.length === 0 || !command.every((word) => typeof word === 'string')) {
    throw refuse("command is a list of texts, the program first: ['python3', 'scripts/x.py']; no shell reads it")
  }
  if (command[0] === '' || command[0]!.startsWith('-')) throw refuse(`${JSON.stringify(command[0])} is no program`)
  if (command.some((word) => word.includes('\0'))) throw refuse('command has a NUL character')
  if (typeof cwd !== 'string' || cwd.startsWith('/') || cwd.split('/').includes('..') || cwd.includes('\0')) {
    throw refuse(`cwd is ${JSON.stringify(cwd)}; it is a folder inside the project, such as scripts`)
  }
  for (const variable of [...Object.keys(typeof env === 'object' ? env : {}), ...Object.keys(secrets)]) {
    const wrong = wrongVariable(variable)
    if (wrong !== undefined) throw refuse(wrong)
  }
  const { skip = [99], final = [] } = exitCodes
  for (const [kind, codes] of Object.entries({ skip, final })) {
    const wrong = codes.find((code) => !Number.isInteger(code) || code < 1 || code > 125)
    if (wrong !== undefined) throw refuse(`exitCodes.${kind} has ${JSON.stringify(wrong)}; allowed are 1 to 125`)
  }
  const both = skip.find((code) => final.includes(code))
  if (both !== undefined) throw refuse(`the exit code ${both} cannot be both skip and final`)
  return { name, command, cwd, skip, final }
}

/** What is wrong with the name of an environment variable. */
export function wrongVariable(name: string): string | undefined {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
    return `${JSON.stringify(name)} is no name for an environment variable; use A-Z, a-z, 0-9 and _`
  return name.startsWith('SLUICE_') ? `the variables SLUICE_... are Sluice's own; call ${name} otherwise` : undefined
}
