import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import type { Wish } from '../core/limit-exchange.ts'
import { LimitLines } from '../core/limits.ts'
import { type Database, type Session, statement } from '../ports/database.ts'
import { admitRuns } from './admit-runs.ts'
import { declareLimits, exchangeLimits, giveUpGrants, removeDeadGrants, setLimit } from './limits.ts'
import { registerNode, removeNodes } from './nodes.ts'
import { showLines, showRunners } from './shown-limits.ts'

let test: TestDatabase
let db: Database

beforeAll(async () => {
  test = await testDatabase({ max: 8 })
  db = test.db
})
afterAll(() => test.drop())

beforeEach(async () => {
  await db.script(
    'truncate sluice.limits, sluice.limit_grants, sluice.limit_lines, sluice.runner_slots, sluice.nodes, sluice.runs, sluice.workflows cascade',
  )
})

async function aNode(leaseMs = 60_000): Promise<string> {
  const id = randomUUID()
  await registerNode(db, { id, kind: 'engine', host: 'test', pid: 1, leaseMs })
  return id
}

const wish = (since: number, amount = 1, count = 1, priority = 0): Wish => ({ priority, since, amount, count })
const word = (node: string, keep: number, line: readonly Wish[] = [], limit = 'pool:etl') => {
  return { limit, node, keep, used: 0, usedAgoMs: 0, line }
}
const say = async (node: string, keep: number, line: readonly Wish[] = [], limit = 'pool:etl') =>
  (await exchangeLimits(db, node, [word(node, keep, line, limit)])).get(limit)!
const pool = (name: string, slots: number) => ({ kind: 'pool' as const, name, slots })

const grants = statement<{ node_id: string; name: string; amount: number }>(
  'test.grants',
  'select node_id, name, amount from sluice.limit_grants order by name, node_id',
)
const heldOf = async () => (await db.query(grants)).reduce((sum, { amount }) => sum + amount, 0)

