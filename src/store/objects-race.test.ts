/** The sweep against puts that go on: many writers, several processes, sweeps all the time. `SEED=7 npx vitest run src/store/objects-race.test.ts` plays another order. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { raceForObjects } from '../../test/object-race.ts'
import { until } from '../../test/sluice-process.ts'
import { openFiles } from '../objects/files.ts'
import { type Database, type Session, type Statement, statement } from '../ports/database.ts'
import type { ObjectStore } from '../ports/objects.ts'
import { openDatabase } from '../postgres/pool.ts'
import { adoptObjects, claimObjects, referToObjects, releaseObjects, sweepObjects } from './objects.ts'

const program = fileURLToPath(new URL('../../test/programs/put-objects.ts', import.meta.url))

let test: TestDatabase
let root: string
beforeAll(async () => {
  test = await testDatabase({ max: 12 })
  root = await mkdtemp(join(tmpdir(), 'sluice-object-race-'))
})
afterAll(async () => {
  await test.drop()
  await rm(root, { recursive: true, force: true })
})

const expireClaims = statement('test.expire-claims', `update sluice.object_claims set expires_at = '-infinity'`)
const forgetIdle = statement(
  'test.forget-idle',
  `update sluice.objects set idle_since = '-infinity' where idle_since is not null`,
)
const rowsStatement = statement<{ sha256: string; refs: number }>(
  'test.object-rows',
  `select encode(sha256, 'hex') as sha256,
     (select count(*) from sluice.object_refs r where r.sha256 = o.sha256)::int as refs
   from sluice.objects o order by 1`,
)
const emptyAll = statement('test.empty-objects', 'truncate sluice.objects, sluice.object_claims, sluice.object_refs')

async function stored(store: ObjectStore): Promise<string[]> {
  const found: string[] = []
  for await (const sha256 of store.list()) found.push(sha256)
  return found
}

/** What the daily and hourly rounds do, with every claim and grace past. */
async function sweepToTheEnd(store: ObjectStore): Promise<void> {
  const strays = await stored(store)
  await adoptObjects(
    test.db,
    strays.map((sha256) => ({ sha256, bytes: 1 })),
  )
  await test.db.execute(expireClaims)
  await test.db.execute(forgetIdle)
  while ((await sweepObjects(test.db, store, { graceMs: 0 })).examined > 0);
}

