/** `why`, asked of engines at work: what it says is what stands in the way. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { taskIdOf } from '../src/core/ids.ts'
import { EngineWorld, until } from './engine-world.ts'
import { openTestApi, type TestApi } from './test-api.ts'

let world: EngineWorld
let api: TestApi
beforeEach(async () => {
  world = await EngineWorld.open('limits-project')
  api = await openTestApi(world.db, { manifest: () => world.version.manifest })
})
afterEach(async () => {
  await api.close()
  await world.close()
})

const why = async (path: string): Promise<string> => {
  const answer = (await api.app.inject(`/api/v1/${path}/why`)).json() as { reasons: { text: string }[] }
  return answer.reasons.map(({ text }) => text).join('\n')
}
const ofTask = (run: string) => why(`tasks/${taskIdOf(run, 0, -1)}`)
const says = (what: string, ask: () => Promise<string>) =>
  until(
    async () => `it to say ${what}; it says ${await ask()}`,
    async () => (await ask()) === what,
  )
const hold = (workflow: string, name: string, more: object = {}) =>
  world.start(workflow, { ...world.place(name), ...more })

it('names the pool, who holds it and the place in line, over engines, and what becomes of it', async () => {
  const holding = await hold('holds-two', 'two')
  await says(`no engine is running`, () => why(`runs/${holding}`))
  const one = await world.engine({ maxRuns: 2 })
  await world.started('two')
  const small = await hold('holds', 'one')
  await world.started('one')
  await world.engine()
  const next = await hold('holds', 'next')
  const held = new RegExp(
    `^pool etl 3 of 3, held by run (${holding}|${small}) task gate, run (${holding}|${small}) task gate`,
  )
  await until(
    'next to say so',
    async () => held.test(await ofTask(next)) && (await ofTask(next)).endsWith('; next in line'),
  )
  const last = await hold('holds-two', 'last')
  await until('last to say so', async () => (await ofTask(last)).endsWith('; it needs 2; number 2 in line of 2'))
  await world.go('one')
  await world.started('next')
  await until('last to be next', async () => (await ofTask(last)).endsWith('; it needs 2; next in line'))
  await one.crash()
  for (const name of ['two', 'next', 'last']) await world.go(name)
})

it('names the key, the rate, the active runs and the pause', async () => {
  await world.engine()
  const first = await hold('holds-key', 'k1', { customer: 'a:b' })
  await world.started('k1')
  const second = await hold('holds-key', 'k2', { customer: 'a:b' })
  await says(`key customer a%3Ab 1 of 1, held by run ${first} task keyed; next in line`, () => ofTask(second))
  const few = [await hold('few', 'f0'), await hold('few', 'f1')]
  await world.started('f0')
  await world.started('f1')
  const third = await hold('few', 'f2')
  await says(`2 of 2 runs of few are active: run ${few.toSorted().join(', run ')}; next in line`, () =>
    why(`runs/${third}`),
  )
  await world.db.script(`update sluice.workflows set paused = true where name = 'holds'`)
  const paused = await hold('holds', 'paused')
  await until('it to be paused', async () => (await ofTask(paused)).startsWith('workflow holds is paused: '))
  const running = await ofTask(first)
  expect(running).toMatch(/^attempt 1 of task keyed is running since 20/)
  for (const name of ['k1', 'k2', 'f0', 'f1', 'f2']) await world.go(name)
  expect(await world.ended(second)).toBe('success')
  await says('task keyed ended: success', () => ofTask(second))
  await until('the end', async () => (await world.run(third)).state === 'success')
})
