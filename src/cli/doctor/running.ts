/** The port, and how what runs is doing. */
import { createServer } from 'node:net'
import { join } from 'node:path'
import { messageOf } from '../../errors.ts'
import type { Database } from '../../ports/database.ts'
import { readServerRecord } from '../client.ts'
import { fail, ok, type Subject, type Told, warn } from './finding.ts'

export async function lookAtPort({ config: { home, host, port } }: Subject): Promise<Told[]> {
  const running = readServerRecord(home)
  if (running !== undefined) return lookAtServing(running.url, host, port)
  const taken = await portFault(host, port)
  if (taken === undefined) return [ok(`${port} is free`)]
  if (taken.code === 'EACCES') {
    return [fail(`${port}: ${taken.message}`, 'ports below 1024 are for root', 'set PORT to 1024 or more')]
  }
  if (taken.code !== 'EADDRINUSE')
    return [fail(`${port}: ${taken.message}`, 'the port cannot be opened', 'set PORT to another')]
  const other = await answerOf(`http://${host}:${port}/healthz`)
  return other?.status === 200 && other.text.includes('"ok"')
    ? [fail(`${port}: a Sluice on other data holds it`, 'two cannot share a port', 'stop it there, or set PORT here')]
    : [
        fail(
          `${port}: another program holds it`,
          'a health check of this port asks that program',
          'stop it, or set PORT to another',
        ),
      ]
}

/** The Sluice that runs on this home: where it answers, and whether it is ready. */
async function lookAtServing(url: string, host: string, port: number): Promise<Told[]> {
  const told: Told[] = []
  if (url !== '' && port !== 0 && new URL(url).port !== String(port)) {
    const why = `a health check of ${port} fails, or asks another program`
    told.push(
      warn(
        `Sluice answers at ${url}, and PORT says ${port}`,
        why,
        `let health checks ask ${url}/healthz, or set PORT=${new URL(url).port}`,
      ),
    )
  }
  if (url === '') return [ok('the Sluice that runs here serves no API')]
  const health = await answerOf(`${url}/healthz`)
  if (health === undefined) {
    return [
      ...told,
      fail(
        `${url} does not answer`,
        `its process runs, on ${host}, and hangs`,
        'see its log; or: sluice stop, then start it',
      ),
    ]
  }
  const ready = await answerOf(`${url}/readyz`)
  if (ready?.status === 200) return [...told, ok(`Sluice answers at ${url}, and is ready`)]
  const detail = (readJson(ready?.text) as { detail?: string } | undefined)?.detail ?? 'it does not say why'
  return [
    ...told,
    fail(
      `${url} is not ready: ${detail}`,
      'work is not taken now',
      'see what it names; it goes on by itself when that is mended',
    ),
  ]
}

function readJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? '')
  } catch {
    return undefined
  }
}

async function answerOf(url: string): Promise<{ status: number; text: string } | undefined> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(5_000) })
    return { status: response.status, text: (await response.text()).slice(0, 100_000) }
  } catch {
    return undefined
  }
}

function portFault(host: string, port: number): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', resolve)
    server.listen(port, host, () => server.close(() => resolve(undefined)))
  })
}

/** What waits for somebody who is not there, or for a person. */
export async function lookAtWork(database: Database): Promise<Told[]> {
  const { readStuck } = await import('../../store/reading/server.ts')
  const { engines, shardProcesses, orphanRuns, orphanShards, deadLetters } = await readStuck(database)
  const told: Told[] = []
  const runs = `${orphanRuns} runs have had no owner for over a minute`
  if (orphanRuns > 0 && engines === 0) told.push(warn(runs, 'no engine runs', 'start Sluice: sluice dev'))
  else if (orphanRuns > 0)
    told.push(
      fail(runs, 'an engine runs and does not take them', 'see what the engine says on standard error, and /readyz'),
    )
  const shards = `${orphanShards} shards with records to do have had no holder for over a minute`
  if (orphanShards > 0 && shardProcesses === 0)
    told.push(warn(shards, 'no stream process runs', 'start Sluice: sluice dev'))
  else if (orphanShards > 0) {
    told.push(
      fail(
        shards,
        'stream processes run and do not take them: the stream may have left the definitions',
        'see sluice streams, and sluice check',
      ),
    )
  }
  if (deadLetters.length > 0) {
    const fix = 'look at them: sluice dead-letters STREAM; try them again with --replay'
    told.push(warn(`dead letters wait (${deadLetters.join(', ')})`, 'records have given up after their last try', fix))
  }
  return told.length > 0 ? told : [ok('nothing is stuck')]
}

const sampled = 100
/** Bytes that are hashed again at most. */
const hashedBytes = 64 * 1024 ** 2

/** A sample of what is referred to: all of it is for a command that takes its time. */
export async function lookAtObjects(database: Database, { config: { home }, random }: Subject): Promise<Told[]> {
  const { openFiles } = await import('../../objects/files.ts')
  const { sampleObjects } = await import('../../store/reading/server.ts')
  const store = openFiles(join(home, 'objects'))
  const from = Math.floor(random() * 2 ** 32)
    .toString(16)
    .padStart(8, '0')
  let rows = await sampleObjects(database, from, sampled)
  if (rows.length < sampled) rows = [...rows, ...(await sampleObjects(database, '', sampled - rows.length))]
  const wanted = new Map(rows.map(({ sha256, bytes }) => [sha256, bytes]))
  const missing: string[] = []
  const damaged: string[] = []
  let left = hashedBytes
  for (const [sha256, bytes] of wanted) {
    const found = await store.stat(sha256)
    if (found === undefined) missing.push(sha256)
    else if (found.bytes !== bytes) damaged.push(sha256)
    else if (bytes <= left) {
      left -= bytes
      await store.read(sha256).catch((thrown: unknown) => damaged.push(`${sha256} (${messageOf(thrown)})`))
    }
  }
  const fix =
    'restore a backup beside it and copy the objects over; an app that can fetch again does it with sluice verify --refetch'
  const told: Told[] = []
  if (missing.length > 0)
    told.push(
      fail(
        `${missing.length} of ${wanted.size} objects are missing, such as ${missing[0]}`,
        'something refers to them',
        fix,
      ),
    )
  if (damaged.length > 0) {
    told.push(
      fail(
        `${damaged.length} of ${wanted.size} objects are damaged, such as ${damaged[0]}`,
        'their bytes are not those of their hash',
        fix,
      ),
    )
  }
  return told.length > 0 ? told : [ok(wanted.size === 0 ? 'none yet' : `a sample of ${wanted.size} is whole`)]
}