describe('what nodes are granted', () => {
  it('is never more than there is; what is given back goes to who waits, and that is told', async () => {
    await declareLimits(db, [pool('etl', 3)])
    const [one, other] = [await aNode(), await aNode()]
    const news: string[] = []
    const stop = await db.listen('sluice_limits', (text) => news.push(text))
    expect(await say(one, 0, [wish(1, 1, 10)])).toMatchObject({ capacity: 3, amount: 3, held: 3, line: [] })
    expect(await say(other, 0, [wish(2)])).toMatchObject({ amount: 0, held: 3, line: [wish(2)] })
    expect(await say(one, 2)).toMatchObject({ amount: 2, held: 3, ahead: undefined })
    expect(await say(other, 0)).toMatchObject({ amount: 0, held: 2 })
    await expect.poll(() => news).toEqual([`${other} pool:etl`, `${one} pool:etl`])
    await stop()
  })

  it('is the same when the same is said again, since the answer was lost', async () => {
    await declareLimits(db, [pool('etl', 3)])
    const [one, other] = [await aNode(), await aNode()]
    await say(one, 0, [wish(1, 1, 2)])
    await say(other, 0, [wish(2, 2)])
    for (let again = 0; again < 3; again += 1) expect(await say(one, 1)).toMatchObject({ amount: 1, held: 3 })
    expect(await say(other, 2)).toMatchObject({ amount: 2 })
  })

  it('is nothing of a pool that nobody declared, and without end of other limits that are not declared', async () => {
    const node = await aNode()
    expect(await say(node, 0, [wish(1)])).toMatchObject({ capacity: 0, amount: 0 })
    expect((await say(node, 0, [wish(1)], 'workers:w')).amount).toBeGreaterThan(1_000_000)
    expect((await say(node, 0, [wish(1)], 'key:customer:42')).amount).toBeGreaterThan(1_000_000)
    expect((await say(node, 0, [wish(1, 1, 5)], 'rate:api')).amount).toBeGreaterThanOrEqual(5)
  })

  it('counts each value of a key by itself', async () => {
    await declareLimits(db, [{ kind: 'key', name: 'customer', slots: 1 }])
    const [one, other] = [await aNode(), await aNode()]
    expect((await say(one, 0, [wish(1)], 'key:customer:1')).amount).toBe(1)
    expect((await say(other, 0, [wish(1)], 'key:customer:1')).amount).toBe(0)
    expect((await say(other, 0, [wish(1)], 'key:customer:2')).amount).toBe(1)
  })

  it('waits for a person and for no deployment where a person has said how much', async () => {
    const [one, other] = [await aNode(), await aNode()]
    await declareLimits(db, [pool('etl', 3)])
    await setLimit(db, pool('etl', 1), 'ann')
    expect(await say(one, 0, [wish(1, 1, 3)])).toMatchObject({ capacity: 1, amount: 1 })
    await declareLimits(db, [pool('etl', 5)])
    expect(await say(other, 0, [wish(2)])).toMatchObject({ capacity: 1, amount: 0 })
    await setLimit(db, { ...pool('etl', 0), slots: null }, 'ann')
    expect(await say(other, 0, [wish(2)])).toMatchObject({ capacity: 5, amount: 4, held: 5 })
    // What is in use stays so when less is allowed; nothing is granted until it is below.
    await setLimit(db, pool('etl', 2), 'ann')
    expect(await say(one, 1, [wish(3)])).toMatchObject({ capacity: 2, amount: 1, held: 5 })
    expect(await say(other, 1, [])).toMatchObject({ amount: 1, held: 2 })
    expect(await say(other, 0, [])).toMatchObject({ amount: 0, held: 2 })
  })

  it('counts until the lease of a dead node has lapsed, and not after', async () => {
    await declareLimits(db, [pool('etl', 3)])
    const [dead, node] = [await aNode(), await aNode()]
    await say(dead, 0, [wish(1, 1, 3)])
    expect((await say(node, 0, [wish(2)])).amount).toBe(0)
    await db.script(`update sluice.nodes set lease_until = sluice.sluice_now() - interval '1 ms' where id = '${dead}'`)
    expect((await say(node, 0, [wish(2)])).amount).toBe(3)
    await expect(say(dead, 3)).rejects.toMatchObject({ code: 'FENCED' })
    expect(await db.query(grants)).toEqual([{ node_id: node, name: 'etl', amount: 3 }])
    await removeNodes(db, [node])
    await expect(say(node, 3)).rejects.toMatchObject({ code: 'FENCED' })
  })

  it('of a node that is no more leaves nothing behind', async () => {
    await declareLimits(db, [pool('etl', 3)])
    const [one, other] = [await aNode(), await aNode()]
    await say(one, 0, [wish(1)])
    await say(other, 0, [wish(2)])
    await removeNodes(db, [one])
    await removeDeadGrants(db)
    expect((await db.query(grants)).map((row) => row.node_id)).toEqual([other])
  })

  it('goes back when a node stops', async () => {
    await declareLimits(db, [pool('etl', 3)])
    const [one, other] = [await aNode(), await aNode()]
    await say(one, 0, [wish(1)])
    await giveUpGrants(db, one)
    expect((await say(other, 0, [wish(2)])).amount).toBe(3)
  })

  it('keeps the rate over nodes that keep tokens, lose answers and die', async () => {
    await declareLimits(db, [{ kind: 'rate', name: 'api', slots: 1, rate: { perMs: 3_600_000, burst: 4 } }])
    const [one, other] = [await aNode(), await aNode()]
    const ask = async (node: string, keep: number, used: number, count: number) =>
      (
        await exchangeLimits(db, node, [
          { limit: 'rate:api', node, keep, used, usedAgoMs: 0, line: count > 0 ? [wish(1, 1, count)] : [] },
        ])
      ).get('rate:api')!
    expect((await ask(one, 0, 0, 3)).amount).toBe(3)
    expect((await ask(other, 0, 0, 5)).amount).toBe(1)
    // 2 used and 1 given back: it goes to who waits. The same again gives nothing more.
    for (let again = 0; again < 2; again += 1) expect((await ask(one, 0, 2, 0)).held).toBe(2)
    expect((await ask(other, 2, 0, 0)).amount).toBe(2)
    const answer = await ask(other, 0, 2, 1)
    expect(answer).toMatchObject({ amount: 0, held: 0 })
    expect(answer.retryInMs).toBeGreaterThan(3_500_000)
    expect(answer.retryInMs).toBeLessThanOrEqual(3_600_000)
  })
})

