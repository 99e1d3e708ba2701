import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Database, type Statement, statement } from '../src/ports/database.ts'
import { EngineWorld, until } from './engine-world.ts'

let world: EngineWorld
beforeEach(async () => {
  world = await EngineWorld.open()
})
afterEach(async () => {
  const breaches = await world.breaches()
  await world.close()
  expect(breaches).toEqual([])
})

const killConnections = statement(
  'test.kill-connections',
  `select pg_terminate_backend(pid) from pg_stat_activity where application_name like $1 and pid <> pg_backend_pid()`,
)
const lapse = statement('test.lapse', `update sluice.nodes set lease_until = sluice.sluice_now() - interval '1 second'`)
const forgetNodes = statement('test.forget-nodes', 'delete from sluice.nodes')
const takeAway = statement('test.take-away', 'update sluice.runs set epoch = epoch + 1 where id = $1')

const isCommit = (sql: Statement) => sql.name.startsWith('transitions.commit_')

/** Lets a test stand before or after every query of an engine. */
function around(
  query: (sql: Statement, values: readonly unknown[], go: () => Promise<unknown[]>) => Promise<unknown[]>,
) {
  return (db: Database): Database => ({
    ...db,
    query: (async (sql: Statement, values: readonly unknown[] = []) =>
      query(sql, values, () => db.query(sql, values))) as Database['query'],
  })
}

describe('commands', () => {
  it('leave only after their commit', async () => {
    const held = Promise.withResolvers<void>()
    const engine = await world.engine({
      wrap: around(async (sql, _, go) => {
        if (isCommit(sql)) await held.promise
        return go()
      }),
    })
    const started: string[] = []
    const start = engine.executor.start.bind(engine.executor)
    engine.executor.start = (attempts, isolation) => {
      started.push(...attempts.map((attempt) => attempt.runId))
      start(attempts, isolation)
    }
    const id = await world.start('none')
    await until('the run to be held', () => engine.engine.runs.held === 1)
    expect(started).toEqual([])
    held.resolve()
    expect(await world.ended(id)).toBe('success')
    expect(started).toEqual([id])
  })

  it('of a refused group do not leave; its runs are read again and end right', async () => {
    const ids = await Promise.all(Array.from({ length: 20 }, () => world.start('none')))
    let refused = false
    const engine = await world.engine({
      wrap: around(async (sql, _, go) => {
        if (isCommit(sql) && !refused) {
          refused = true
          throw Object.assign(new Error('refused by the fence: a test'), { code: 'P0001' })
        }
        return go()
      }),
    })
    for (const id of ids) expect(await world.ended(id)).toBe('success')
    expect(engine.notes.some((note) => note.includes('20 runs failed, they are read again'))).toBe(true)
  })

  it('survive that what was written was not answered', async () => {
    let lose = 4
    await world.engine({
      wrap: around(async (sql, _, go) => {
        const rows = await go()
        if (isCommit(sql) && lose > 0) {
          lose -= 1
          throw Object.assign(new Error('Connection terminated unexpectedly'), { code: '40001' })
        }
        return rows
      }),
    })
    const ids = [await world.start('wide', { n: 20 }), await world.start('retried')]
    for (const id of ids) expect(await world.ended(id)).toBe('success')
  })
})

