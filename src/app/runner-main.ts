/**
 * A runner: executes authors' actions for the engine that forked it. It holds no database and no secret but those an
 * action asks for. When the engine is gone, or its lease is about to lapse, so is the runner: its attempts could not be
 * fenced otherwise.
 */
import { join } from 'node:path'
import { messageOf, SluiceError } from '../errors.ts'
import { attemptError, runAttempt } from '../executors/attempt.ts'
import type { AttemptEnd, AttemptProgress, AttemptStart, FromRunner, ToRunner } from '../executors/runner-protocol.ts'
import { WorkingTime } from '../executors/working-time.ts'
import { openFiles } from '../objects/files.ts'
import { AttemptLogs } from './attempt-logs.ts'
import { attemptContext } from './capabilities/attempt-context.ts'
import { capabilitiesOver, OpenConnections } from './capabilities/capabilities.ts'
import { RemoteCalls } from './capabilities/remote-calls.ts'
import type { Config } from './config.ts'
import { type Definitions, loadVersion } from './definitions.ts'
import { fromLevel } from './log-level.ts'

const [home, projectDir, logLevel] = process.argv.slice(2) as [string, string, Config['logLevel']]
/** What does not get there any more is of no use to anybody: the end of the channel is the end of this process. */
const send = (message: FromRunner) => process.send?.(message, undefined, undefined, () => {})
const remote = new RemoteCalls(send)
const store = openFiles(join(home, 'objects'))
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
  running.set(start.token, controller)
  let end: AttemptEnd
  try {
    const definitions = await definitionsOf(start.version)
    const action = definitions.actionOf(start.workflow, start.nodeId)
    end = await runAttempt(start, action, controller.signal, { context, storeResult })
  } catch (thrown) {
    end = { token: start.token, kind: 'failure', error: attemptError(thrown) }
  }
  if (end.kind === 'failure') logs.of(start.token).error(`${end.error.code}: ${end.error.message}`)
  running.delete(start.token)
  if (ends.push(end) === 1) setImmediate(flush)
}

/** Ends that came in one turn of the event loop go in one message; what they logged and how far they came goes before. */
function flush(): void {
  logs.flush()
  tellProgress()
  for (const { token } of ends) logs.forget(token)
  send({ t: 'ended', ends: ends.splice(0) })
}

function context(start: AttemptStart, signal: AbortSignal) {
  const calls = remote.of(start.token)
  const log = fromLevel(logLevel, logs.of(start.token))
  return attemptContext(
    capabilitiesOver({ calls, store, connections, projectDir, log }, signal),
    calls,
    start,
    (done, total) => {
      if (progress.size === 0) setTimeout(tellProgress, 100)
      progress.set(start.token, { token: start.token, done, total: total ?? null })
    },
  )
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
