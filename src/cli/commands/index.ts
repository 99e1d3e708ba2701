import type { Command } from 'commander'
import type { CommandContext } from '../session.ts'
import { addBackup } from './backup.ts'
import { addBuild } from './build.ts'
import { addCancel } from './cancel.ts'
import { addCheck } from './check.ts'
import { addDeadLetters } from './dead-letters.ts'
import { addDev } from './dev.ts'
import { addDoctor } from './doctor.ts'
import { addLogs } from './logs.ts'
import { addMigrate } from './migrate.ts'
import { addRestore } from './restore.ts'
import { addRun } from './run.ts'
import { addRuns } from './runs.ts'
import { addServe } from './serve.ts'
import { addShow } from './show.ts'
import { addStop } from './stop.ts'
import { addStreams } from './streams.ts'
import { addVersion } from './version.ts'

const own: Readonly<Record<string, (program: Command, context: CommandContext) => void>> = {
  dev: addDev,
  serve: addServe,
  stop: addStop,
  run: addRun,
  runs: addRuns,
  show: addShow,
  logs: addLogs,
  cancel: addCancel,
  streams: addStreams,
  'dead-letters': addDeadLetters,
  backup: addBackup,
  restore: addRestore,
  check: addCheck,
  doctor: addDoctor,
  migrate: addMigrate,
  build: addBuild,
  version: addVersion,
}

/** `help` is the command library's own. */
export const ownCommandNames: ReadonlySet<string> = new Set([...Object.keys(own), 'help'])

export function registerOwnCommands(program: Command, context: CommandContext): void {
  for (const add of Object.values(own)) add(program, context)
}
