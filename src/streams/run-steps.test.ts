import { describe, expect, it } from 'vitest'
import { SluiceError } from '../errors.ts'
import type { Sink } from '../ports/sink.ts'
import type { Capabilities } from '../sdk/context.ts'
import { z } from '../sdk/schema.ts'
import { documents, type Stream, stream } from '../sdk/stream.ts'
import { topic } from '../sdk/topic.ts'
import type { Entry } from './entry.ts'
import { StepRunner } from './run-steps.ts'

const lines = topic('lines', { schema: z.object({ n: z.number() }), key: ({ n }) => String(n) })

/** How a record ends that has failed `attempts` times, when its step throws. */
function endOf(thrown: unknown, attempts: number) {
  const one = stream('one', {
    from: lines,
    id: ({ n }) => n,
    steps: (records) =>
      records.step((): { n: string } => {
        throw thrown
      }),
    to: documents('ones', { key: 'n' }),
    retry: { attempts: 2, base: '1s', max: '1s' },
  })
  const runner = new StepRunner({
    stream: one as Stream,
    sink: {} as Sink,
    capabilities: () => ({}) as Capabilities,
    clock: { now: () => 1_000_000 },
    random: () => 0.5,
  })
  return runner.run({ record: { n: 1 }, attempts } as Entry)
}

describe('a record whose step throws', () => {
  it('that a host rests waits as long as it is told, and has used up no attempt, however often', () => {
    const resting = new SluiceError('HOST_RESTING', 'pictures.test asked to be left alone', { retryAfterMs: 3_000 })
    for (const attempts of [0, 1]) {
      expect(endOf(resting, attempts)).toEqual({
        kind: 'retry',
        reason: 'host resting',
        detail: 'pictures.test asked to be left alone',
        attempts,
        dueAt: 1_003_500,
      })
    }
  })

  it('that cannot be tried, of which no time is told, waits for the longest of the policy, 5 s at most', () => {
    const full = new SluiceError('STORAGE_FULL', 'no room')
    expect(endOf(full, 1)).toMatchObject({ kind: 'retry', attempts: 1, dueAt: 1_001_500 })
  })

  it('what can go better another time has used up one', () => {
    const failed = new SluiceError('FETCH_FAILED', 'reset: closed')
    expect(endOf(failed, 0)).toMatchObject({ kind: 'retry', attempts: 1, dueAt: 1_000_500 })
    expect(endOf(failed, 1)).toMatchObject({ kind: 'dead', attempts: 2 })
  })
})
