/** Runs are cleared, by the API where nobody has them and by their owner else. */
import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type Database, type Statement, statement } from '../src/ports/database.ts'
import {
  alwaysHolds,
  clear,
  dir,
  forgetLog,
  get,
  inControlWorld,
  lapse,
  logOf,
  post,
  ran,
  says,
  start,
  statesOf,
  wishes,
  world,
} from './control-world.ts'
import { until } from './engine-world.ts'

inControlWorld()

describe('a finished run', () => {
  alwaysHolds()

  it('is cleared from a task on, runs that again with what is behind it, and says who did it', async () => {
    await world.engine()
    await says('right', 'fail')
    const id = await start('diamond')
    expect(await world.ended(id)).toBe('failed')
    await says('right', '7')
    await forgetLog()
    const dry = await clear(id, { tasks: ['right'], dryRun: true })
    expect(dry).toMatchObject({ status: 200, body: { dryRun: true, applied: false, state: 'failed', total: 2 } })
    expect(await statesOf(id)).toMatchObject({ right: 'failed' })
    const { status, body } = await clear(id, { tasks: ['right'], by: 'ann', note: 'mended' })
    expect({ status, body }).toMatchObject({
      status: 200,
      body: {
        ...{ applied: true, state: 'queued', total: 2 },
        tasks: [
          { task: 'right', states: { failed: 1 } },
          { task: 'last', states: { upstream_failed: 1 } },
        ],
      },
    })
    expect(await world.ended(id)).toBe('success')
    // The step of the failed attempt is kept: it was done.
    expect(ran()).toEqual(['right 2', 'last 1', 'step of last 1'])
    expect(await get(`runs/${id}`)).toMatchObject({ result: { last: { given: [{ full: 'left' }, 7] } }, error: null })
    expect(await logOf(id)).toEqual(
      expect.arrayContaining([
        'right failed none cleared by ann',
        'last upstream_failed none cleared by ann',
        'run failed queued cleared by ann: mended',
      ]),
    )
  })

  it('is cleared of all that did not succeed when nothing is named, once for a key', async () => {
    await world.engine()
    await says('left', 'fail')
    const id = await start('diamond')
    expect(await world.ended(id)).toBe('failed')
    await says('left', '1')
    const key = { 'idempotency-key': 'k1' }
    const [one, other] = await Promise.all([clear(id, {}, key), clear(id, {}, key)])
    expect(one).toEqual(other)
    expect(one.body).toMatchObject({ applied: true, total: 2 })
    expect(await world.ended(id)).toBe('success')
    expect(ran().filter((line) => !line.startsWith('step'))).toHaveLength(4 + 2)
    expect((await clear(id, { failed: true }, key)).body).toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' })
    expect((await clear(id)).body).toMatchObject({
      code: 'CONFLICT',
      detail: expect.stringContaining('no task of it has failed'),
    })
  })

  it('makes durable steps again of what had succeeded, and of all when it is to be fresh', async () => {
    await world.engine()
    await says('right', 'fail')
    const id = await start('diamond')
    await world.ended(id)
    await forgetLog()
    await clear(id, { tasks: ['first'] })
    await world.ended(id)
    expect(ran()).toEqual(expect.arrayContaining(['step of first 2', 'step of left 2']))
    expect(ran()).not.toContain('step of right 2')
    await forgetLog()
    await clear(id, { fresh: true })
    await world.ended(id)
    expect(ran()).toContain('step of right 3')
  })

  it('decides branches again', async () => {
    await world.engine()
    await says('which', '"red"')
    const id = await start('chosen')
    await world.ended(id)
    expect(await statesOf(id)).toMatchObject({ red: 'success', blue: 'skipped' })
    await says('which', '"blue"')
    await clear(id, { tasks: ['which'] })
    expect(await world.ended(id)).toBe('success')
    expect(await statesOf(id)).toMatchObject({ red: 'skipped', blue: 'success' })
  })

  it('sets up again what was torn down, with all of its work', async () => {
    await world.engine()
    await says('two', 'fail')
    const id = await start('torn')
    expect(await world.ended(id)).toBe('failed')
    await says('two', '2')
    await forgetLog()
    await clear(id, { tasks: ['two'] })
    expect(await world.ended(id)).toBe('success')
    expect(ran().filter((line) => !line.startsWith('step'))).toEqual(
      expect.arrayContaining(['setup 2', 'one 2', 'two 2', 'three 2', 'teardown 2']),
    )
    await says('teardown', 'fail')
    await clear(id, { tasks: ['teardown'] })
    await world.ended(id)
    await forgetLog()
    await says('teardown', '1')
    expect((await clear(id)).body.tasks).toEqual([{ task: 'teardown', states: { failed: 1 } }])
    expect(await world.ended(id)).toBe('success')
    expect(ran()).toEqual(['teardown 4'])
  })

  it('runs one task of a mapped node again; a list that has changed removes what it has no more', async () => {
    await world.engine()
    await says('list', '["a","b","c","d"]')
    await says('item-2', 'fail')
    const id = await start('mapped')
    expect(await world.ended(id)).toBe('failed')
    await says('item-2', '"mended"')
    await forgetLog()
    expect((await clear(id)).body.tasks).toEqual([
      { task: 'item', states: { failed: 1 } },
      { task: 'sum', states: { upstream_failed: 1 } },
    ])
    expect(await world.ended(id)).toBe('success')
    expect(ran()).toEqual(['item-2 2', 'sum 1', 'step of sum 1'])
    expect((await clear(id, { tasks: ['item[1]'] })).body.total).toBe(2)
    expect(await world.ended(id)).toBe('success')
    await says('list', '["x","y"]')
    await clear(id, { tasks: ['list'] })
    expect(await world.ended(id)).toBe('success')
    expect(await statesOf(id)).toEqual({
      ...{ list: 'success', 'item[0]': 'success', 'item[1]': 'success', sum: 'success' },
      ...{ 'item[2]': 'removed', 'item[3]': 'removed' },
    })
    expect((await get(`runs/${id}`)).result.sum.given).toHaveLength(2)
    // The list is whole again: the removed ones come back, and count their attempts on.
    await says('list', '["x","y","z","u","v"]')
    await clear(id, { tasks: ['list'] })
    expect(await world.ended(id)).toBe('success')
    const attempts = (await world.tasks(id)).filter(({ node }) => node === 1).map(({ attempt }) => attempt)
    expect(attempts).toEqual([3, 4, 3, 2, 1])
    // The list fails: nothing of the mapped node is left to run.
    await says('list', 'fail')
    await clear(id, { tasks: ['list'] })
    expect(await world.ended(id)).toBe('failed')
    expect(await statesOf(id)).toMatchObject({ item: 'upstream_failed', 'item[0]': 'removed', sum: 'upstream_failed' })
  })

  it('that was cancelled goes on where it stood, and can be cancelled again', async () => {
    await world.engine()
    await says('left', 'gate')
    const id = await start('diamond')
    await until('left', () => existsSync(join(dir, 'left.1.started')))
    await until('right', async () => (await statesOf(id)).right === 'success')
    await until('other', async () => (await statesOf(id)).other === 'success')
    await world.cancel(id)
    expect(await world.ended(id)).toBe('cancelled')
    await forgetLog()
    await clear(id)
    await until('left', () => existsSync(join(dir, 'left.2.started')))
    await world.cancel(id)
    expect(await world.ended(id)).toBe('cancelled')
    await says('left', '1')
    await clear(id)
    expect(await world.ended(id)).toBe('success')
    expect(ran().filter((line) => /first|right|other/.test(line))).toEqual([])
  })

  it('starts a new run where a task had run another workflow', async () => {
    await world.engine()
    await says('inner', 'fail')
    const id = await start('outer')
    expect(await world.ended(id)).toBe('failed')
    const childOf = async () => (await get(`runs/${id}/tasks`)).items[0].run
    const first = await childOf()
    expect(first.state).toBe('failed')
    expect(await get(`runs/${first.id}`)).toMatchObject({ parent: { runId: id } })
    await says('inner', '5')
    await clear(id)
    expect(await world.ended(id)).toBe('success')
    const second = await childOf()
    expect(second).toMatchObject({ state: 'success' })
    expect(second.id).not.toBe(first.id)
    expect((await get(`runs/${id}`)).result).toMatchObject({ after: { given: { made: 5 } } })
    // The first one run again changes nothing of the run that it was part of.
    await clear(first.id)
    expect(await world.ended(first.id)).toBe('success')
    expect(await world.run(id)).toMatchObject({ state: 'success' })
  })

  it('whose code is gone from this machine says so in its tasks', async () => {
    const first = await world.engine()
    await says('only', 'fail')
    const id = await start('limited')
    expect(await world.ended(id)).toBe('failed')
    await first.stop()
    await rm(join(world.dir, 'home/versions'), { recursive: true })
    await world.engine()
    expect((await clear(id)).body).toMatchObject({ applied: true })
    expect(await world.ended(id)).toBe('failed')
    expect((await get(`runs/${id}/tasks`)).items[0].error).toMatch(/^VERSION_MISSING: /)
  })

  it('waits again where it had waited, and has the time of its limit again', async () => {
    await world.engine()
    const id = await start('waits')
    await until('the wait', async () => (await statesOf(id)).pause === 'deferred')
    expect((await get(`runs/${id}/tasks`)).items[0]).toMatchObject({ kind: 'wait', wait: { kind: 'timer' } })
    await world.cancel(id)
    await world.ended(id)
    await clear(id)
    await until('the wait again', async () => (await statesOf(id)).pause === 'deferred')
    await says('only', 'fail')
    const other = await start('limited')
    await world.ended(other)
    await clear(other)
    await world.ended(other)
    expect(await world.db.query(startedSince, [other])).toEqual([{ again: true }])
  })
})

