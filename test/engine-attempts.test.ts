import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { statement } from '../src/ports/database.ts'
import { EngineWorld, type RunningEngine, secret, until } from './engine-world.ts'

let world: EngineWorld
let engine: RunningEngine
beforeAll(async () => {
  world = await EngineWorld.open()
  engine = await world.engine({ settings: { runners: 2, stallMs: 3_000, graceMs: 300 } })
})
afterAll(async () => {
  expect(await world.breaches()).toEqual([])
  await world.close()
})

const chunks = statement<{ source: string; attempt: number; seq: number; lines: string }>(
  'test.chunks',
  'select source, attempt, seq, lines from sluice.log_chunks order by source, attempt, seq',
)
const progress = statement<{ done: number; total: number }>(
  'test.progress',
  'select done, total from sluice.task_progress',
)
const records = statement<{ count: number }>('test.records', 'select count(*)::int as count from sluice.topic_records')

async function play(workflow: string, params: object = {}) {
  const id = await world.start(workflow, params)
  const state = await world.ended(id)
  return { id, state, error: (await world.run(id)).error, tasks: await world.tasks(id) }
}

describe('an attempt', () => {
  it('is tried again as its policy says', async () => {
    expect(await play('retried')).toMatchObject({
      state: 'success',
      tasks: [{ attempt: 3, losses: 0, result: '3', error: null }],
    })
  })

  it('whose runner is killed is lost, tried again, and its loss counted apart', async () => {
    const id = await world.start('gated', world.place('killed'))
    await world.started('killed')
    process.kill(Number(readFileSync(join(world.dir, 'killed.1.started'), 'utf8')), 'SIGKILL')
    await world.started('killed', 2)
    await world.go('killed')
    expect(await world.ended(id)).toBe('success')
    expect(await world.tasks(id)).toMatchObject([{ attempt: 2, losses: 1 }])
  })

  it('that ends its process is lost', async () => {
    expect(await play('quits')).toMatchObject({ state: 'success', tasks: [{ attempt: 2, losses: 1, result: '2' }] })
  })

  it('in a busy loop is ended with its runner and tried again', async () => {
    expect(await play('loops', world.place('loop'))).toMatchObject({
      state: 'success',
      tasks: [{ attempt: 2, losses: 1 }],
    })
  })

  it('in a busy loop past its time limit has failed, and is no loss', async () => {
    const { state, tasks } = await play('endless', world.place('endless'))
    expect(state).toBe('failed')
    expect(tasks).toMatchObject([{ attempt: 1, losses: 0, state: 'failed', error: expect.stringContaining('TIMEOUT') }])
  })

  it('past its time limit is aborted, and tried again as its policy says', async () => {
    expect(await play('timed')).toMatchObject({
      state: 'failed',
      tasks: [{ attempt: 2, error: 'TIMEOUT: the attempt took longer than 100 ms' }],
    })
  })

  it('that was cancelled and goes on is ended with its runner', async () => {
    const id = await world.start('wayward', world.place('wayward'))
    await world.started('wayward')
    await world.cancel(id)
    expect(await world.ended(id)).toBe('cancelled')
    expect(await world.tasks(id)).toMatchObject([{ state: 'cancelled', attempt: 1 }])
  })

  it('that was cancelled and stops leaves its runner alone', async () => {
    const forked = engine.forked.length
    const id = await world.start('gated', world.place('stops'))
    await world.started('stops')
    await world.cancel(id)
    expect(await world.ended(id)).toBe('cancelled')
    expect(engine.forked.length).toBe(forked)
  })

  it('of isolation process has a process to itself', async () => {
    const id = await world.start('isolated', world.place('apart'))
    for (const index of [0, 1, 2]) await world.started('apart', index)
    await world.go('apart')
    expect(await world.ended(id)).toBe('success')
    const pids = (await world.tasks(id)).map((task) => task.result)
    expect(new Set(pids).size).toBe(3)
    await until('the processes to end', () => engine.executor.free('process') === 8)
  })

  it('with arguments or a result that do not fit fails once, saying where', async () => {
    expect(await play('wrong')).toMatchObject({
      tasks: [{ attempt: 1, error: expect.stringMatching(/^OUTPUT_MISMATCH: the result of wrong-result: \/n: /) }],
    })
    expect((await play('mistaken')).tasks[1]).toMatchObject({
      attempt: 1,
      error: expect.stringMatching(/^INPUT_MISMATCH: the arguments of measure: \/text: /),
    })
    expect(await play('turns')).toMatchObject({
      tasks: [{ error: expect.stringMatching(/^OUTPUT_MISMATCH: the result of circular cannot be written as JSON/) }],
    })
  })

  it('may say anything', async () => {
    const value = ['"', '\\', '{},NULL', 'a\nb\r\t', '\0', '\u{1F600}\u2028', '\ud800', "';--", ''].join('|')
    const { state, tasks } = await play('says', { value: { value, $object: 'x' } })
    expect(state).toBe('success')
    expect(JSON.parse(tasks[1]!.result!)).toEqual({ value, $object: 'x' })
    const failed = await play('fails', { message: value })
    expect(failed.tasks[0]?.error).toBe(`ACTION_FAILED: ${value.replace('\0', '').toWellFormed()}`)
  })
})