/** The database of a process that is killed before its statement of this number, or right after its commit. */
function killedAt(number: number): Database {
  let count = 0
  const step = async <T>(work: () => Promise<T>): Promise<T> => {
    if (count++ === number) throw new Error('killed')
    return work()
  }
  const during = (session: Session): Session => ({
    ...session,
    query: (sql, values) => step(() => session.query(sql, values)),
    execute: (sql, values) => step(() => session.execute(sql, values)),
  })
  return {
    ...db,
    transaction: async (work) => {
      const result = await db.transaction((session) => work(during(session)))
      return step(async () => result)
    },
  }
}

describe('faults', () => {
  it('after any statement leave all or nothing, and hold up nobody', async () => {
    for (let number = 0; number < 5; number += 1) {
      await db.script('truncate sluice.limits, sluice.limit_grants')
      await declareLimits(db, [pool('etl', 3)])
      const [one, other] = [await aNode(), await aNode()]
      const killed = exchangeLimits(killedAt(number), one, [word(one, 0, [wish(1, 1, 2)])])
      await expect(killed).rejects.toThrow('killed')
      const held = await heldOf()
      expect([0, 3]).toContain(held)
      expect((await say(other, 0, [wish(2)])).amount).toBe(held === 0 ? 3 : 0)
      expect((await say(one, 0, [wish(1, 1, 2)])).held).toBe(3)
    }
  })

  it('make nobody wait in a circle: words over limits in any order', async () => {
    await declareLimits(db, [pool('a', 2), pool('b', 2), pool('c', 2)])
    const nodes = await Promise.all(Array.from({ length: 6 }, () => aNode()))
    const limits = ['pool:a', 'pool:b', 'pool:c', 'pool:new-1', 'pool:new-2']
    for (let round = 0; round < 5; round += 1) {
      await Promise.all(
        nodes.map((node, index) => {
          const order = index % 2 === 0 ? limits : limits.toReversed()
          return exchangeLimits(
            db,
            node,
            order.map((limit) => word(node, 0, [wish(index)], limit)),
          )
        }),
      )
      for (const { amount } of await db.query(grants)) expect(amount).toBeLessThanOrEqual(2)
      expect(await heldOf()).toBeLessThanOrEqual(6)
    }
  })

  it('over several sessions at once: every task gets its turn, and no limit is exceeded', async () => {
    const slots = new Map([
      ['pool:etl', 3],
      ['key:customer:1', 1],
      ['key:customer:2', 1],
      ['workers:w', 4],
    ])
    await declareLimits(db, [
      pool('etl', 3),
      { kind: 'key', name: 'customer', slots: 1 },
      { kind: 'workers', name: 'w', slots: 4 },
    ])
    const nodes = await Promise.all(Array.from({ length: 4 }, () => aNode()))
    const inUse = new Map<string, number>()
    let started = 0
    const each = 6
    const play = async (node: string, number: number) => {
      const lines = new LimitLines<object>(node)
      const owner = {}
      const needs = (index: number) =>
        [
          { limit: 'workers:w', amount: 1 },
          { limit: `key:customer:${1 + (index % 2)}`, amount: 1 },
          { limit: 'pool:etl', amount: 1 + (index % 3) },
        ].slice(index % 3 === 2 ? 1 : 0)
      for (let index = 0; index < each; index += 1) {
        lines.offer(owner, { node: index, first: -1, last: -1 }, needs(index), { priority: 0, since: index }, 'shared')
      }
      const live: { token: number; needs: ReturnType<typeof needs> }[] = []
      const fill = () => {
        const start = ({ node: index }: { node: number }) => {
          const token = number * 1_000 + index + 1
          live.push({ token, needs: needs(index) })
          for (const { limit, amount } of needs(index)) {
            inUse.set(limit, (inUse.get(limit) ?? 0) + amount)
            expect(inUse.get(limit)).toBeLessThanOrEqual(slots.get(limit)!)
          }
          started += 1
          return token
        }
        while (lines.next(['shared', 'process'], start)) {}
      }
      for (let mine = 0; mine < each; ) {
        fill()
        lines.look()
        const words = lines.words(Date.now(), 100)
        const answers = words.length > 0 ? await exchangeLimits(db, node, words) : new Map()
        for (const one of words) lines.answered(one, answers.get(one.limit)!)
        fill()
        const ended = live.shift()
        if (!ended) continue
        mine += 1
        for (const { limit, amount } of ended.needs) inUse.set(limit, inUse.get(limit)! - amount)
        lines.release(ended.token, Date.now())
      }
      await giveUpGrants(db, node)
    }
    await Promise.all(nodes.map(play))
    expect(started).toBe(each * nodes.length)
    expect(await heldOf()).toBe(0)
  })
})

