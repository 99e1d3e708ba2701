/** What an attempt's context has beyond the capabilities of every function: publishing, durable steps, progress. */

import { taskIdOf } from '../../core/ids.ts'
import { SluiceError } from '../../errors.ts'
import type { AttemptStart } from '../../executors/runner-protocol.ts'
import type { ActionContext, Capabilities, PublishResult } from '../../sdk/context.ts'
import type { Topic } from '../../sdk/topic.ts'
import type { AttemptCalls, PublishedRecord } from './calls.ts'

const batchRecords = 1_000
const batchBytes = 4 * 1024 * 1024

export function attemptContext(
  capabilities: Capabilities,
  calls: AttemptCalls,
  start: AttemptStart,
  progress: (done: number, total?: number) => void,
): Omit<ActionContext, 'input' | 'run' | 'attempt' | 'signal'> {
  const { signal, ...rest } = capabilities
  let position = 0
  return {
    ...rest,
    progress,
    async step(name, work) {
      const known = await calls.readStep(name)
      if (known !== undefined) return JSON.parse(known)
      const result = await work()
      await calls.writeStep(name, JSON.stringify(result ?? null))
      return result
    },
    publish: (topic, records, options) =>
      publish(topic, records, calls, signal, (record) => {
        position += 1
        return options?.id?.(record) ?? `${taskIdOf(start.runId, start.node, start.mapIndex)}:${position - 1}`
      }),
  }
}

async function publish<Record>(
  topic: Topic<Record>,
  records: Iterable<Record> | AsyncIterable<Record>,
  calls: AttemptCalls,
  signal: AbortSignal,
  idOf: (record: Record) => string,
): Promise<PublishResult> {
  const total = { published: 0, known: 0 }
  let batch: PublishedRecord[] = []
  let bytes = 0
  const send = async () => {
    signal.throwIfAborted()
    const { published, known } = await calls.publish(topic.name, batch)
    total.published += published
    total.known += known
    batch = []
    bytes = 0
  }
  for await (const record of records) {
    const parsed = topic.schema.safeParse(record)
    if (!parsed.success) {
      const issue = parsed.error.issues[0]!
      const where = `/${issue.path.join('/')}`
      throw new SluiceError(
        'INVALID_INPUT',
        `a record for topic ${topic.name} does not fit its schema: ${where}: ${issue.message}`,
      )
    }
    const value = JSON.stringify(parsed.data)
    batch.push({ id: idOf(record), key: topic.key ? topic.key(parsed.data) : null, value })
    bytes += value.length
    if (batch.length >= batchRecords || bytes >= batchBytes) await send()
  }
  if (batch.length > 0) await send()
  return total
}
