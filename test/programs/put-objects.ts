/**
 * Writes objects as a process of its own. The argument is JSON: the database, the folder, and either a `text` to put once,
 * step by step, or a `seed` to race with.
 * With a text: claims and puts it, says `put`, waits for a line, refers to it, and says how that ended; then puts it again.
 */
import { once } from 'node:events'
import { openFiles } from '../../src/objects/files.ts'
import { openDatabase } from '../../src/postgres/pool.ts'
import { claimObjects, referToObjects } from '../../src/store/objects.ts'
import { raceForObjects } from '../object-race.ts'

interface Orders {
  readonly url: string
  readonly folder: string
  readonly text?: string
  readonly claimMs: number
  readonly seed?: number
}

const { url, folder, text, claimMs, seed } = JSON.parse(process.argv[2] ?? '') as Orders
const database = openDatabase({ url, applicationName: 'sluice test objects', max: 4 })
const store = openFiles(folder)
const say = (line: string) => process.stdout.write(`${line}\n`)

if (seed !== undefined) {
  const kept = await raceForObjects({ database, store, seed, name: `process-${seed}`, writers: 4, rounds: 25 })
  say(JSON.stringify(kept))
} else {
  const putAndRefer = async (ms: number, between: () => Promise<unknown>): Promise<string> => {
    const { sha256 } = await store.put(Buffer.from(text!), (object) => claimObjects(database, 'paused', [object], ms))
    await between()
    const refer = database.transaction((session) =>
      referToObjects(session, 'paused', [{ sha256, kind: 'test', id: 'paused' }]),
    )
    return refer.then(
      () => 'referred',
      (thrown: { code?: string }) => String(thrown.code),
    )
  }
  const first = await putAndRefer(claimMs, async () => {
    say('put')
    await once(process.stdin, 'data')
  })
  say(first)
  say(await putAndRefer(60_000, async () => {}))
}
await database.close()
process.exit(0)
