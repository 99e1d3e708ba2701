/** Runs are retried with another version, workflows paused, approvals answered. */
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Manifest, WorkflowManifest } from '../src/core/manifest.ts'
import { statement } from '../src/ports/database.ts'
import { putDeadline } from '../src/store/approvals.ts'
import {
  alwaysHolds,
  clear,
  deploy,
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

describe('a retry with the latest version', () => {
  let manifest: Manifest
  beforeEach(() => {
    manifest = world.version.manifest
  })

  const latest = (id: string, body: object = {}, headers: Record<string, string> = {}) =>
    post(`runs/${id}/retry`, { version: 'latest', ...body }, headers)

  /** Deploys a version in which some tasks have changed. */
  async function deployChanged(changed: (workflow: WorkflowManifest) => WorkflowManifest): Promise<void> {
    manifest = { ...manifest, workflows: manifest.workflows.map(changed) }
    await deploy(manifest)
  }

  it('takes over what has not changed, and runs the rest', async () => {
    await world.engine()
    await says('right', 'fail')
    const id = await start('diamond')
    await world.ended(id)
    await says('right', '7')
    await forgetLog()
    const dry = await latest(id, { dryRun: true })
    expect(dry).toMatchObject({ status: 200, body: { id: null, total: 3, sameParams: true } })
    const key = { 'idempotency-key': 'again' }
    const made = await latest(id, { by: 'ann' }, key)
    expect(made).toMatchObject({ status: 201, body: { retryOf: id, total: 3 } })
    expect((await latest(id, { by: 'ann' }, key)).body).toEqual(made.body)
    expect(await world.ended(made.body.id)).toBe('success')
    expect(ran()).toEqual(['right 1', 'step of right 1', 'last 1', 'step of last 1'])
    expect((await get(`runs/${made.body.id}`)).result.last.given).toEqual([
      { full: 'left', given: { full: 'first' } },
      7,
    ])
    expect(await logOf(made.body.id)).toEqual(
      expect.arrayContaining([
        `first none success taken over from run ${id} by ann`,
        `left none success taken over from run ${id}`,
      ]),
    )
    expect(await get(`runs/${made.body.id}`)).toMatchObject({ retryOf: id, retries: [], plan: 'retry' })
    expect(await get(`runs/${id}`)).toMatchObject({ state: 'failed', retries: [made.body.id] })
    // A task that was taken over can be cleared like any other.
    await clear(made.body.id, { tasks: ['left'] })
    expect(await world.ended(made.body.id)).toBe('success')
    expect(ran()).toContain('left 1')
  })

  it('runs again what is named, what has another fingerprint or none, and all behind it', async () => {
    await world.engine()
    const id = await start('diamond')
    await world.ended(id)
    const names = async (body: object = {}) => {
      const { takenOver } = (await latest(id, { dryRun: true, ...body })).body
      return takenOver.map(({ task }: { task: string }) => task)
    }
    expect(await names()).toEqual(['first', 'left', 'right', 'other', 'last'])
    expect(await names({ tasks: ['right'] })).toEqual(['first', 'left', 'other'])
    const change = (fingerprint: string | undefined) => (workflow: WorkflowManifest) =>
      workflow.name !== 'diamond'
        ? workflow
        : {
            ...workflow,
            nodes: workflow.nodes.map(({ fingerprint: own, ...node }) => {
              const print = node.id === 'left' ? fingerprint : own
              return print === undefined ? node : { ...node, fingerprint: print }
            }),
          }
    manifest = { ...manifest, hash: 'b'.repeat(64) }
    await deployChanged(change('0'.repeat(64)))
    expect(await names()).toEqual(['first', 'right', 'other'])
    manifest = { ...manifest, hash: 'c'.repeat(64) }
    await deployChanged(change(undefined))
    expect(await names()).toEqual(['first', 'right', 'other'])
    expect((await latest(id, { tasks: ['lef'] })).body).toMatchObject({
      ...{ status: 422, errors: [{ where: '/body/tasks/0', message: expect.stringContaining('did you mean left?') }] },
    })
  })

  it('takes over the good ones of a mapped node, and their large results', async () => {
    await world.engine()
    await says('list', '["a","b","c"]')
    await says('item-1', 'fail')
    await says('item-2', JSON.stringify('x'.repeat(300_000)))
    const id = await start('mapped')
    await world.ended(id)
    await says('item-1', '"mended"')
    await forgetLog()
    const { body } = await latest(id)
    expect(body.takenOver).toEqual([
      { task: 'list', count: 1 },
      { task: 'item', count: 2 },
    ])
    expect(await world.ended(body.id)).toBe('success')
    expect(ran()).toEqual(['item-1 1', 'step of item-1 1', 'sum 1', 'step of sum 1'])
    expect((await world.db.query(references, [id]))[0]!.count).toBe(1)
    // Its own, of the sum, and the one that it took over.
    expect((await world.db.query(references, [body.id]))[0]!.count).toBe(2)
  })

  it('sets up again when some of the work runs again', async () => {
    await world.engine()
    await says('two', 'fail')
    const id = await start('torn')
    await world.ended(id)
    expect((await latest(id, { dryRun: true })).body.takenOver).toEqual([])
    await says('two', '1')
    await clear(id)
    await world.ended(id)
    expect((await latest(id, { dryRun: true })).body.total).toBe(5)
  })

  it('is refused while the run runs, of a part of another run, and of a workflow that is no more', async () => {
    await world.engine()
    await says('other', 'gate')
    const running = await start('diamond')
    await until('other', () => existsSync(join(dir, 'other.1.started')))
    expect((await latest(running)).body).toMatchObject({
      code: 'CONFLICT',
      detail: expect.stringContaining('has not ended'),
    })
    await writeFile(join(dir, 'other.go'), '')
    await world.ended(running)
    const outer = await start('outer')
    await world.ended(outer)
    const child = (await get(`runs/${outer}/tasks`)).items[0].run.id
    expect((await latest(child)).body).toMatchObject({ code: 'CONFLICT', detail: expect.stringContaining(outer) })
    manifest = { ...manifest, hash: 'd'.repeat(64), workflows: manifest.workflows.slice(0, 1) }
    await deployChanged((workflow) => workflow)
    expect((await latest(running)).body).toMatchObject({ code: 'NOT_FOUND' })
  })
})

const references = statement<{ count: number }>(
  'test.references',
  `select count(*)::int as count from sluice.object_refs where referrer_kind = 'run' and referrer_id = ($1::uuid)::text`,
)

describe('a paused workflow', () => {
  alwaysHolds()

  const pause = (name: string, act: 'pause' | 'resume' = 'pause') => post(`workflows/${name}/${act}`)

  it('starts no runs and no tasks; attempts end, and all goes on at once after it is resumed', async () => {
    await world.engine({ leaseMs: 600_000 })
    await says('first', 'gate')
    const running = await start('diamond')
    await until('first', () => existsSync(join(dir, 'first.1.started')))
    await until('other', async () => (await statesOf(running)).other === 'success')
    expect((await pause('diamond')).body).toEqual({ name: 'diamond', paused: true, changed: true })
    expect((await pause('diamond')).body).toMatchObject({ changed: false })
    const queued = await start('diamond')
    const free = await start('chosen')
    expect(await world.ended(free)).toBe('failed')
    await writeFile(join(dir, 'first.go'), '')
    await until('first to end', async () => (await statesOf(running)).first === 'success')
    expect(await statesOf(running)).toMatchObject({ left: 'none', right: 'none' })
    // Another workflow's run through all of its tasks: time enough for those of the paused one.
    await world.ended(await start('outer'))
    expect(await statesOf(running)).toMatchObject({ left: 'none', right: 'none' })
    expect(await world.run(queued)).toMatchObject({ state: 'queued', node_id: null })
    expect((await pause('diamond', 'resume')).body).toMatchObject({ paused: false, changed: true })
    expect(await world.ended(running)).toBe('success')
    expect(await world.ended(queued)).toBe('success')
  })

  it('holds up the bodies of its each, and its own tasks, but not the runs of other workflows', async () => {
    await world.engine()
    await says('inner', 'gate')
    const id = await start('outer')
    await until('inner', () => existsSync(join(dir, 'inner.1.started')))
    await pause('outer')
    await writeFile(join(dir, 'inner.go'), '')
    await until('the run inside', async () => (await get(`runs/${id}/tasks`)).items[0].run.state === 'success')
    await until('its end', async () => (await statesOf(id)).run === 'success')
    expect(await statesOf(id)).toMatchObject({ after: 'none' })
    await pause('outer', 'resume')
    expect(await world.ended(id)).toBe('success')
    await pause('bodies')
    const bodies = await start('bodies')
    await world.ended(await start('outer'))
    expect(await world.run(bodies)).toMatchObject({ state: 'queued' })
    await pause('bodies', 'resume')
    expect(await world.ended(bodies)).toBe('success')
    expect((await pause('bodies.each')).body).toMatchObject({ code: 'CONFLICT' })
    expect((await pause('nobody')).body).toMatchObject({ code: 'NOT_FOUND' })
  })
})

describe('an approval', () => {
  alwaysHolds()

  const list = async () => (await get('approvals')).items
  const waiting = async (id: string) => {
    await until('the approval', async () => (await get(`approvals?run=${id}`)).items.length === 1)
    return (await get(`approvals?run=${id}`)).items[0]
  }
  const answer = (task: string, body: object) => post(`tasks/${task}/approval`, body)

  it('is shown with its form, is answered once, and is the result of its task', async () => {
    await world.engine({ leaseMs: 600_000 })
    const id = await start('asks', { what: 'numbers' })
    const asked = await waiting(id)
    expect(asked).toMatchObject({
      ...{ runId: id, workflow: 'asks', task: 'ask', title: 'Publish it?', shown: { what: 'numbers' }, deadline: null },
      ...{ onRefuse: 'skip', form: { type: 'object', required: ['amount'] } },
    })
    const good = { approved: true, by: 'ann', note: 'fine', form: { amount: 5 } }
    const told = await answer(asked.taskId, good)
    expect(told).toMatchObject({ status: 200, body: { approved: true, by: 'ann', runId: id } })
    expect(await world.ended(id)).toBe('success')
    expect((await get(`runs/${id}`)).result).toMatchObject({
      answer: { approved: true, by: 'ann', note: 'fine', form: { amount: 5, why: 'because' } },
    })
    expect(await answer(asked.taskId, good)).toEqual(told)
    expect((await answer(asked.taskId, { ...good, by: 'bob' })).body).toMatchObject({
      ...{ code: 'CONFLICT', detail: expect.stringContaining('answered already') },
    })
    expect(await list()).toEqual([])
    // Cleared, it is asked again.
    await clear(id, { tasks: ['ask'] })
    expect((await waiting(id)).taskId).toBe(asked.taskId)
    expect((await answer(asked.taskId, { approved: false, by: 'bob', note: 'no' })).status).toBe(200)
    expect(await world.ended(id)).toBe('success')
    expect(await statesOf(id)).toEqual({ ask: 'skipped', after: 'skipped' })
    expect((await get(`tasks/${asked.taskId}`)).attempt).toBe(2)
  })

  it('names what is wrong with an answer, field by field', async () => {
    await world.engine()
    const { taskId } = await waiting(await start('asks'))
    const wrong: [object, string[]][] = [
      [{ approved: true, by: 'a', form: { amount: 0 } }, ['/body/form/amount']],
      [
        { approved: true, by: 'a', form: { amount: 1, why: 'x'.repeat(21), odd: 1 } },
        ['/body/form/why', '/body/form/odd'],
      ],
      [{ approved: true, by: 'a' }, ['/body/form/amount']],
      [{ approved: true, by: 'a', form: [] }, ['/body/form']],
      [{ approved: false, by: 'a', form: { amount: 1 } }, ['/body/form']],
      [{ approved: true, by: ' ', form: { amount: 1 } }, ['/body/by']],
      [{ approved: true, form: { amount: 1 } }, ['/body/by']],
      [{ approved: 'yes', by: 'a' }, ['/body/approved']],
      [{ approved: true, by: 'a', at: 'now' }, ['/body/at']],
      [{}, ['/body/approved', '/body/by']],
    ]
    for (const [body, where] of wrong) {
      const { status, body: told } = await answer(taskId, body)
      expect([status, told.errors.map((fault: { where: string }) => fault.where).sort()]).toEqual([422, where.sort()])
    }
    expect(await list()).toHaveLength(1)
    const id = await start('diamond')
    await world.ended(id)
    const [first] = (await get(`runs/${id}/tasks`)).items
    expect((await answer(first.id, { approved: true, by: 'a' })).body).toMatchObject({ code: 'CONFLICT' })
    expect((await answer(id, { approved: true, by: 'a' })).body).toMatchObject({ code: 'NOT_FOUND' })
  })

  it('of two answers at once counts the first', async () => {
    await world.engine()
    const id = await start('asks')
    const { taskId } = await waiting(id)
    const people = ['ann', 'bob', 'cid', 'dot', 'eve']
    const answers = await Promise.all(
      people.map((by) => answer(taskId, { approved: by < 'c', by, ...(by < 'c' ? { form: { amount: 1 } } : {}) })),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409])
    const winner = answers.find(({ status }) => status === 200)!.body
    await world.ended(id)
    expect((await get(`runs/${id}`)).result?.answer?.by ?? null).toBe(winner.approved ? winner.by : null)
  })

  it('after its deadline is what its author says, and is answered no more; before it an answer counts', async () => {
    await world.engine()
    const late = await start('hurries')
    const { taskId } = await waiting(late)
    expect(await world.ended(late)).toBe('success')
    expect((await get(`runs/${late}`)).result).toEqual({ answer: { approved: true, by: null, form: null } })
    expect((await answer(taskId, { approved: true, by: 'ann' })).body).toMatchObject({ code: 'CONFLICT' })
  })

  it('that was answered while nobody owned the run counts, although its deadline passed before anybody heard it', async () => {
    const first = await world.engine()
    const id = await start('hurries')
    const { taskId } = await waiting(id)
    await world.db.execute(postpone, [id, '1 hour'])
    await first.crash()
    expect((await answer(taskId, { approved: false, by: 'ann', note: 'too quick' })).status).toBe(200)
    await world.db.execute(postpone, [id, '-1 second'])
    await world.db.execute(lapse)
    await world.engine()
    expect(await world.ended(id)).toBe('failed')
    expect((await get(`tasks/${taskId}`)).error).toBe('APPROVAL_REFUSED: refused by ann: too quick')
    expect(await world.db.query(wishes)).toEqual([])
  })

  it('cannot be answered once its deadline has passed, whether anybody has noticed or not', async () => {
    const first = await world.engine()
    const id = await start('hurries')
    const { taskId } = await waiting(id)
    await first.crash()
    await world.db.execute(postpone, [id, '-1 second'])
    expect((await answer(taskId, { approved: true, by: 'ann' })).body).toMatchObject({
      ...{ code: 'CONFLICT', detail: expect.stringContaining('deadline') },
    })
    await world.db.execute(lapse)
    await world.engine()
    expect(await world.ended(id)).toBe('success')
  })

  it('whose deadline is written down is answered no more, whatever the clocks say', async () => {
    const first = await world.engine()
    const id = await start('hurries')
    const { taskId } = await waiting(id)
    await first.crash()
    await world.db.execute(postpone, [id, '1 hour'])
    await putDeadline(world.db, { runId: id, node: 0, mapIndex: -1, attempt: 1 })
    expect((await answer(taskId, { approved: false, by: 'ann' })).body).toMatchObject({ code: 'CONFLICT' })
    await world.db.execute(lapse)
    await world.engine()
    expect(await world.ended(id)).toBe('success')
    expect((await get(`runs/${id}`)).result).toMatchObject({ answer: { by: null } })
  })

  it('are listed in pages, those of a run alone where one is named', async () => {
    await world.engine()
    const ids = await Promise.all(Array.from({ length: 5 }, () => start('asks')))
    await until('all to ask', async () => (await list()).length === 5)
    const seen: string[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page: { items: { runId: string }[]; nextCursor: string | null } = await get(
        `approvals?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`,
      )
      seen.push(...page.items.map(({ runId }) => runId))
      cursor = page.nextCursor
    }
    expect(seen).toEqual(ids.toSorted())
    expect((await get(`approvals?run=${ids[3]}`)).items).toHaveLength(1)
    for (const query of ['run=x', 'limit=0', 'cursor=x', 'odd=1']) {
      expect((await get(`approvals?${query}`)).status).toBeGreaterThanOrEqual(400)
    }
  })
})

const postpone = statement(
  'test.postpone',
  `update sluice.tasks set retry_at = sluice.sluice_now() + $2::text::interval where run_id = $1 and state = 'deferred'`,
)
