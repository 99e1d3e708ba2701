import { setImmediate as turn } from 'node:timers/promises'
import { MessageChannel } from 'node:worker_threads'
import { expect, it } from 'vitest'
import { monotonicMs } from '../time.ts'
import { WorkingTime } from './working-time.ts'

function watched(isBusy: () => boolean = () => true) {
  const ended = Promise.withResolvers<void>()
  let count = 0
  const time = new WorkingTime({
    isBusy,
    end: () => {
      count += 1
      ended.resolve()
    },
  })
  return { time, ended: ended.promise, count: () => count }
}

/** Blocks the event loop until the time. */
function loopUntil(until: number): void {
  while (monotonicMs() < until);
}

/** Timers, messages and immediates have all had their turn, twice. */
async function turns(): Promise<void> {
  for (let count = 0; count < 4; count += 1) await turn()
}

it('ends what is under way when the time has passed', async () => {
  const { time, ended } = watched()
  time.extend(monotonicMs() + 20)
  await ended
})

it('ends it when its timer comes early, which counts in whole milliseconds', async () => {
  const all = Array.from({ length: 200 }, () => watched())
  const now = monotonicMs()
  for (const [index, { time }] of all.entries()) time.extend(now + 5 + index / 20)
  await Promise.all(all.map(({ ended }) => ended))
})

it('ends it also when the words of the engine were read late', async () => {
  const { time, ended } = watched()
  time.extend(monotonicMs() - 1_000)
  await ended
})

it('hears what came during a busy loop before it judges', async () => {
  const { time, count } = watched()
  const { port1, port2 } = new MessageChannel()
  port2.on('message', (until: number) => time.extend(until))
  const first = monotonicMs() + 5
  time.extend(first)
  port1.postMessage(first + 600_000)
  loopUntil(first + 10)
  await turns()
  expect(count()).toBe(0)
  port1.close()
})

it('leaves a runner alone that has nothing to do, until something begins', async () => {
  let busy = false
  const { time, ended, count } = watched(() => busy)
  const until = monotonicMs() + 5
  time.extend(until)
  loopUntil(until + 5)
  await turns()
  expect(count()).toBe(0)
  busy = true
  time.look()
  await ended
})

it('has no end before the engine has said one', async () => {
  const { time, count } = watched()
  time.look()
  await turns()
  expect(count()).toBe(0)
})
