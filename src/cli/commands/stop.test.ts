import { expect, it } from 'vitest'
import { untilEnded } from './stop.ts'

/** A process that ends after so many milliseconds of a clock that goes on by a second with each pause. */
function endingAfter(ms: number) {
  const notes: string[] = []
  let time = 0
  const wait = {
    isAlive: () => time < ms,
    now: () => time,
    async pause() {
      time += 1_000
    },
    note: (line: string) => void notes.push(line),
  }
  return { notes, ended: untilEnded(7, wait) }
}

it('one that ends soon is waited for in silence', async () => {
  const { notes, ended } = endingAfter(9_000)
  await ended
  expect(notes).toEqual([])
})

it('one that takes as long as stopping everything may take is waited for, and told of', async () => {
  const { notes, ended } = endingAfter(90_000)
  await ended
  expect(notes).toHaveLength(8)
  expect(notes[1]).toBe('It still stops, after 20 s of at most 120 s')
})

it('one that does not end is named', async () => {
  await expect(endingAfter(Number.POSITIVE_INFINITY).ended).rejects.toMatchObject({
    code: 'TIMEOUT',
    message: 'Process 7 has not ended for 120 s; see what it does, or end it with kill -9',
  })
})
