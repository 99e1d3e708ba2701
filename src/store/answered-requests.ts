/** Requests that bear an `Idempotency-Key` and what they were answered: asking again does nothing and gets the same. */
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'

const takeStatement = statement(
  'answered-requests.take',
  `insert into sluice.answered_requests (key, request_hash, answer) values ($1, $2, 'null') on conflict do nothing`,
)

const answerStatement = statement(
  'answered-requests.answer',
  'update sluice.answered_requests set answer = $2 where key = $1',
)

const findStatement = statement<{ requestHash: string; answer: unknown }>(
  'answered-requests.find',
  'select request_hash as "requestHash", answer from sluice.answered_requests where key = $1',
)

const forgetStatement = statement('answered-requests.forget', 'delete from sluice.answered_requests where at < $1')

/**
 * Does `work` once per key, in the transaction of the caller; whoever comes with the same key meanwhile waits for its end. The
 * answer is JSON.
 * @throws SluiceError IDEMPOTENCY_KEY_REUSED when the key came with another request
 */
export async function answerOnce<Answer>(
  session: Session,
  { key, requestHash }: { readonly key: string | undefined; readonly requestHash: string },
  work: () => Promise<Answer>,
): Promise<Answer> {
  if (key === undefined) return work()
  if ((await session.execute(takeStatement, [key, requestHash])) === 1) {
    const answer = await work()
    await session.execute(answerStatement, [key, JSON.stringify(answer)])
    return answer
  }
  const [earlier] = await session.query(findStatement, [key])
  if (earlier === undefined) throw new SluiceError('CONFLICT', 'The earlier request of this key is gone; ask again')
  if (earlier.requestHash !== requestHash) {
    throw new SluiceError('IDEMPOTENCY_KEY_REUSED', 'The Idempotency-Key was used for another request')
  }
  return earlier.answer as Answer
}

/** Forgets the answers before a time; gives their number. */
export function forgetAnswers(session: Session, before: Date): Promise<number> {
  return session.execute(forgetStatement, [before])
}
