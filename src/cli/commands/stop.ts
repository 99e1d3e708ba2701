import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import { SluiceError } from '../../errors.ts'
import { isAlive, readServerRecord } from '../client.ts'
import { type CommandContext, does, withCommonOptions } from '../session.ts'

const longestMs = 60_000

export function addStop(program: Command, context: CommandContext): void {
  const command = program.command('stop').description('stop the Sluice that runs on this data, and wait for its end')
  does(withCommonOptions(command), context, async ({ cli, config, signal }) => {
    const { home } = await config()
    const server = readServerRecord(home)
    if (server === undefined || !isOurs(server.pid)) {
      cli.note(`No Sluice runs on ${home}`)
      return stopLeftDatabase(home)
    }
    process.kill(server.pid, 'SIGTERM')
    cli.note(`Stopping the Sluice at ${server.url} (process ${server.pid})`)
    const until = performance.now() + longestMs
    while (isAlive(server.pid)) {
      if (performance.now() > until) {
        throw new SluiceError(
          'TIMEOUT',
          `Process ${server.pid} has not ended for ${longestMs / 1_000} s; see what it does, or end it with kill -9`,
        )
      }
      await delay(50, undefined, { signal })
    }
    cli.note('Stopped')
  })
}

/** The embedded PostgreSQL outlives a Sluice that was killed. Who opens it last stops it. */
async function stopLeftDatabase(home: string): Promise<void> {
  if (!existsSync(join(home, 'postgres', 'data', 'postmaster.pid'))) return
  const { startEmbedded } = await import('../../postgres/embedded.ts')
  const server = await startEmbedded({ home })
  await server.stop()
}

/** A process id may have been given to another program since the record was written. */
function isOurs(pid: number): boolean {
  return /sluice|cli\/main\.[jt]s/.test(commandLineOf(pid))
}

function commandLineOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    // No such file system: ask the program that every system has.
  }
  try {
    return execFileSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' })
  } catch {
    return ''
  }
}
