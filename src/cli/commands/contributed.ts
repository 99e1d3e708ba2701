/** Commands that the project's definitions contribute, such as `sluice catalog add`. */
import { join } from 'node:path'
import { type Command, Option } from 'commander'
import type { Version } from '../../app/build/build.ts'
import type { CommandManifest } from '../../core/manifest.ts'
import { inOneLine, SluiceError } from '../../errors.ts'
import { type JsonSchema, readValue } from '../parameters.ts'
import {
  type CommandContext,
  type CommonOptions,
  does,
  openSession,
  type Session,
  withCommonOptions,
} from '../session.ts'

/**
 * Adds them to the program. When none of them is asked for (`wanted` is false, as for help), a project that cannot be
 * built has none.
 */
export async function addContributed(
  program: Command,
  context: CommandContext,
  options: CommonOptions & { wanted: boolean },
): Promise<void> {
  const version = await buildDeployed(openSession(context.cli, options, context.signal)).catch((thrown: unknown) => {
    if (options.wanted) throw thrown
    return undefined
  })
  for (const one of version?.manifest.commands ?? []) add(program, context, one, version as Version)
}

/** As it is deployed: of a file that is wrong now, what it last was. */
async function buildDeployed(session: Session): Promise<Version> {
  const { projectDir, home } = await session.config()
  const { build } = await import('../../app/build/build.ts')
  const built = await build({ projectDir, home })
  if (built.manifest.faults.length === 0) return built
  const { lastDeployed } = await import('../../app/build/last-build.ts')
  return build({ projectDir, home, lastGood: await lastDeployed(join(home, 'versions')) })
}

function add(program: Command, context: CommandContext, manifest: CommandManifest, version: Version): void {
  const words = manifest.name.split(' ')
  const parent = words.length === 2 ? groupOf(program, words[0] as string) : program
  const command = parent.command(words.at(-1) as string).description(manifest.summary)
  for (const arg of manifest.args) command.argument(arg.startsWith('[') ? arg : `<${arg}>`)
  const { properties = {} } = manifest.options as JsonSchema
  for (const [field, schema] of Object.entries(properties)) command.addOption(optionOf(field, schema))
  does(
    withCommonOptions(command, 'reading'),
    context,
    async (session, options: CommonOptions, ...args: (string | undefined)[]) => {
      const values = readOptions(properties, options as Readonly<Record<string, unknown>>)
      return runContributed(
        session,
        version,
        manifest,
        args.filter((arg) => arg !== undefined),
        values,
      )
    },
  )
}

function groupOf(program: Command, name: string): Command {
  return (
    program.commands.find((command) => command.name() === name) ??
    program.command(name).description(`commands of ${name}`)
  )
}

function optionOf(field: string, { type, description = '', default: standard }: JsonSchema): Option {
  const flag = field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  const told = standard === undefined ? description : `${description} (default: ${JSON.stringify(standard)})`.trim()
  return new Option(type === 'boolean' ? `--${flag}` : `--${flag} <${[type ?? 'value'].flat().join('|')}>`, told)
}

function readOptions(properties: Readonly<Record<string, JsonSchema>>, given: Readonly<Record<string, unknown>>) {
  const entries = Object.entries(properties).flatMap(([field, schema]) => {
    const value = given[field]
    if (value === undefined) return []
    return [[field, typeof value === 'string' ? readValue(field, value, schema) : value] as const]
  })
  return Object.fromEntries(entries)
}

/** Authors' code runs in this process, without the deployment's secrets. */
async function runContributed(
  session: Session,
  { folder, manifest }: Version,
  { name, file }: CommandManifest,
  args: readonly string[],
  given: Readonly<Record<string, unknown>>,
): Promise<number> {
  const { cli, signal } = session
  const api = await session.client()
  const { forgetDeployment } = await import('../../app/config.ts')
  forgetDeployment()
  const { loadDefinitions } = await import('../../app/definitions.ts')
  const command = (await loadDefinitions(folder, manifest, new Set([file]))).commands.get(name)
  if (!command) throw new SluiceError('NOT_FOUND', `${file} no longer defines the command ${name}`)
  const parsed = await command.options.options?.safeParseAsync(given)
  if (parsed && !parsed.success) {
    const faults = parsed.error.issues.map(({ path, message }) => ({ where: `--${path.join('.')}`, message }))
    throw new SluiceError('USAGE', inOneLine(faults), { faults })
  }
  return command.options.run({
    args,
    options: parsed?.data ?? {},
    api,
    note: (text) => cli.note(text),
    print: (text, data) => cli.print(text, data),
    progress: (title) => cli.progress(title),
    signal,
  })
}
