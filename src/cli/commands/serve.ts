import { type Command, InvalidArgumentError } from 'commander'
import { exitCodes } from '../cli.ts'
import { type CommandContext, type CommonOptions, does, type Session, withCommonOptions } from '../session.ts'

const allRoles = ['api', 'engine', 'worker', 'stream'] as const
type Role = (typeof allRoles)[number]

interface ServeOptions extends CommonOptions {
  readonly roles?: ReadonlySet<Role>
}

export function addServe(program: Command, context: CommandContext): void {
  const command = program
    .command('serve')
    .description('run Sluice, without watching the definition files')
    .option('--roles <roles>', `which parts run here: ${allRoles.join(',')} (default: all)`, parseRoles)
  does(withCommonOptions(command), context, (session, { roles }: ServeOptions) =>
    serve(session, { watch: false, ...(roles ? { roles } : {}) }),
  )
}

/** Runs until it is interrupted or fails. */
export async function serve(session: Session, options: { watch: boolean; roles?: ReadonlySet<Role> }): Promise<number> {
  const { cli, signal } = session
  const config = await session.config()
  const { unknownSettings } = await import('../../app/config.ts')
  for (const name of unknownSettings()) cli.log(`${name} means nothing to Sluice; sluice doctor names what does`)
  const { startSupervisor } = await import('../../app/supervisor.ts')
  const startedAt = performance.now()
  const supervisor = await startSupervisor({
    projectDir: config.projectDir,
    config,
    roles: options.roles ?? new Set(allRoles),
    watch: options.watch,
    log: (line) => cli.log(line),
  })
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1)
  cli.log(`Sluice is ready at ${supervisor.url} after ${seconds} s. Its data is in ${config.home}. Ctrl-C stops it.`)
  try {
    await interruption(signal)
  } finally {
    cli.log('Stopping. What is under way goes on with the next start; Ctrl-C again ends it at once.')
    await supervisor.stop()
  }
  return exitCodes.done
}

function interruption(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

function parseRoles(text: string): ReadonlySet<Role> {
  const names = text.split(',').map((name) => name.trim())
  const wrong = names.find((name) => !(allRoles as readonly string[]).includes(name))
  if (wrong !== undefined)
    throw new InvalidArgumentError(`${JSON.stringify(wrong)} is no role; there are ${allRoles.join(', ')}.`)
  return new Set(names as Role[])
}