describe('a fault', () => {
  it('of the connections is survived, and nothing is lost', async () => {
    const engine = await world.engine()
    const ids = await Promise.all([300, 300, 300].map((n) => world.start('huge', { n })))
    for (let cut = 0; cut < 5; cut += 1) {
      const seq = (await world.run(ids[0]!)).seq
      await world.db.execute(killConnections, [`engine ${engine.nodeId}%`])
      await until('the engine to go on', async () => {
        const row = await world.run(ids[0]!)
        return row.seq > seq || row.state === 'success'
      })
    }
    for (const id of ids) expect(await world.ended(id)).toBe('success')
  })

  it('of taking runs, after they were taken, strands none', async () => {
    let lose = 2
    await world.engine({
      leaseMs: 2_000,
      wrap: around(async (sql, _, go) => {
        const rows = await go()
        if (sql.name === 'runs.claim' && rows.length > 0 && lose > 0) {
          lose -= 1
          throw new Error('the answer was lost')
        }
        return rows
      }),
    })
    const id = await world.start('none')
    expect(await world.ended(id)).toBe('success')
  })

  it('of reading a run, that may pass, strands none', async () => {
    const first = await world.engine()
    const id = await world.start('gated', world.place('reading'))
    await world.started('reading')
    await first.crash()
    await world.db.execute(lapse)
    let lose = 2
    await world.engine({
      leaseMs: 2_000,
      wrap: around(async (sql, _, go) => {
        if (sql.name === 'tasks.read_run' && lose > 0) {
          lose -= 1
          throw Object.assign(new Error('no room'), { code: '53200' })
        }
        return go()
      }),
    })
    await world.go('reading')
    expect(await world.ended(id)).toBe('success')
    expect(await world.tasks(id)).toMatchObject([{ attempt: 2, losses: 1 }])
  })

  it('of one run alone ends it as failed, and others go on', async () => {
    let poison = ''
    await world.engine({
      wrap: around(async (sql, values, go) => {
        if (isCommit(sql) && String(values[1]).includes(poison)) throw new Error('a value out of range')
        return go()
      }),
    })
    poison = await world.start('none')
    const ids = await Promise.all(Array.from({ length: 30 }, () => world.start('none')))
    for (const id of ids) expect(await world.ended(id)).toBe('success')
    expect(await world.ended(poison)).toBe('failed')
    expect((await world.run(poison)).error).toBe('what it decided cannot be written: a value out of range')
  })

  it('of a decision ends its run alone', async () => {
    let fails = 1
    await world.engine({
      random: () => {
        if (fails > 0) throw new Error(`it cannot be told (${fails--})`)
        return Math.random()
      },
    })
    const bad = await world.start('none')
    expect(await world.ended(bad)).toBe('failed')
    expect((await world.run(bad)).error).toBe('it cannot be decided: it cannot be told (1)')
    expect(await world.ended(await world.start('none'))).toBe('success')
  })

  it('of a run whose version is not there ends it', async () => {
    await world.engine()
    const id = await world.start('renamed')
    expect(await world.ended(id)).toBe('failed')
    expect((await world.run(id)).error).toContain('has no workflow renamed')
  })
})

describe('another engine', () => {
  it('takes the runs of one whose lease lapsed, and refuses what that writes later', async () => {
    // It renews so seldom that nothing takes its lapse back.
    const first = await world.engine({ leaseMs: 600_000 })
    const ids = await Promise.all(['a', 'b'].map((name) => world.start('gated', world.place(name))))
    await world.started('a')
    await world.started('b')
    await world.db.execute(lapse)
    const second = await world.engine()
    await world.started('a', 2)
    await world.go('a')
    await world.go('b')
    for (const id of ids) {
      expect(await world.ended(id)).toBe('success')
      expect(await world.run(id)).toMatchObject({ node_id: second.nodeId })
      expect(await world.tasks(id)).toMatchObject([{ attempt: 2, losses: 1, result: expect.stringContaining('2') }])
    }
    await until('the first to be rid of them', () => first.engine.runs.held === 0)
    expect(first.notes.some((note) => note.includes('refused by the fence'))).toBe(true)
  })

  it('takes the runs of one that stopped at once', async () => {
    const first = await world.engine({ leaseMs: 600_000 })
    const second = await world.engine({ leaseMs: 600_000 })
    const id = await world.start('gated', world.place('handed'))
    await world.started('handed')
    const owner = (await world.run(id)).node_id === first.nodeId ? first : second
    await owner.stop()
    await world.started('handed', 2)
    await world.go('handed')
    expect(await world.ended(id)).toBe('success')
  })

  it('took this one for dead: it comes back and goes on with what nobody took', async () => {
    const engine = await world.engine({ leaseMs: 2_000 })
    const id = await world.start('gated', world.place('back'))
    await world.started('back')
    await world.db.execute(forgetNodes)
    await until('it to notice', () => engine.notes.some((note) => note.includes('taken for dead')))
    await world.go('back')
    expect(await world.ended(id)).toBe('success')
  })
})

