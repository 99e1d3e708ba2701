import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { openFiles } from '../objects/files.ts'
import { type Database, type Session, type Statement, statement } from '../ports/database.ts'
import type { ObjectStore } from '../ports/objects.ts'
import { adoptObjects, claimObjects, groupedClaims, referToObjects, releaseObjects, sweepObjects } from './objects.ts'

const hour = 3_600_000
const start = Date.UTC(2026, 0, 1)
const sweepOptions = { graceMs: hour }
const sha256Of = (text: string) => createHash('sha256').update(text).digest('hex')
const objectOf = (text: string) => ({ sha256: sha256Of(text), bytes: text.length })

const setNow = statement('test.set-now', `select set_config('sluice.now', $1, true)`)
const allObjects = statement<{ sha256: string; claims: string; refs: string; idle: Date | null }>(
  'test.objects',
  `select encode(o.sha256, 'hex') as sha256, o.idle_since as idle,
     (select count(*) from sluice.object_claims c where c.sha256 = o.sha256) as claims,
     (select count(*) from sluice.object_refs r where r.sha256 = o.sha256) as refs
   from sluice.objects o order by o.sha256`,
)
const waiting = statement(
  'test.waiting',
  `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
)
const emptyAll = statement('test.empty', 'truncate sluice.objects, sluice.object_claims, sluice.object_refs')

const gates: { open(): void }[] = []
/** A test that fails half-way leaves no transaction open for the next. */
afterEach(() => {
  for (const each of gates.splice(0)) each.open()
})

/** A point that a test reaches and opens when it wants. */
function gate() {
  let open = () => {}
  let arrive = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve
  })
  const made = {
    arrived,
    open: () => open(),
    async pass() {
      arrive()
      await opened
    },
  }
  gates.push(made)
  return made
}

let test: TestDatabase
let folder: string
beforeAll(async () => {
  test = await testDatabase()
  folder = await mkdtemp(join(tmpdir(), 'sluice-store-objects-'))
})
afterAll(async () => {
  await test?.drop()
  await rm(folder, { recursive: true, force: true })
})

/** The database as it is `ms` after the start of the test's time; `after` is called when a statement has run. */
function at(ms: number, after?: (name: string) => Promise<void>): Database {
  const transaction = <T>(work: (session: Session) => Promise<T>): Promise<T> =>
    test.db.transaction(async (session) => {
      await session.query(setNow, [new Date(start + ms).toISOString()])
      if (after === undefined) return work(session)
      const watched = async <R>(verb: Statement, run: () => Promise<R>) => {
        const result = await run()
        await after(verb.name)
        return result
      }
      return work({
        ...session,
        query: (verb, values) => watched(verb, () => session.query(verb, values)),
        execute: (verb, values) => watched(verb, () => session.execute(verb, values)),
      })
    })
  return {
    ...test.db,
    transaction,
    query: (verb, values) => transaction((session) => session.query(verb, values)),
    execute: (verb, values) => transaction((session) => session.execute(verb, values)),
  }
}

/** Returns once a statement of the database waits for a lock of another transaction; `work` must be what waits. */
async function untilItWaits(work: Promise<unknown>): Promise<void> {
  let ended = false
  const end = () => {
    ended = true
  }
  work.then(end, end)
  while ((await test.db.query(waiting)).length === 0) {
    if (ended) throw new Error('it did not wait')
  }
}

const rows = async () =>
  (await test.db.query(allObjects)).map(({ sha256, claims, refs }) => ({
    sha256,
    claims: Number(claims),
    refs: Number(refs),
  }))

describe('objects', () => {
  let files: ObjectStore
  beforeEach(async () => {
    await test.db.execute(emptyAll)
    files = openFiles(await mkdtemp(join(folder, 'files-')))
  })

  const putAt = (ms: number, text: string, claimant = 'a') =>
    files.put(Buffer.from(text), (object) => claimObjects(at(ms), claimant, [object], hour))
  const refer = (text: string, id: string, claimant = 'a', ms = 0) =>
    at(ms).transaction((session) => referToObjects(session, claimant, [{ sha256: sha256Of(text), kind: 'task', id }]))
  const isThere = async (text: string) => (await files.stat(sha256Of(text))) !== undefined

  it('keeps what is claimed until the claim and the grace have passed', async () => {
    await putAt(0, 'one')
    expect(await sweepObjects(at(2 * hour - 1), files, sweepOptions)).toEqual({ examined: 0, removed: 0 })
    expect(await isThere('one')).toBe(true)
    expect(await sweepObjects(at(2 * hour), files, sweepOptions)).toEqual({ examined: 1, removed: 1 })
    expect(await isThere('one')).toBe(false)
    expect(await rows()).toEqual([])
  })

  it('keeps what is referred to, looks at it once, and removes it a grace after the last release', async () => {
    await putAt(0, 'kept')
    await refer('kept', 'run-1')
    await refer('kept', 'run-2', 'somebody without a claim')
    expect(await rows()).toEqual([{ sha256: sha256Of('kept'), claims: 0, refs: 2 }])
    expect(await sweepObjects(at(50 * hour), files, sweepOptions)).toEqual({ examined: 1, removed: 0 })
    expect(await sweepObjects(at(51 * hour), files, sweepOptions)).toEqual({ examined: 0, removed: 0 })

    expect(await releaseObjects(at(60 * hour), 'task', ['run-1'])).toBe(1)
    expect(await sweepObjects(at(61 * hour), files, sweepOptions)).toEqual({ examined: 1, removed: 0 })
    expect(await releaseObjects(at(70 * hour), 'task', ['run-1', 'run-2'])).toBe(1)
    expect(await sweepObjects(at(71 * hour - 1), files, sweepOptions)).toEqual({ examined: 0, removed: 0 })
    expect(await sweepObjects(at(71 * hour), files, sweepOptions)).toEqual({ examined: 1, removed: 1 })
    expect(await isThere('kept')).toBe(false)
  })

  it('keeps a second claim when the first one ended', async () => {
    await putAt(0, 'twice', 'a')
    await putAt(1.5 * hour, 'twice', 'b')
    expect(await sweepObjects(at(2 * hour), files, sweepOptions)).toEqual({ examined: 0, removed: 0 })
    expect(await sweepObjects(at(3.5 * hour), files, sweepOptions)).toEqual({ examined: 1, removed: 1 })
  })

  it('claims and refers in batches, with the same object in it more than once', async () => {
    const objects = ['x', 'y', 'x'].map(objectOf)
    await claimObjects(at(0), 'a', objects, hour)
    await claimObjects(at(0), 'a', [], hour)
    const references = objects.map(({ sha256 }, index) => ({ sha256, kind: 'task', id: String(index) }))
    await at(0).transaction((session) => referToObjects(session, 'a', [...references, references[0]!]))
    expect((await rows()).map(({ claims, refs }) => [claims, refs]).sort()).toEqual([
      [0, 1],
      [0, 2],
    ])
  })

  it('refuses a reference without a live claim, and nothing of it remains', async () => {
    await putAt(0, 'late')
    await expect(refer('late', 'run-1', 'a', hour)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' })
    await expect(refer('late', 'run-1', 'another')).rejects.toThrow(/"another".*put it again/)
    await expect(refer('never put', 'run-1')).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' })
    expect(await rows()).toEqual([{ sha256: sha256Of('late'), claims: 1, refs: 0 }])
  })

  it('gathers claims: what comes while one write is under way is the next write', async () => {
    const written: number[] = []
    const before = gate()
    const db: Session = {
      ...test.db,
      async execute(verb, values) {
        written.push((values![0] as string[]).length)
        if (written.length === 1) await before.pass()
        return test.db.execute(verb, values)
      },
    }
    const claim = groupedClaims(db, 'a', hour)
    const first = claim(objectOf('0'))
    await before.arrived
    const others = Array.from({ length: 50 }, (_, index) => claim(objectOf(String(index))))
    before.open()
    await Promise.all([first, ...others])
    expect(written).toEqual([1, 50])
    expect(await rows()).toHaveLength(50)
  })

  it('passes the error of a gathered write to its claims only', async () => {
    const claim = groupedClaims(test.db, 'a', hour)
    const bad = claim({ sha256: 'abcd', bytes: 1 })
    await expect(bad).rejects.toThrow(/check constraint/)
    await claim(objectOf('good'))
    expect(await rows()).toHaveLength(1)
  })

  it('gives files without a row one, and the sweep takes them', async () => {
    await files.put(Buffer.from('orphan'), async () => {})
    await putAt(0, 'known')
    expect(await adoptObjects(at(0), [objectOf('orphan'), objectOf('known'), objectOf('orphan')])).toBe(1)
    expect(await sweepObjects(at(1.5 * hour), files, sweepOptions)).toEqual({ examined: 1, removed: 1 })
    expect([await isThere('orphan'), await isThere('known')]).toEqual([false, true])
  })

  it('sweeps at most `limit` objects, the longest idle first', async () => {
    for (const index of [2, 0, 1]) await putAt(index, `object ${index}`)
    const sweep = () => sweepObjects(at(9 * hour), files, { graceMs: hour, limit: 2 })
    expect(await sweep()).toEqual({ examined: 2, removed: 2 })
    expect(await isThere('object 2')).toBe(true)
    expect(await sweep()).toEqual({ examined: 1, removed: 1 })
  })
})

describe('a sweep and somebody else at once', () => {
  let files: ObjectStore
  const late = 9 * hour
  const text = 'raced'
  const bytes = Buffer.from(text)
  const object = objectOf(text)
  beforeEach(async () => {
    await test.db.execute(emptyAll)
    files = openFiles(await mkdtemp(join(folder, 'files-')))
    await files.put(bytes, (info) => claimObjects(at(0), 'earlier', [info], hour))
  })
  const claimLate = () => claimObjects(at(late), 'put', [object], hour)

  it('passes by an object whose claim is not committed yet', async () => {
    const claimed = gate()
    const claiming = at(late).transaction(async (session) => {
      await claimObjects(session, 'put', [object], hour)
      await claimed.pass()
    })
    await claimed.arrived
    expect(await sweepObjects(at(late), files, sweepOptions)).toEqual({ examined: 0, removed: 0 })
    claimed.open()
    await claiming
    expect(await sweepObjects(at(late), files, sweepOptions)).toEqual({ examined: 0, removed: 0 })
    expect(await files.stat(object.sha256)).toEqual(object)
  })

  for (const statementName of ['objects.lock-idle', 'objects.delete-unneeded', 'objects.keep']) {
    it(`makes a put that comes after ${statementName} wait, and write the bytes again`, async () => {
      const reached = gate()
      const sweeping = sweepObjects(
        at(late, (name) => (name === statementName ? reached.pass() : Promise.resolve())),
        files,
        sweepOptions,
      )
      await reached.arrived
      const putting = files.put(bytes, claimLate)
      await untilItWaits(putting)
      reached.open()
      expect(await sweeping).toEqual({ examined: 1, removed: 1 })
      await putting
      expect(await files.read(object.sha256)).toEqual(bytes)
      expect(await rows()).toEqual([{ sha256: object.sha256, claims: 1, refs: 0 }])
      await at(late).transaction((session) =>
        referToObjects(session, 'put', [{ sha256: object.sha256, kind: 'task', id: '1' }]),
      )
    })
  }

  it('makes a put wait while the file is being removed, and write it again', async () => {
    const removing = gate()
    const slow = {
      async remove(sha256: string) {
        await removing.pass()
        await files.remove(sha256)
      },
    }
    const sweeping = sweepObjects(at(late), slow, sweepOptions)
    await removing.arrived
    const putting = files.put(bytes, claimLate)
    await untilItWaits(putting)
    removing.open()
    await Promise.all([sweeping, putting])
    expect(await files.read(object.sha256)).toEqual(bytes)
  })

  it('that dies after removing the file leaves a row that nobody can refer to, and a put repairs it', async () => {
    const dies = {
      async remove(sha256: string) {
        await files.remove(sha256)
        throw new Error('killed')
      },
    }
    await expect(sweepObjects(at(late), dies, sweepOptions)).rejects.toThrow('killed')
    expect(await rows()).toEqual([{ sha256: object.sha256, claims: 1, refs: 0 }])
    const referring = at(late).transaction((session) =>
      referToObjects(session, 'earlier', [{ sha256: object.sha256, kind: 'task', id: '1' }]),
    )
    await expect(referring).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' })
    await files.put(bytes, claimLate)
    expect(await files.read(object.sha256)).toEqual(bytes)
    expect(await sweepObjects(at(late), files, sweepOptions)).toEqual({ examined: 0, removed: 0 })
  })

  it('passes by an object that somebody is about to refer to', async () => {
    await claimLate()
    const referred = gate()
    const referring = at(late).transaction(async (session) => {
      await referToObjects(session, 'put', [{ sha256: object.sha256, kind: 'task', id: '1' }])
      await referred.pass()
    })
    await referred.arrived
    const muchLater = late + 9 * hour
    expect(await sweepObjects(at(muchLater), files, sweepOptions)).toEqual({ examined: 0, removed: 0 })
    referred.open()
    await referring
    expect(await sweepObjects(at(muchLater), files, sweepOptions)).toEqual({ examined: 1, removed: 0 })
    expect(await files.stat(object.sha256)).toEqual(object)
  })

  it('shares the work with another sweep', async () => {
    const locked = gate()
    const first = sweepObjects(
      at(late, (name) => (name === 'objects.lock-idle' ? locked.pass() : Promise.resolve())),
      files,
      sweepOptions,
    )
    await locked.arrived
    expect(await sweepObjects(at(late), files, sweepOptions)).toEqual({ examined: 0, removed: 0 })
    locked.open()
    expect(await first).toEqual({ examined: 1, removed: 1 })
  })
})
