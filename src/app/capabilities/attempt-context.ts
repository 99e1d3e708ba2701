/** What an attempt's context has beyond the capabilities of every function: publishing, datasets, durable steps, progress. */

import { AsyncLocalStorage } from 'node:async_hooks'
import { attemptRandom } from '../../core/attempt-random.ts'
import { taskIdOf } from '../../core/ids.ts'
import { faultsOf } from '../../core/input-faults.ts'
import { inOneLine, SluiceError } from '../../errors.ts'
import type { AttemptStart } from '../../executors/runner-protocol.ts'
import type { ActionContext, Capabilities, PublishResult } from '../../sdk/context.ts'
import { Deferral } from '../../sdk/ends.ts'
import type { Topic } from '../../sdk/topic.ts'
import { type Clock, type Duration, parseDuration, systemClock } from '../../time.ts'
import { attemptDatasets } from './attempt-datasets.ts'
import type { AttemptCalls, PublishedRecord } from './calls.ts'
import { type Effects, noting } from './effects.ts'

const batchRecords = 1_000
const batchBytes = 4 * 1024 * 1024

export interface AttemptFacts {
  /** What the attempt does is noted here. */
  readonly effects: Effects
  /** The attempt's time, in milliseconds. */
  readonly now: number
  /** Default: the system's. */
  readonly clock?: Clock
}

const inStep = new AsyncLocalStorage<true>()

export function attemptContext(
  capabilities: Capabilities,
  calls: AttemptCalls,
  start: AttemptStart,
  progress: (done: number, total?: number) => void,
  { effects, now, clock = systemClock }: AttemptFacts,
): Omit<ActionContext, 'input' | 'run' | 'attempt' | 'signal'> {
  const { signal, ...rest } = noting(capabilities, effects)
  let position = 0
  let random: (() => number) | undefined
  const sleep = async (name: string, duration: Duration) => {
    const known = await calls.readStep(`sleep:${name}`)
    const until = known === undefined ? clock.now() + parseDuration(duration) : Number(JSON.parse(known))
    if (known === undefined) await calls.writeStep(`sleep:${name}`, JSON.stringify(until))
    const leftMs = until - clock.now()
    if (leftMs > 0) throw new Deferral(leftMs, { kind: 'sleep', name })
  }
  return {
    ...rest,
    progress,
    sleep,
    async step(name, work) {
      const known = await calls.readStep(name)
      if (known !== undefined) {
        effects.note('read', 'step', name, null, null)
        return JSON.parse(known)
      }
      const result = await inStep.run(true, async () => work())
      await calls.writeStep(name, JSON.stringify(result ?? null))
      return result
    },
    publish: (topic, records, options) =>
      publish(topic, records, { calls, effects, signal }, (record) => {
        position += 1
        return options?.id?.(record) ?? `${taskIdOf(start.runId, start.node, start.mapIndex)}:${position - 1}`
      }),
    dataset: attemptDatasets({ calls, effects, inStep: () => inStep.getStore() === true }),
    now() {
      effects.note('read', 'clock', '', now, null)
      return new Date(now)
    },
    random() {
      if (!random) {
        effects.note('read', 'random', '', null, null)
        random = attemptRandom(start.runId, start.node, start.mapIndex, start.attempt)
      }
      return random()
    },
  }
}

async function publish<Record>(
  topic: Topic<Record>,
  records: Iterable<Record> | AsyncIterable<Record>,
  { calls, effects, signal }: { calls: AttemptCalls; effects: Effects; signal: AbortSignal },
  idOf: (record: Record) => string,
): Promise<PublishResult> {
  const total = { published: 0, known: 0 }
  let batch: PublishedRecord[] = []
  let bytes = 0
  const send = async () => {
    signal.throwIfAborted()
    const { published, known } = await calls.publish(topic.name, batch)
    effects.published(topic.name, batch, known)
    total.published += published
    total.known += known
    batch = []
    bytes = 0
  }
  for await (const record of records) {
    const parsed = topic.schema.safeParse(record)
    if (!parsed.success) {
      const faults = faultsOf(parsed.error, '').slice(0, 1)
      const what = `a record for topic ${topic.name} does not fit its schema`
      throw new SluiceError('INVALID_INPUT', `${what}: ${inOneLine(faults)}`, { faults })
    }
    const value = JSON.stringify(parsed.data)
    batch.push({ id: idOf(record), key: topic.key ? topic.key(parsed.data) : null, value })
    bytes += value.length
    if (batch.length >= batchRecords || bytes >= batchBytes) await send()
  }
  if (batch.length > 0) await send()
  return total
}