describe('a large result', () => {
  it('becomes an object, and a later task reads it whole', async () => {
    const { state, tasks } = await play('weighs', { bytes: 300_000 })
    expect(state).toBe('success')
    expect(tasks[1]?.result).toBe('300000')
    expect(tasks[0]?.result).toMatch(/^\{"\$object":"[0-9a-f]{64}","bytes":3000\d\d\}$/)
  })

  it('is measured in bytes', async () => {
    const { tasks } = await play('weighs', { bytes: 262_160 })
    expect(tasks[0]?.result).toMatch(/^\{"\$object"/)
  })

  it('over the cap is refused', async () => {
    const { state, tasks } = await play('weighs', { bytes: 64 * 1024 * 1024 })
    expect(state).toBe('failed')
    expect(tasks[0]?.error).toMatch(/OUTPUT_MISMATCH: the result of large has \d+ bytes; at most 67108864 are kept/)
  })

  it('that looks like one that was stored is no exception', async () => {
    const value = { $object: 'a'.repeat(64), bytes: 5 }
    const { state, tasks } = await play('says', { value })
    expect(state).toBe('success')
    expect(tasks[0]?.result).not.toBe(JSON.stringify(value))
  })
})

describe('an attempt that is tried again', () => {
  it('does not run a durable step again', async () => {
    const { tasks } = await play('durable', world.place('durable'))
    expect(tasks).toMatchObject([{ attempt: 2, result: '{"made":1}' }])
    expect(readFileSync(join(world.dir, 'durable.steps'), 'utf8')).toBe('x')
  })

  it('does not publish again, and its progress is told', async () => {
    const { tasks } = await play('publisher')
    expect(tasks).toMatchObject([{ attempt: 2, result: '{"published":0,"known":2500}' }])
    expect(await world.db.query(records)).toEqual([{ count: 2_500 }])
    await until('its last word', async () => {
      const [told] = await world.db.query(progress)
      return told?.done === 2_500 && told.total === 2_500
    })
  })
})

describe('the log of an attempt', () => {
  const linesOf = async () =>
    (await world.db.query(chunks)).filter((chunk) => !chunk.lines.includes('"ACTION_FAILED: not at'))

  it('is in the hot tier, in order, without secrets', async () => {
    const { tasks } = await play('chatty', { lines: 100, length: 10, secret })
    await until('the log', async () => (await linesOf()).some((chunk) => chunk.lines.includes('failed with')))
    const lines = (await linesOf())
      .map((chunk) => chunk.lines)
      .join('')
      .split('\n')
      .filter((line) => line.includes('"line":'))
      .map((line) => JSON.parse(line).line)
    expect(lines).toEqual(Array.from({ length: 100 }, (_, line) => line))
    const written = JSON.stringify([await linesOf(), tasks, engine.notes])
    expect(written).not.toContain('battery')
    expect(written).toContain('[redacted]')
    expect(engine.notes.some((note) => note.startsWith('said aloud:'))).toBe(true)
  })

  it('is cut at 16 MiB', async () => {
    const { id } = await play('chatty', { lines: 20_000, length: 1_000, secret: 'none at all' })
    await until('the log', async () => (await linesOf()).some((chunk) => chunk.lines.includes('is cut here')))
    const own = (await linesOf()).filter((chunk) => chunk.source.slice(0, 24) === id.slice(0, 24))
    const length = own.reduce((sum, chunk) => sum + chunk.lines.length, 0)
    expect(length).toBeGreaterThan(16 * 1024 * 1024 - 2_000)
    expect(length).toBeLessThan(16 * 1024 * 1024 + 2_000)
  })
})
