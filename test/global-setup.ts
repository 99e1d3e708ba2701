/**
 * One place for the PostgreSQL of a test run. The server is started by the first test that asks for a database
 * (`database.ts`), so runs of pure tests pay nothing, and is stopped here at the end. Runs that were killed leave theirs
 * behind; the next run stops it. The same goes for the broker of Kafka, which ends with this process however that ends.
 */
import { existsSync } from 'node:fs'
import { access, constants, mkdtemp, readdir, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { startEmbedded } from '../src/postgres/embedded.ts'
import { tryLock } from '../src/postgres/kernel-lock.ts'
import { hostSharedBroker } from './services/shared-broker.ts'

export interface TestServer {
  /** A server of the developer's, from SLUICE_TEST_DATABASE_URL. */
  readonly url: string | undefined
  /** Home of the embedded server otherwise. */
  readonly home: string
}

declare module 'vitest' {
  interface ProvidedContext {
    testServer: TestServer
    /** Where the broker of the run is asked for. */
    kafkaSocket: string
  }
}

const prefix = 'sluice-test-'

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const memory = await roomyMemory()
  for (const parent of [tmpdir(), ...(memory === undefined ? [] : [memory])]) {
    for (const name of await readdir(parent)) {
      if (name.startsWith(prefix)) await removeLeftOver(join(parent, name))
    }
  }
  const home = await mkdtemp(join(memory ?? tmpdir(), prefix))
  const release = tryLock(lockIn(home), 'exclusive')
  project.provide('testServer', { url: process.env.SLUICE_TEST_DATABASE_URL, home })
  const socket = join(home, 'kafka.sock')
  project.provide('kafkaSocket', socket)
  const broker = await hostSharedBroker(socket)
  return async () => {
    await broker.stop()
    await removeHome(home)
    release?.()
  }
}

/** Cloning a database makes 300 files: measured 8 ms in memory, 50 to 350 ms on a disk. Containers often have only 64 MB there. */
async function roomyMemory(): Promise<string | undefined> {
  const folder = '/dev/shm'
  try {
    await access(folder, constants.W_OK)
    const { bavail, bsize } = await statfs(folder)
    return bavail * bsize >= 2 * 1024 ** 3 ? folder : undefined
  } catch {
    return undefined
  }
}

const lockIn = (home: string) => join(home, 'run.lock')

async function removeLeftOver(home: string): Promise<void> {
  if (!existsSync(lockIn(home))) return
  const release = tryLock(lockIn(home), 'exclusive')
  if (release === undefined) return
  await removeHome(home)
  release()
}

async function removeHome(home: string): Promise<void> {
  if (existsSync(join(home, 'postgres', 'data'))) {
    const server = await startEmbedded({ home })
    await server.stop()
  }
  await rm(home, { recursive: true, force: true })
}
