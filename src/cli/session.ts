/** The options that all commands share, and what they lead to. */
import { type Command, InvalidArgumentError } from 'commander'
import type { Config } from '../app/config.ts'
import { type Cli, exitCodes } from './cli.ts'
import { type Client, openClient, readServerRecord } from './client.ts'

export interface CommonOptions {
  readonly port?: string
  readonly data?: string
  readonly json?: boolean
}

export interface Session {
  readonly cli: Cli
  readonly signal: AbortSignal
  /** Settings of the environment and the command line. @throws SluiceError CONFIGURATION */
  config(): Promise<Config>
  /** The server of `--port`, else the one that runs on this home, else that of `PORT`. */
  client(): Promise<Client>
}

/** A command that only reads takes `--json`; all take the place of the server and of its data. */
export function withCommonOptions(command: Command, kind: 'reading' | 'other' = 'other'): Command {
  if (kind === 'reading') command.option('--json', 'machine output on standard output')
  return command
    .option('--port <port>', 'port of the server (default: PORT, or that of the server that runs here, or 8000)')
    .option('--data <dir>', 'where the data is (default: SLUICE_HOME, or .sluice)')
}

export function openSession(cli: Cli, options: CommonOptions, signal: AbortSignal): Session {
  cli.json = options.json === true
  let config: Promise<Config> | undefined
  const read = async () => {
    const { readConfig } = await import('../app/config.ts')
    return readConfig(undefined, {
      ...(options.data === undefined ? {} : { home: options.data }),
      ...(options.port === undefined ? {} : { port: options.port }),
    })
  }
  const settings = () => {
    config ??= read()
    return config
  }
  return {
    cli,
    signal,
    config: settings,
    async client() {
      const { home, host, port } = await settings()
      const recorded = options.port === undefined ? readServerRecord(home)?.url : undefined
      return openClient(recorded ?? `http://${host}:${port}`, signal)
    },
  }
}

/** Adds `work` to a command. A number that it gives is the exit code of the process; anything else means done. */
export function does<Args extends unknown[], Options extends CommonOptions>(
  command: Command,
  context: CommandContext,
  work: (session: Session, options: Options, ...args: Args) => unknown,
): Command {
  return command.action(async (...given: unknown[]) => {
    // Commander passes the arguments, then the options, then the command.
    const options = given.at(-2) as Options
    const session = openSession(context.cli, options, context.signal)
    const code = await work(session, options, ...(given.slice(0, -2) as Args))
    context.exit(typeof code === 'number' ? code : exitCodes.done)
  })
}

export interface CommandContext {
  readonly cli: Cli
  /** Aborted by the first Ctrl-C. */
  readonly signal: AbortSignal
  exit(code: number): void
}

/** Reads the value of `--limit`: how many items at most. */
export function parseLimit(text: string): number {
  const most = 100_000
  if (/^\d{1,6}$/.test(text) && Number(text) >= 1 && Number(text) <= most) return Number(text)
  throw new InvalidArgumentError(`Allowed is a whole number from 1 to ${most}.`)
}
