/** What tasks take besides what they do and where they stand: arguments, limits of time, retries. */
import { policyOf } from '../../../core/retry.ts'
import { triggerRules } from '../../../sdk/graph-builder.ts'
import { Expression, readExpressions } from './expression.ts'
import { below } from './pointer.ts'
import type { Fields, Reader } from './reader.ts'

export function readArgs(kind: string, given: Fields, at: string, what: string, reader: Reader): unknown {
  if (kind === 'wait') return readWait(given.wait, below(at, 'wait'), what, reader)
  if (kind === 'each') return null
  const key = kind === 'action' || kind === 'run' ? 'with' : kind === 'approve' ? 'show' : kind
  if (given[key] === undefined) return key === 'with' ? {} : null
  if (key === 'with') reader.map(given.with, below(at, 'with'), `with of ${what}`)
  const read = readExpressions(given[key], below(at, key), reader)
  if (kind === 'branch' && !(read instanceof Expression))
    reader.fault(below(at, key), `branch of ${what} is what decides, such as \${{ tasks.check.result.kind }}`)
  return read
}

/** `wait: 2d`, `wait: { for: 2d }` or `wait: { until: a time }`. */
function readWait(value: unknown, at: string, what: string, reader: Reader): unknown {
  if (typeof value !== 'object') {
    reader.duration(value, at, `wait of ${what}`)
    return { for: value }
  }
  const given = reader.fields(value, at, `wait of ${what}`, ['for', 'until']) ?? {}
  if (Object.keys(given).length !== 1) reader.fault(at, `wait of ${what} has either for or until`)
  if (given.for !== undefined) reader.duration(given.for, below(at, 'for'), `wait.for of ${what}`)
  if (given.until !== undefined) reader.text(given.until, below(at, 'until'), `wait.until of ${what}`)
  const until = readExpressions(given.until, below(at, 'until'), reader)
  if (typeof until === 'string' && Number.isNaN(Date.parse(until)))
    reader.fault(below(at, 'until'), `wait.until of ${what} is no time; write for example 2026-03-01T02:00:00Z`)
  return given.until === undefined ? given : { until }
}

export function checkOptions(given: Fields, at: string, what: string, reader: Reader): void {
  if (given.rule !== undefined) reader.oneOf(given.rule, below(at, 'rule'), `rule of ${what}`, triggerRules)
  for (const key of ['timeout', 'within', 'deadline'])
    if (given[key] !== undefined) reader.duration(given[key], below(at, key), `${key} of ${what}`)
  for (const [key, allowed] of [
    ['onDeadline', ['fail', 'skip', 'approve']],
    ['onRefuse', ['skip', 'fail']],
  ] as const)
    if (given[key] !== undefined) reader.oneOf<string>(given[key], below(at, key), `${key} of ${what}`, allowed)
  if (given.priority !== undefined)
    reader.whole(given.priority, below(at, 'priority'), `priority of ${what}`, -1_000, 1_000)
  if (given.retry !== undefined) checkRetry(given.retry, below(at, 'retry'), `retry of ${what}`, true, reader)
}

function checkRetry(value: unknown, at: string, what: string, whole: boolean, reader: Reader): void {
  const before = reader.count
  const retry = reader.fields(value, at, what, ['attempts', 'base', 'max', ...(whole ? ['errors'] : [])])
  if (!retry) return
  if (retry.attempts !== undefined) reader.whole(retry.attempts, below(at, 'attempts'), `${what}.attempts`, 1, 100)
  for (const key of ['base', 'max'])
    if (retry[key] !== undefined) reader.duration(retry[key], below(at, key), `${what}.${key}`)
  if (reader.count > before) return
  const { errors, ...plain } = retry
  reader.attempt(at, () => policyOf(plain, 1))
  if (errors === undefined) return
  for (const [name, one] of Object.entries(reader.map(errors, below(at, 'errors'), `${what}.errors`) ?? {}))
    checkRetry(one, below(at, 'errors', name), `${what}.errors.${name}`, false, reader)
}
