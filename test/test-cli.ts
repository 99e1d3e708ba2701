/** The command line in this process. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { Cli } from '../src/cli/cli.ts'
import { runCli } from '../src/cli/run-cli.ts'

/** What a command prints, and its exit code. */
export async function cliSays(argv: readonly string[], signal = new AbortController().signal) {
  const told = { out: '', err: '' }
  const cli = new Cli({ write: (some) => (told.out += some) }, { write: (some) => (told.err += some) })
  const code = await runCli(argv, cli, signal)
  return { code, ...told }
}

/** One command against an API that it opens, from an empty folder of data that goes with the test. */
export async function cliAt(api: { listen(port: number, host: string): Promise<string> }, ...command: string[]) {
  const { port } = new URL(await api.listen(0, '127.0.0.1'))
  const home = await mkdtemp(join(tmpdir(), 'sluice-cli-'))
  onTestFinished(() => rm(home, { recursive: true }))
  const run = (...argv: string[]) => cliSays([...command, ...argv, '--port', port, '--data', home])
  const json = async (...argv: string[]) => JSON.parse((await run(...argv, '--json')).out)
  return { run, json, home }
}