const startedSince = statement<{ again: boolean }>(
  'test.started_since',
  `select r.started_at > (select max(at) from sluice.transitions t where t.run_id = r.id and t.to_state = 'queued') as again
   from sluice.runs r where id = $1`,
)

const isClear = (sql: Statement) => sql.name === 'clear.tasks'

describe('a run that runs', () => {
  alwaysHolds()

  it('is cleared by its owner; attempts that have nothing to do with it go on', async () => {
    const engine = await world.engine()
    await says('other', 'gate')
    await says('left', 'fail')
    const id = await start('diamond')
    await until('last', async () => (await statesOf(id)).last === 'upstream_failed')
    await until('other', () => existsSync(join(dir, 'other.1.started')))
    await says('left', '3')
    const answer = await clear(id, { by: 'ann' })
    expect(answer).toMatchObject({ status: 202, body: { applied: false, state: 'running', total: 2 } })
    await until('last to succeed', async () => (await statesOf(id)).last === 'success')
    await writeFile(join(dir, 'other.go'), '')
    expect(await world.ended(id)).toBe('success')
    expect((await world.tasks(id)).map(({ attempt, losses }) => [attempt, losses])).toEqual([
      ...[
        [1, 0],
        [2, 0],
        [1, 0],
        [1, 0],
        [1, 0],
      ],
    ])
    expect(engine.notes).toEqual([])
    expect(await world.db.query(wishes)).toEqual([])
  })

  it('is cleared after a write that is under way, whose tasks start', async () => {
    const [told, heard, go] = [
      Promise.withResolvers<void>(),
      Promise.withResolvers<void>(),
      Promise.withResolvers<void>(),
    ]
    let holds = false
    const wrap = (db: Database): Database => ({
      ...db,
      query: async (sql, values) => {
        const rows = await db.query(sql, values)
        if (holds && sql.name.startsWith('transitions.commit')) {
          told.resolve()
          await go.promise
        }
        const clears = (row: unknown) => (row as { kind?: string }).kind === 'clear'
        if (sql.name === 'inbox.read_for_node' && rows.some(clears)) heard.resolve()
        return rows
      },
    })
    const engine = await world.engine({ wrap, leaseMs: 60_000 })
    await says('bad', 'fail')
    await says('slow', 'gate')
    const id = await start('pair')
    await until('bad to fail', async () => (await statesOf(id)).bad === 'failed')
    await until('slow', () => existsSync(join(dir, 'slow.1.started')))
    holds = true
    await writeFile(join(dir, 'slow.go'), '')
    await told.promise
    expect(await statesOf(id)).toMatchObject({ slow: 'success', next: 'running' })
    await says('bad', '1')
    expect((await clear(id)).status).toBe(202)
    await heard.promise
    holds = false
    go.resolve()
    expect(await world.ended(id)).toBe('success')
    expect((await world.tasks(id)).map(({ attempt, losses }) => [attempt, losses])).toEqual([
      [2, 0],
      [1, 0],
      [1, 0],
    ])
    expect(engine.notes).toEqual([])
  })

  it('is not cleared of what is still running, and says which that is', async () => {
    await world.engine()
    await says('left', 'gate')
    const id = await start('diamond')
    await until('left', () => existsSync(join(dir, 'left.1.started')))
    expect(await clear(id, { tasks: ['first'] })).toMatchObject({
      ...{ status: 409, body: { code: 'CONFLICT', detail: expect.stringContaining('left is running') } },
    })
    expect((await clear(id, { tasks: ['left'] })).body.detail).toContain('left is running')
    expect((await clear(id, { tasks: ['last'] })).body.detail).toContain('has not ended yet')
    await world.cancel(id)
    await world.ended(id)
    expect((await clear(id, { tasks: ['first'] })).body).toMatchObject({ applied: true })
  })

  it('refuses by a note what has begun since it was asked', async () => {
    const engine = await world.engine({ leaseMs: 60_000 })
    await says('left', 'gate')
    const id = await start('diamond')
    await until('left', () => existsSync(join(dir, 'left.1.started')))
    const body = JSON.stringify({ tasks: ['first'], failed: false, fresh: false, by: 'ann', note: null })
    await world.db.execute(wish, [id, body])
    await until('the note', () => engine.notes.some((note) => note.includes(`run ${id} is not cleared for ann`)))
    expect(engine.notes.at(-1)).toContain('left is running')
    await until('the message to go', async () => (await world.db.query(wishes)).length === 0)
    await writeFile(join(dir, 'left.go'), '')
    expect(await world.ended(id)).toBe('success')
    expect((await world.tasks(id)).every(({ attempt }) => attempt === 1)).toBe(true)
  })

  it.each([false, true])(
    'killed in the middle of it is in the old state, and then in the new (after the commit: %s)',
    async (after) => {
      const wall = Promise.withResolvers<void>()
      const there = Promise.withResolvers<void>()
      const wrap = (db: Database): Database => ({
        ...db,
        transaction: (work) =>
          db.transaction(async (session) => {
            let clears = false
            const done = await work({
              query: (sql, values) => {
                clears ||= isClear(sql)
                return session.query(sql, values)
              },
              execute: (sql, values) => session.execute(sql, values),
              copyIn: (sql, rows) => session.copyIn(sql, rows),
              copyOut: (sql, take) => session.copyOut(sql, take),
              script: (sql) => session.script(sql),
            })
            if (clears && !after) {
              there.resolve()
              await wall.promise
              throw new Error('killed')
            }
            return done
          }),
      })
      const first = await world.engine({ wrap, leaseMs: 6_000 })
      await says('other', 'gate')
      await says('left', 'fail')
      const id = await start('diamond')
      await until('last', async () => (await statesOf(id)).last === 'upstream_failed')
      await until('other', () => existsSync(join(dir, 'other.1.started')))
      await says('left', '3')
      expect((await clear(id)).status).toBe(202)
      if (after) await until('left again', () => ran().includes('left 2'))
      else {
        await there.promise
        expect(await statesOf(id)).toMatchObject({ left: 'failed', last: 'upstream_failed' })
      }
      const dead = first.crash()
      wall.resolve()
      await dead
      await says('other', '1')
      await world.db.execute(lapse)
      await world.engine()
      expect(await world.ended(id)).toBe('success')
      expect((await logOf(id)).filter((line: string) => line.includes('cleared by'))).toHaveLength(2)
      expect(await world.db.query(wishes)).toEqual([])
    },
  )

  it('that ends before its owner has heard of it is cleared all the same', async () => {
    await says('left', 'fail')
    const engine = await world.engine()
    const id = await start('diamond')
    await world.ended(id)
    await says('left', '3')
    const body = JSON.stringify({ tasks: [], failed: true, fresh: false, by: 'ann', note: null })
    await world.db.execute(wish, [id, body])
    await until('a second life', async () => (await world.run(id)).state !== 'failed')
    expect(await world.ended(id)).toBe('success')
    expect(engine.notes).toEqual([])
  })
})

