/** Whether the brokers answer, for readiness and the doctor. */
import type { KafkaClient } from '../../connectors/kafka/client.ts'
import { messageOf } from '../../errors.ts'

/** Of `ready`: the brokers are asked at most this often. */
const freshMs = 2_000
const waitMs = 2_500

export interface KafkaCheck {
  readonly name: 'kafka'
  readonly ok: boolean
  readonly detail: string
}

/** @param now milliseconds. The answer is at most 2 s old, and given within 2.5 s. */
export function kafkaCheck(client: KafkaClient, now: () => number): () => Promise<KafkaCheck> {
  let asked: { readonly at: number; readonly answer: Promise<KafkaCheck> } | undefined
  return () => {
    if (asked === undefined || now() - asked.at > freshMs) asked = { at: now(), answer: look(client) }
    return asked.answer
  }
}

async function look(client: KafkaClient): Promise<KafkaCheck> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(`no answer within ${waitMs} ms`), waitMs)
  })
  const fault = await Promise.race([client.answers().then(() => undefined, messageOf), late])
  clearTimeout(timer)
  return { name: 'kafka', ok: fault === undefined, detail: fault ?? 'answers' }
}
