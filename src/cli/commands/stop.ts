import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import { SluiceError } from '../../errors.ts'
import { isAlive, readServerRecord } from '../client.ts'
import { type CommandContext, does, withCommonOptions } from '../session.ts'

/** Two groups of processes take 25 s each at most, PostgreSQL 40 s; then they have been killed. The rest is for a busy machine. */
const longestMs = 120_000
/** Who waits is told so often that it goes on. */
const tellEveryMs = 10_000

export function addStop(program: Command, context: CommandContext): void {
  const command = program.command('stop').description('stop the Sluice that runs on this data, and wait for its end')
  does(withCommonOptions(command), context, async ({ cli, config, signal }) => {
    const { home } = await config()
    if (!(await isHeld(home))) {
      cli.note(`No Sluice runs on ${home}`)
      return stopLeftDatabase(home)
    }
    // Whoever holds the home removed the record of the one before, so the record is its own.
    const server = readServerRecord(home)
    if (server === undefined)
      throw new SluiceError('CONFLICT', `The Sluice on ${home} is just starting or stopping; try again`)
    process.kill(server.pid, 'SIGTERM')
    cli.note(`Stopping the Sluice at ${server.url} (process ${server.pid})`)
    await untilEnded(server.pid, {
      isAlive: () => isAlive(server.pid),
      now: () => performance.now(),
      pause: () => delay(50, undefined, { signal }),
      note: (line) => cli.note(line),
    })
    cli.note('Stopped')
  })
}

interface Wait {
  isAlive(): boolean
  /** Milliseconds of any clock that nobody sets. */
  now(): number
  pause(): Promise<void>
  note(line: string): void
}

/** @throws SluiceError TIMEOUT when the process has not ended after 120 s. */
export async function untilEnded(pid: number, { isAlive, now, pause, note }: Wait): Promise<void> {
  const since = now()
  let tellAt = since + tellEveryMs
  while (isAlive()) {
    const waited = now() - since
    if (waited >= longestMs) {
      throw new SluiceError(
        'TIMEOUT',
        `Process ${pid} has not ended for ${longestMs / 1_000} s; see what it does, or end it with kill -9`,
      )
    }
    if (now() >= tellAt) {
      note(`It still stops, after ${Math.round(waited / 1_000)} s of at most ${longestMs / 1_000} s`)
      tellAt += tellEveryMs
    }
    await pause()
  }
}

/** The embedded PostgreSQL outlives a Sluice that was killed. Who opens it last stops it. */
async function stopLeftDatabase(home: string): Promise<void> {
  if (!existsSync(join(home, 'postgres', 'data', 'postmaster.pid'))) return
  const { startEmbedded } = await import('../../postgres/embedded.ts')
  const server = await startEmbedded({ home })
  await server.stop()
}

/** Whether a supervisor holds the home: the lock ends with its process, however it ends. */
async function isHeld(home: string): Promise<boolean> {
  const lock = join(home, 'supervisor.lock')
  if (!existsSync(lock)) return false
  const { tryLock } = await import('../../postgres/kernel-lock.ts')
  const release = tryLock(lock, 'shared')
  release?.()
  return release === undefined
}
