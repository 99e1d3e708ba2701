import { type ChildProcess, fork, spawn } from 'node:child_process'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { EngineWorld, type RunningEngine, until } from '../../test/engine-world.ts'

let world: EngineWorld
beforeEach(async () => {
  world = await EngineWorld.open()
})
afterEach(() => world.close())

/** A runner that ends before it says a word. */
const stillborn = (): ChildProcess =>
  spawn(process.execPath, ['-e', 'process.exit(3)'], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] })
const missing = (): ChildProcess => fork('nothing.js', [], { execPath: '/nowhere/node', silent: true })
const noted = (engine: RunningEngine, text: RegExp) => engine.notes.filter((note) => text.test(note))

for (const [what, dead] of [
  ['die at their start', stillborn],
  ['cannot be started', missing],
] as const) {
  it(`runners that ${what} are started again, less and less often`, async () => {
    let count = 0
    const engine = await world.engine({
      fork: () => {
        count += 1
        return count <= 3 ? dead() : world.forkRunner()
      },
    })
    const id = await world.start('none')
    expect(await world.ended(id)).toBe('success')
    const delays = noted(engine, /another starts in/).map((note) => Number(/in (\d+) ms/.exec(note)![1]))
    expect(delays).toEqual([100, 200, 400])
    expect(await world.breaches()).toEqual([])
  })
}

it('a runner is replaced after its number of attempts, and nothing is lost', async () => {
  const engine = await world.engine({ settings: { recycleAfter: 10, capacity: 4 } })
  const id = await world.start('wide', { n: 40 })
  expect(await world.ended(id)).toBe('success')
  expect(engine.forked.length).toBeGreaterThan(3)
  expect((await world.tasks(id)).every((task) => task.losses === 0)).toBe(true)
  await until('the replaced ones to end', () => engine.forked.filter((child) => child.exitCode === null).length === 1)
})

it('a runner that takes too much memory is replaced', async () => {
  const engine = await world.engine({ settings: { maxRssBytes: 1, stallMs: 2_500 } })
  await until('its replacement', () => noted(engine, /is replaced for memory/).length > 0)
})

it('a runner that never answers is ended, though it has said nothing yet', async () => {
  let count = 0
  const engine = await world.engine({
    settings: { stallMs: 2_500 },
    fork: () => {
      count += 1
      if (count > 1) return world.forkRunner()
      return spawn(process.execPath, ['-e', 'while (true);'], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] })
    },
  })
  const id = await world.start('none')
  expect(await world.ended(id)).toBe('success')
  expect(noted(engine, /did not answer for 2500 ms/)).toHaveLength(1)
})

it('a runner that was stopped is killed when it does not answer, and its attempts are lost and tried again', async () => {
  const engine = await world.engine({ settings: { stallMs: 2_500 } })
  const id = await world.start('gated', world.place('stopped'))
  await world.started('stopped')
  const [stopped] = engine.forked
  stopped!.kill('SIGSTOP')
  await world.started('stopped', 2)
  expect(stopped!.signalCode).toBe('SIGKILL')
  expect(noted(engine, /did not answer for 2500 ms/)).toHaveLength(1)
  await world.go('stopped')
  expect(await world.ended(id)).toBe('success')
  expect(await world.tasks(id)).toMatchObject([{ attempt: 2, losses: 1 }])
  expect(await world.breaches()).toEqual([])
})

it('stopping ends every runner', async () => {
  const engine = await world.engine({ settings: { runners: 3 } })
  await engine.stop()
  expect(engine.forked.map((child) => child.signalCode)).toEqual(['SIGKILL', 'SIGKILL', 'SIGKILL'])
})