describe('a run', () => {
  it('never has more tasks at once than it has workers, whoever owns it', async () => {
    const first = await world.engine()
    const id = await world.start('wide', { n: 200 })
    await until('it to be under way', async () => (await world.run(id)).seq > 50)
    await first.crash()
    await world.db.execute(lapse)
    await world.engine()
    expect(await world.ended(id)).toBe('success')
    let live = 0
    let most = 0
    for (const row of await world.log()) {
      if (row.node !== 1) continue
      if (row.to_state === 'running') live += 1
      else live -= 1
      most = Math.max(most, live)
    }
    expect(most).toBe(5)
  })

  it('is not held up by one of 20,000 tasks', async () => {
    await world.engine()
    const large = await world.start('huge', { n: 20_000 })
    await until('it to be under way', async () => (await world.run(large)).seq > 200)
    const small = await Promise.all(Array.from({ length: 5 }, () => world.start('retried')))
    for (const id of small) expect(await world.ended(id)).toBe('success')
    expect(await world.run(large)).toMatchObject({ state: 'running' })
    expect(await world.ended(large)).toBe('success')
  })

  it('gets its turn when slots come free one by one', async () => {
    await world.engine({ settings: { capacity: 1 } })
    const large = await world.start('huge', { n: 500 })
    await until('it to be under way', async () => (await world.run(large)).seq > 5)
    const small = await world.start('retried')
    expect(await world.ended(small)).toBe('success')
    expect(await world.run(large)).toMatchObject({ state: 'running' })
    await world.cancel(large)
    expect(await world.ended(large)).toBe('cancelled')
  })

  it('over an empty list ends well', async () => {
    await world.engine()
    const id = await world.start('over', { items: [] })
    expect(await world.ended(id)).toBe('success')
  })

  it('waits for room, and more than fit at once all end', async () => {
    const engine = await world.engine({ maxRuns: 3, leaseMs: 600_000 })
    const ids = await Promise.all(Array.from({ length: 40 }, () => world.start('none')))
    await world.start('fails', { message: 'one that fails' })
    for (const id of ids) expect(await world.ended(id)).toBe('success')
    await world.allEnded()
    await until('the engine to forget them', () => engine.engine.runs.held === 0)
  })

  it('starts once per key', async () => {
    await world.engine()
    const ids = await Promise.all(Array.from({ length: 10 }, () => world.start('none', {}, 'the key')))
    expect(new Set(ids).size).toBe(1)
    expect(await world.ended(ids[0]!)).toBe('success')
    await expect(world.start('retried', {}, 'the key')).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' })
  })
})

describe('a cancel', () => {
  it('ends what waits, stops what runs, and more starts no more', async () => {
    await world.engine({ settings: { capacity: 3 } })
    const id = await world.start('huge', { n: 5_000 })
    await until('it to be under way', async () => (await world.run(id)).seq > 20)
    await world.cancel(id)
    expect(await world.ended(id)).toBe('cancelled')
  })

  it('that nobody has seen survives the engine', async () => {
    const first = await world.engine()
    const id = await world.start('gated', world.place('seen'))
    await world.started('seen')
    await first.crash()
    await world.cancel(id)
    await world.db.execute(lapse)
    await world.engine()
    expect(await world.ended(id)).toBe('cancelled')
  })

  it('before anybody owns the run cancels it', async () => {
    const id = await world.start('gated', world.place('early'))
    await world.cancel(id)
    await world.engine()
    expect(await world.ended(id)).toBe('cancelled')
    expect((await world.log()).filter((row) => row.to_state === 'running' && row.node >= 0)).toEqual([])
  })

  it('while it waits for its retry ends it at once', async () => {
    await world.engine({ random: () => 0.999 })
    const id = await world.start('delayed', world.place('waits'))
    await until('the retry', async () => (await world.tasks(id))[0]?.state === 'up_for_retry')
    await world.cancel(id)
    expect(await world.ended(id)).toBe('cancelled')
  })
})

describe('a retry', () => {
  it('that fell due while no engine ran is taken up at once, one that is not due is waited for', async () => {
    const first = await world.engine({ random: () => 0.999 })
    const id = await world.start('delayed', world.place('due'))
    await until('the retry', async () => (await world.tasks(id))[0]?.state === 'up_for_retry')
    await first.stop()
    let now = Date.now()
    const second = await world.engine({ clock: { now: () => now } })
    await until('the run to be held', () => second.engine.runs.held === 1)
    await second.stop()
    expect(await world.tasks(id)).toMatchObject([{ state: 'up_for_retry', attempt: 1 }])
    now += 20_000
    await world.engine({ clock: { now: () => now } })
    expect(await world.ended(id)).toBe('success')
  })
})

it('a run that somebody else wrote is read again', async () => {
  await world.engine()
  const id = await world.start('gated', world.place('meddled'))
  await world.started('meddled')
  await world.db.execute(takeAway, [id])
  await world.go('meddled')
  expect(await world.ended(id)).toBe('success')
})