function startWriter(orders: object) {
  const flags = ['--conditions=sluice-source', '--disable-warning=ExperimentalWarning']
  const child = spawn(process.execPath, [...flags, program, JSON.stringify(orders)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  return { child, line: async () => (await lines.next()).value as string | undefined }
}

describe('sweeps and puts at the same time', () => {
  it('leave every object that something refers to whole, and nothing else', { timeout: 120_000 }, async () => {
    const folder = join(root, 'race')
    const seed = Number(process.env.SEED ?? 1)
    const store = openFiles(folder)
    let racing = true
    const sweeps = [1, 2].map(async (limit) => {
      // Each has files of its own: nothing that one knows of its directories is known to the others.
      const own = openFiles(folder)
      let removed = 0
      while (racing) {
        removed += (await sweepObjects(test.db, own, { graceMs: 0, limit: limit * 5 })).removed
        await new Promise((resolve) => setImmediate(resolve))
      }
      return removed
    })
    const processes = [1, 2].map(async (n) => {
      const { child, line } = startWriter({ url: test.url, folder, claimMs: 0, seed: seed * 10 + n })
      const answer = await line()
      if (child.exitCode === null) await once(child, 'exit')
      expect([child.exitCode, answer]).toEqual([0, expect.any(String)])
      return JSON.parse(answer!) as string[]
    })
    const here = [1, 2].map((n) => {
      const options = { database: test.db, seed: seed * 100 + n, name: `here-${n}`, writers: 4, rounds: 40 }
      return raceForObjects({ ...options, store: openFiles(folder) })
    })
    try {
      const kept = (await Promise.all([...here, ...processes])).flat()
      racing = false
      // The sweeps did remove things under the writers' hands.
      expect((await Promise.all(sweeps)).reduce((sum, removed) => sum + removed, 0)).toBeGreaterThan(5)
      await sweepToTheEnd(store)
      const wanted = [...new Set(kept)].sort()
      expect(wanted.length).toBeGreaterThan(5)
      const rows = await test.db.query(rowsStatement)
      expect(rows.map(({ sha256 }) => sha256)).toEqual(wanted)
      expect(rows.reduce((sum, { refs }) => sum + refs, 0)).toBe(kept.length)
      expect(await stored(store)).toEqual(wanted)
      for (const sha256 of wanted) await store.read(sha256)
    } finally {
      racing = false
    }
  })

  it('refuse the reference of a writer that was stopped past its claim, which puts again', {
    timeout: 60_000,
  }, async () => {
    await test.db.execute(emptyAll)
    const folder = join(root, 'paused')
    const store = openFiles(folder)
    const { child, line } = startWriter({ url: test.url, folder, text: 'paused', claimMs: 50 })
    try {
      expect(await line()).toBe('put')
      child.kill('SIGSTOP')
      // Its claim passes, and the sweep takes what it has put.
      await until(
        () => sweepObjects(test.db, store, { graceMs: 0 }),
        ({ removed }) => removed === 1,
      )
      expect(await stored(store)).toEqual([])
      child.kill('SIGCONT')
      child.stdin!.write('go on\n')
      expect(await line()).toBe('OBJECT_NOT_FOUND')
      expect(await line()).toBe('referred')
      await sweepToTheEnd(store)
      expect(await stored(store)).toHaveLength(1)
    } finally {
      child.kill('SIGKILL')
    }
  })
})

describe('a writer that ends', () => {
  let store: ObjectStore
  const begin = async (name: string) => {
    await test.db.execute(emptyAll)
    store = openFiles(join(root, name))
  }
  const claimed = (object: { sha256: string; bytes: number }) => claimObjects(test.db, 'a', [object], 60_000)

  it('between its row and its file leaves a row that goes, and harms nobody who puts the same', async () => {
    await begin('row-no-file')
    const crash = async (object: { sha256: string; bytes: number }) => {
      await claimed(object)
      throw new Error('killed')
    }
    await expect(store.put(Buffer.from('x'), crash)).rejects.toThrow('killed')
    expect(await test.db.query(rowsStatement)).toHaveLength(1)
    expect(await stored(store)).toEqual([])
    const { sha256 } = await store.put(Buffer.from('x'), claimed)
    await test.db.transaction((session) => referToObjects(session, 'a', [{ sha256, kind: 'test', id: '1' }]))
    await sweepToTheEnd(store)
    await store.read(sha256)
    await releaseObjects(test.db, 'test', ['1'])
    await sweepToTheEnd(store)
    expect([await test.db.query(rowsStatement), await stored(store)]).toEqual([[], []])
  })

  it('between its file and its reference leaves both to the sweep', async () => {
    await begin('file-no-reference')
    await store.put(Buffer.from('y'), claimed)
    expect([(await test.db.query(rowsStatement)).length, (await stored(store)).length]).toEqual([1, 1])
    await sweepToTheEnd(store)
    expect([await test.db.query(rowsStatement), await stored(store)]).toEqual([[], []])
  })

  it('half-way through its file leaves a temporary one, which goes in time', async () => {
    await begin('half-file')
    await store.put(Buffer.from('whole'), claimed)
    await writeFile(join(root, 'half-file/tmp/0123456789abcdef'), 'hal')
    expect(await store.removeStale(60_000)).toBe(0)
    expect(
      await openFiles(join(root, 'half-file'), { clock: { now: () => Date.now() + 120_000 } }).removeStale(60_000),
    ).toBe(1)
  })
})

describe('a sweep that is killed', () => {
  const steps = [
    'objects.lock-idle',
    'objects.delete-unneeded',
    'objects.forget-claims',
    'objects.keep',
    'first file',
    'all files',
  ]

  it.each(steps)('after %s leaves nothing that a put or the next sweep does not mend', async (step) => {
    await test.db.execute(emptyAll)
    const folder = await mkdtemp(join(root, 'killed-'))
    const store = openFiles(folder)
    const bytes = ['one', 'two', 'three'].map((text) => Buffer.from(text))
    const put = async (content: Buffer) =>
      (await store.put(content, (object) => claimObjects(test.db, 'a', [object], 60_000))).sha256
    const [first] = await Promise.all(bytes.map(put))
    await test.db.execute(expireClaims)
    await test.db.execute(forgetIdle)
    // A pool of its own, whose connections die in the middle as those of a killed process do.
    const pool = openDatabase({ ...test.options, max: 1 })
    const dying = dieAfter(pool, step)
    let removed = 0
    const files = {
      async remove(sha256: string) {
        await store.remove(sha256)
        removed += 1
        if (step === 'first file' || (step === 'all files' && removed === 3)) {
          pool.abandon()
          throw new Error('killed')
        }
      },
    }
    await expect(sweepObjects(dying, files, { graceMs: 0 })).rejects.toThrow()
    await pool.close()
    // Nothing of what the sweep wrote is there, so a put that comes now claims a row; whether its file is there or not, it is in the end.
    await until(
      () => test.db.query(rowsStatement),
      (rows) => rows.length === 3,
    )
    expect(await put(bytes[0]!)).toBe(first)
    await test.db.transaction((session) => referToObjects(session, 'a', [{ sha256: first!, kind: 'test', id: '1' }]))
    await sweepToTheEnd(store)
    expect(await stored(store)).toEqual([first])
    await store.read(first!)
    expect(await test.db.query(rowsStatement)).toEqual([{ sha256: first, refs: 1 }])
  })

  function dieAfter(pool: ReturnType<typeof openDatabase>, step: string): Database {
    const watched = (session: Session): Session => {
      const thenDie = async <T>(verb: Statement, run: Promise<T>) => {
        const result = await run
        if (verb.name !== step) return result
        pool.abandon()
        throw new Error('killed')
      }
      return {
        query: (verb, values) => thenDie(verb, session.query(verb, values)),
        execute: (verb, values) => thenDie(verb, session.execute(verb, values)),
        copyIn: (sql, rows) => session.copyIn(sql, rows),
        copyOut: (sql, take) => session.copyOut(sql, take),
        script: (sql) => session.script(sql),
      }
    }
    return { ...pool, transaction: (work) => pool.transaction((session) => work(watched(session))) }
  }
})
