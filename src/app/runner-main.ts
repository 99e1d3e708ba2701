/**
 * A runner: executes authors' actions for the engine that forked it. It holds no database and no secret but those an
 * action asks for. When the engine is gone, or its lease is about to lapse, so is the runner: its attempts could not be
 * fenced otherwise.
 */
import { join } from 'node:path'
import { messageOf, SluiceError } from '../errors.ts'
import { attemptError, runAttempt } from '../executors/attempt.ts'
import { runProgram } from '../executors/program.ts'
import type { AttemptEnd, AttemptProgress, AttemptStart, FromRunner, ToRunner } from '../executors/runner-protocol.ts'
import { WorkingTime } from '../executors/working-time.ts'
import { openFiles } from '../objects/files.ts'
import { scratchOver } from '../objects/scratch.ts'
import { type RunsPrograms, runsPrograms } from '../sdk/program.ts'
import { monotonicMs, systemClock } from '../time.ts'
import { AttemptLogs } from './attempt-logs.ts'
import { type AttemptFacts, attemptContext } from './capabilities/attempt-context.ts'
import { type CapabilityParts, capabilitiesOver, OpenConnections } from './capabilities/capabilities.ts'
import { Effects } from './capabilities/effects.ts'
import { RemoteCalls } from './capabilities/remote-calls.ts'
import { type Config, minimalEnvironment } from './config.ts'
import { type Definitions, loadVersion } from './definitions.ts'
import { fromLevel } from './log-level.ts'

/** With `scratch`, attempts are reproduced: what they store goes into that folder. */
const [home, projectDir, logLevel, scratch] = process.argv.slice(2) as [string, string, Config['logLevel'], string?]
/** What does not get there any more is of no use to anybody: the end of the channel is the end of this process. */
const send = (message: FromRunner) => process.send?.(message, undefined, undefined, () => {})
/** How long the end of an attempt may wait for what it did to be noted: less than the engine's patience with late ends. */
const noteMs = 2_000
const longestTimer = 2 ** 31 - 1
const remote = new RemoteCalls(send)
const kept = openFiles(join(home, 'objects'))
const store = scratch === undefined ? kept : scratchOver(kept, openFiles(scratch))
const versions = new Map<string, Promise<Definitions>>()
const running = new Map<number, AbortController>()
const logs = new AttemptLogs((batch) => send({ t: 'logs', logs: batch }))
const ends: AttemptEnd[] = []
const progress = new Map<number, AttemptProgress>()
/** The settings of a connection are the same for all attempts: any that is live may ask. */
const connections = new OpenConnections((name, kind) => {
  const [anyToken = 0] = running.keys()
  return remote.of(anyToken).connectionSettings(name, kind)
})

/** Killed, since what is under way must not go on: neither authors' exit handlers nor a full pipe can hold it up. */
const time = new WorkingTime({
  isBusy: () => running.size > 0,
  end: () => process.kill(process.pid, 'SIGKILL'),
})

process.on('message', (message: ToRunner) => {
  switch (message.t) {
    case 'start':
      for (const attempt of message.attempts) void execute(attempt)
      time.look()
      return
    case 'cancel':
      for (const token of message.tokens)
        running.get(token)?.abort(new SluiceError('CANCELLED', 'the run was cancelled'))
      return
    case 'lease':
      time.extend(message.until)
      return
    case 'ping':
      send({ t: 'pong', rss: process.memoryUsage.rss() })
      return
    default:
      remote.hear(message)
  }
})
process.on('disconnect', () => process.exit(0))
// A promise that an author let float must not take the other attempts with it.
process.on('unhandledRejection', (reason) => process.stderr.write(`unhandled rejection: ${messageOf(reason)}\n`))
process.on('SIGINT', () => {})
send({ t: 'ready' })