describe('active runs of a workflow', () => {
  const insert = async (count: number, more: { priority?: number; lane?: string; state?: string } = {}) => {
    const ids = Array.from({ length: count }, () => randomUUID())
    const { priority = 0, lane = 'default', state = 'queued' } = more
    await db.script(
      `insert into sluice.versions (hash, manifest) values ('v', '{}') on conflict do nothing;
       insert into sluice.runs (id, workflow, version, params, priority, lane, state)
       select id::uuid, 'w', 'v', '{}', ${priority}, '${lane}', '${state}' from unnest(array[${ids.map((id) => `'${id}'`).join()}]) as id`,
    )
    return ids.sort()
  }
  const admitted = async () =>
    (
      await db.query(
        statement<{ id: string }>(
          'test.admitted',
          'select id from sluice.runs where admitted_at is not null order by id',
        ),
      )
    ).map(({ id }) => id)
  const limit = (slots: number) => declareLimits(db, [{ kind: 'runs', name: 'w', slots }])

  it('get their places by priority, then age, and one more when one ends', async () => {
    await limit(2)
    const plain = await insert(3)
    const [urgent] = await insert(1, { priority: 5 })
    expect(await admitRuns(db)).toEqual(['w'])
    expect(await admitted()).toEqual([plain[0]!, urgent!].sort())
    await admitRuns(db)
    expect(await admitted()).toHaveLength(2)
    await db.script(`update sluice.runs set state = 'success' where id = '${urgent}'`)
    await admitRuns(db)
    expect(await admitted()).toEqual([plain[0]!, plain[1]!, urgent!].sort())
  })

  it('are not more than allowed when several engines look at once', async () => {
    await limit(3)
    await insert(20)
    await Promise.all(Array.from({ length: 6 }, () => admitRuns(db)))
    expect(await admitted()).toHaveLength(3)
  })

  it('are counted by lane: those of a backfill take no place of the others', async () => {
    await limit(1)
    await insert(2, { lane: 'backfill', state: 'running' })
    await insert(2)
    await admitRuns(db)
    expect(await admitted()).toHaveLength(1)
  })

  it('need no place where nothing is limited, and get none where a person has closed the workflow', async () => {
    await insert(2)
    expect(await admitRuns(db)).toEqual([])
    await limit(1)
    await setLimit(db, { kind: 'runs', name: 'w', slots: 0 }, 'ann')
    expect(await admitRuns(db)).toEqual(['w'])
    expect(await admitted()).toEqual([])
  })
})

describe('what engines show', () => {
  it('is kept for each limit while somebody holds or waits, and goes with the node', async () => {
    const node = await aNode()
    const task = { run: randomUUID(), node: 0, index: -1, amount: 1 }
    const shown = { limit: 'key:customer:1:2', inUse: 1, waiting: 1, holders: [task], line: [task] }
    await showLines(db, node, [shown])
    await showRunners(db, node, [{ lane: 'shared', busy: 1, slots: 2, ready: 3 }])
    const rows = statement<{ name: string; value: string; line: unknown }>(
      'test.lines',
      'select name, value, line from sluice.limit_lines',
    )
    expect(await db.query(rows)).toEqual([{ name: 'customer', value: '1:2', line: [task] }])
    await showLines(db, node, [{ ...shown, inUse: 0, waiting: 0 }])
    expect(await db.query(rows)).toEqual([])
    await showLines(db, node, [shown])
    await removeNodes(db, [node])
    expect(await db.query(rows)).toEqual([])
    await showLines(db, node, [shown])
    expect(await db.query(rows)).toEqual([])
  })
})