const wish = statement(
  'test.wish',
  `with put as (insert into sluice.inbox (run_id, kind, key, body) values ($1, 'clear', 'clear test', $2::json))
   select pg_notify('sluice_inbox', '')`,
)

describe('requests that are wrong', () => {
  it('are refused, each by name', async () => {
    await world.engine()
    const id = await start('mapped')
    await says('list', '["a"]')
    await world.ended(id)
    const other = await start('diamond')
    await world.ended(other)
    const [foreign] = (await get(`runs/${other}/tasks`)).items
    const wrong: [object, string, string][] = [
      [{ tasks: ['itme'] }, '/body/tasks/0', 'did you mean item?'],
      [{ tasks: ['list', 'sum[0]'] }, '/body/tasks/1', 'is not mapped'],
      [{ tasks: ['item[7]'] }, '/body/tasks/0', 'item'],
      [{ tasks: [foreign.id] }, '/body/tasks/0', 'another run'],
      [{ tasks: [id] }, '/body/tasks/0', 'the id of the run'],
      [{ tasks: [''] }, '/body/tasks/0', ''],
      [{ tasks: Array.from({ length: 1_001 }, () => 'list') }, '/body/tasks', ''],
      [{ tasks: 'list' }, '/body/tasks', ''],
      [{ task: ['list'] }, '/body/task', ''],
      [{ by: '' }, '/body/by', ''],
      [{ note: 'x'.repeat(1_001) }, '/body/note', ''],
      [{ fresh: 'yes' }, '/body/fresh', ''],
    ]
    for (const [body, where, says] of wrong) {
      const { status, body: told } = await clear(id, body)
      expect([body, status, told.errors?.[0]?.where]).toEqual([body, 422, where])
      expect(told.errors[0].message).toContain(says)
    }
    const nobody = other.replace(/^......../, '00000000')
    expect((await clear(nobody)).body).toMatchObject({ code: 'NOT_FOUND' })
    expect((await post(`runs/${id}/retry`, {})).status).toBe(422)
    expect((await post(`runs/${id}/retry`, { version: 'abc' })).status).toBe(422)
    await world.db.execute(foreignWorkflow, [id])
    expect((await clear(id)).body).toMatchObject({
      code: 'CONFLICT',
      detail: expect.stringContaining('retry it'),
    })
  })
})

const foreignWorkflow = statement('test.foreign_workflow', `update sluice.runs set workflow = 'gone' where id = $1`)
