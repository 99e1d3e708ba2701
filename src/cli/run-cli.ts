import { Command, CommanderError } from 'commander'
import { version } from '../app/version.ts'
import { SluiceError } from '../errors.ts'
import { type Cli, exitCodeOf, exitCodes } from './cli.ts'
import { ownCommandNames, registerOwnCommands } from './commands/index.ts'
import type { CommandContext } from './session.ts'

/** Runs one command line; gives its exit code. */
export async function runCli(argv: readonly string[], cli: Cli, signal: AbortSignal): Promise<number> {
  let code: number = exitCodes.done
  let help = ''
  const context: CommandContext = {
    cli,
    signal,
    exit: (given) => {
      code = given
    },
  }
  const program = new Command('sluice')
    .description('Data workflows in TypeScript: batch runs and record streams.')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => cli.print(text.trimEnd(), text),
      // Errors come as exceptions, and are told like any other; of help that nobody asked for that is the last text.
      writeErr: (text) => {
        help = text
      },
    })
    .helpCommand(true)
    // Commands have a --version of their own.
    .enablePositionalOptions()
    .version(version, '-V, --version', 'print the version')
    .showSuggestionAfterError(true)
  registerOwnCommands(program, context)
  try {
    const word = argv.find((argument) => !argument.startsWith('-'))
    if (word === undefined ? argv.includes('--help') || argv.includes('-h') : !ownCommandNames.has(word)) {
      await registerContributed(program, context, argv, word !== undefined)
    }
    await program.parseAsync(argv, { from: 'user' })
    return code
  } catch (thrown) {
    cli.json ||= argv.includes('--json')
    const error = thrown instanceof CommanderError ? usageError(thrown, help) : thrown
    if (error === undefined) return exitCodes.done
    cli.complain(error)
    return exitCodeOf(error)
  }
}

/** Undefined where help or the version was asked for and shown. */
function usageError(thrown: CommanderError, help: string): SluiceError | undefined {
  if (thrown.exitCode === 0) return undefined
  if (thrown.code === 'commander.help') return new SluiceError('USAGE', help.trimEnd())
  return new SluiceError('USAGE', thrown.message.replace(/^error: /, '').replaceAll('\n', ' '))
}

/** The commands of the project's definitions. A word that is none of ours may be one of theirs. */
async function registerContributed(
  program: Command,
  context: CommandContext,
  argv: readonly string[],
  wanted: boolean,
) {
  const { addContributed } = await import('./commands/contributed.ts')
  const at = argv.indexOf('--data')
  const data = at < 0 ? undefined : argv[at + 1]
  await addContributed(program, context, { ...(data === undefined ? {} : { data }), wanted })
}
