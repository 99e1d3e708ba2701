/** The command line. What a command needs is loaded when it runs: `sluice version` is done in a tenth of a second. */
import { Cli } from './cli.ts'
import { runCli } from './run-cli.ts'

const interrupted = new AbortController()
let firstAt: number | undefined
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    // A terminal's Ctrl-C may come twice, from the terminal and from the parent that passes it on.
    if (firstAt !== undefined && performance.now() - firstAt > 300) process.exit(signal === 'SIGINT' ? 130 : 143)
    firstAt ??= performance.now()
    interrupted.abort()
  })
}

// Whoever reads the output has enough of it, as `head` does.
process.stdout.on('error', () => process.exit(0))

process.exitCode = await runCli(process.argv.slice(2), new Cli(), interrupted.signal)
// A command is over when it says so, not when its last idle connection is: the answer has been written by then.
process.stdout.write('', () => process.exit())
