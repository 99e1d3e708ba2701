import type { Command } from 'commander'
import type { CommandContext } from '../session.ts'
import { addApprovals } from './approvals.ts'
import { addApprove } from './approve.ts'
import { addBackfill, addBackfills } from './backfill.ts'
import { addBackup } from './backup.ts'
import { addBuild } from './build.ts'
import { addCancel } from './cancel.ts'
import { addCheck } from './check.ts'
import { addDeadLetters } from './dead-letters.ts'
import { addDev } from './dev.ts'
import { addDoctor } from './doctor.ts'
import { addInit } from './init.ts'
import { addLineage } from './lineage.ts'
import { addLogs } from './logs.ts'
import { addMigrate } from './migrate.ts'
import { addPause, addResume } from './pause.ts'
import { addPlans } from './plans.ts'
import { addPools } from './pools.ts'
import { addReproduce } from './reproduce.ts'
import { addRestore } from './restore.ts'
import { addRetry } from './retry.ts'
import { addRun } from './run.ts'
import { addRuns } from './runs.ts'
import { addServe } from './serve.ts'
import { addShow } from './show.ts'
import { addStop } from './stop.ts'
import { addStreams } from './streams.ts'
import { addTest } from './test.ts'
import { addVersion } from './version.ts'
import { addWhy } from './why.ts'

const own: Readonly<Record<string, (program: Command, context: CommandContext) => void>> = {
  init: addInit,
  dev: addDev,
  serve: addServe,
  stop: addStop,
  run: addRun,
  runs: addRuns,
  show: addShow,
  plans: addPlans,
  test: addTest,
  logs: addLogs,
  why: addWhy,
  pools: addPools,
  cancel: addCancel,
  retry: addRetry,
  pause: addPause,
  resume: addResume,
  approvals: addApprovals,
  approve: addApprove,
  backfill: addBackfill,
  backfills: addBackfills,
  streams: addStreams,
  'dead-letters': addDeadLetters,
  lineage: addLineage,
  reproduce: addReproduce,
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