async function execute(start: AttemptStart): Promise<void> {
  const controller = new AbortController()
  const effects = new Effects()
  const began = monotonicMs()
  running.set(start.token, controller)
  let end: AttemptEnd
  try {
    const definitions = await definitionsOf(start.version)
    const action = definitions.actionOf(start.workflow, start.nodeId)
    const recalled = scratch === undefined ? undefined : await remote.of(start.token).recalled()
    const facts = { effects, now: recalled?.now ?? systemClock.now(), files: recalled?.files }
    end = await runAttempt(start, action, controller.signal, {
      context: (_, signal) => context(start, signal, facts),
      storeResult,
    })
  } catch (thrown) {
    end = { token: start.token, kind: 'failure', error: attemptError(thrown) }
  }
  if (effects.any) end = await noteEffects(end, effects, start.timeoutMs - (monotonicMs() - began), controller.signal)
  if (end.kind === 'failure') logs.of(start.token).error(`${end.error.code}: ${end.error.message}`)
  running.delete(start.token)
  if (ends.push(end) === 1) setImmediate(flush)
}

/** A success counts once it is known what it came from; it waits no longer for that than its time limit and a cancel allow. */
async function noteEffects(
  end: AttemptEnd,
  effects: Effects,
  leftMs: number,
  cancelled: AbortSignal,
): Promise<AttemptEnd> {
  const patient = end.kind === 'success' ? Math.max(0, leftMs) + noteMs : noteMs
  const late = new SluiceError('DATABASE_UNREACHABLE', 'what the attempt read and wrote could not be noted in time')
  let timer: NodeJS.Timeout | undefined
  try {
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(late), Math.min(patient, longestTimer))
      cancelled.addEventListener('abort', () => {
        clearTimeout(timer)
        timer = setTimeout(() => reject(late), noteMs)
      })
    })
    await Promise.race([remote.of(end.token).noteLineage(effects.all()), tooLate])
    return end
  } catch (thrown) {
    return end.kind === 'success' ? { token: end.token, kind: 'failure', error: attemptError(thrown) } : end
  } finally {
    clearTimeout(timer)
  }
}

/** Ends that came in one turn of the event loop go in one message; what they logged and how far they came goes before. */
function flush(): void {
  logs.flush()
  tellProgress()
  for (const { token } of ends) logs.forget(token)
  send({ t: 'ended', ends: ends.splice(0) })
}

function context(start: AttemptStart, signal: AbortSignal, facts: AttemptFacts & Pick<CapabilityParts, 'files'>) {
  const calls = remote.of(start.token)
  const log = fromLevel(logLevel, logs.of(start.token))
  const programs: RunsPrograms = (call) => {
    // Here, for most attempts run none, and gathering it costs as much as the rest of a small attempt's context.
    const environment = {
      ...minimalEnvironment(),
      SLUICE_RUN_ID: start.runId,
      SLUICE_WORKFLOW: start.workflow,
      SLUICE_TASK: start.nodeId,
      SLUICE_ATTEMPT: String(start.attempt),
      SLUICE_MAP_INDEX: String(start.mapIndex),
    }
    facts.effects.note('read', 'program', call.name, null, null)
    return runProgram(call, { projectDir, environment, log, signal })
  }
  const context = attemptContext(
    capabilitiesOver({ calls, store, connections, projectDir, log, files: facts.files }, signal),
    calls,
    start,
    (done, total) => {
      if (progress.size === 0) setTimeout(tellProgress, 100)
      progress.set(start.token, { token: start.token, done, total: total ?? null })
    },
    facts,
  )
  return Object.assign(context, { [runsPrograms]: programs })
}

function tellProgress(): void {
  if (progress.size === 0) return
  send({ t: 'progress', progress: [...progress.values()] })
  progress.clear()
}

async function storeResult(start: AttemptStart, result: string): Promise<string> {
  const calls = remote.of(start.token)
  const { sha256, bytes } = await store.put(Buffer.from(result), (object) => calls.claimObject(object))
  return JSON.stringify({ $object: sha256, bytes })
}

function definitionsOf(version: string): Promise<Definitions> {
  let found = versions.get(version)
  if (!found) {
    found = loadVersion(join(home, 'versions', version))
    found.catch(() => versions.delete(version))
    versions.set(version, found)
  }
  return found
}
