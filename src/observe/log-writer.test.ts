import { expect, it, vi } from 'vitest'
import { SluiceError } from '../errors.ts'
import type { Session } from '../ports/database.ts'
import { LogWriter } from './log-writer.ts'

const source = '01a1fe65-0fb7-70f8-869e-491000000000'
const chunk = (seq: number, lines = `${seq}\n`) => ({ source, attempt: 1, seq, lines })

/** Takes what is written, one write at a time, when the test lets it. */
function slow() {
  const written: string[][] = []
  let release = Promise.withResolvers<void>()
  const session = {
    execute: async (_: unknown, values: readonly unknown[]) => {
      await release.promise
      written.push([...(values[3] as string[])])
      return 1
    },
  } as unknown as Session
  return {
    session,
    written,
    go: () => {
      release.resolve()
      release = Promise.withResolvers<void>()
    },
  }
}

it('writes what gathered while the last write was under way as one, in order and redacted', async () => {
  const { session, written, go } = slow()
  const writer = new LogWriter(
    session,
    (text) => text.replaceAll('secret', '*'),
    () => {},
  )
  for (const seq of [0, 1, 2]) writer.add(chunk(seq))
  writer.add(chunk(3, 'secret\0\n'))
  const first = writer.flush()
  go()
  await Promise.resolve()
  setImmediate(go)
  await first
  expect(written).toEqual([['0\n'], ['1\n', '2\n', '*\n']])
})

it('takes up what is added as the last write ends, however near to its end', async () => {
  for (let turns = 0; turns < 10; turns += 1) {
    const { session, written, go } = slow()
    const writer = new LogWriter(
      session,
      (text) => text,
      () => {},
    )
    writer.add(chunk(0))
    go()
    for (let turn = 0; turn < turns; turn += 1) await Promise.resolve()
    writer.add(chunk(1))
    await new Promise(setImmediate)
    go()
    await writer.flush()
    expect(written.flat()).toEqual(['0\n', '1\n'])
  }
})

it('waits as long as the database is away, writes once what may have been written, and says so once', async () => {
  vi.useFakeTimers()
  const outage = new SluiceError('DATABASE_UNREACHABLE', 'it is away')
  const asked: string[] = []
  let away = 20
  const session = {
    execute: async ({ name }: { name: string }) => {
      asked.push(name)
      if (away-- > 0) throw outage
      return 1
    },
  } as unknown as Session
  const notes: string[] = []
  const writer = new LogWriter(
    session,
    (text) => text,
    (line) => notes.push(line),
  )
  writer.add(chunk(0))
  await vi.advanceTimersByTimeAsync(30_000)
  expect(asked).toEqual(['logs.append', ...Array(20).fill('logs.append_again')])
  expect(notes).toEqual(['log lines could not be written: it is away'])
  away = 1_000
  writer.add(chunk(1))
  const flushed = writer.flush()
  await vi.advanceTimersByTimeAsync(10_000)
  await flushed
  expect(notes.at(-1)).toBe('log lines could not be written: it is away; 1 chunks lost')
  vi.useRealTimers()
})

it('keeps 64 MiB and then forgets the oldest', async () => {
  const { session, written, go } = slow()
  const writer = new LogWriter(
    session,
    (text) => text,
    () => {},
  )
  const mebibyte = 'x'.repeat(1024 * 1024)
  for (let seq = 0; seq < 70; seq += 1) writer.add(chunk(seq, `${seq} ${mebibyte}`))
  const flushed = writer.flush()
  const pump = setInterval(go, 0)
  await flushed
  clearInterval(pump)
  const kept = written.flat().map((lines) => Number(lines.split(' ')[0]))
  expect(kept[0]).toBe(0)
  expect(kept.slice(1)).toEqual(Array.from({ length: 63 }, (_, n) => n + 7))
})
