/** The tasks of a workflow as YAML writes them, in stages or not, each checked by itself. */

import type { z } from 'zod'
import { policyOf } from '../../../core/retry.ts'
import { triggerRules } from '../../../sdk/graph-builder.ts'
import { checkName } from '../../../sdk/name.ts'
import { Expression, readExpressions } from './expression.ts'
import { readParams } from './params.ts'
import { below } from './pointer.ts'
import type { Fields, Reader } from './reader.ts'

export const kinds = ['action', 'run', 'wait', 'approve', 'branch'] as const
export type Kind = (typeof kinds)[number]

export interface TaskForm {
  readonly id: string
  /** Where it stands. */
  readonly pointer: string
  readonly kind: Kind
  /** What stands behind the key of its kind: the name of an action or workflow, the title of an approval. */
  readonly target: string
  readonly fields: Fields
  /** Arguments, with expressions read. */
  readonly args: unknown
  readonly over: unknown
  readonly after: readonly { readonly text: string; readonly pointer: string }[]
  readonly stage: number | undefined
  /** What is filled in with the answer to an approval. */
  readonly form: z.ZodObject | undefined
}

export interface TasksForm {
  readonly stages: readonly string[]
  readonly tasks: readonly TaskForm[]
}

/** Of each id, the number that the next one of its name gets. */
type Ids = Map<string, number>

const everywhere = ['id', 'after', 'rule']
const keysOf: Readonly<Record<Kind, readonly string[]>> = {
  action: ['with', 'map', 'retry', 'timeout', 'within', 'priority'],
  run: ['with', 'map', 'within', 'priority'],
  wait: [],
  approve: ['form', 'show', 'deadline', 'onDeadline', 'onRefuse'],
  branch: ['arms'],
}

export function readTasks(fields: Fields, reader: Reader): TasksForm {
  const both = fields.tasks !== undefined && fields.stages !== undefined
  if (both) reader.fault('/tasks', 'a workflow has either tasks or stages', 'key')
  if (fields.tasks === undefined && fields.stages === undefined)
    reader.fault('', 'a workflow has tasks, or stages of tasks')
  const ids: Ids = new Map()
  if (fields.stages === undefined) {
    const tasks = readMany(fields.tasks ?? {}, '/tasks', 'tasks', undefined, ids, reader)
    if (tasks.length === 0 && reader.count === 0) reader.fault('/tasks', 'there are no tasks')
    return { stages: [], tasks }
  }
  const stages: string[] = []
  const list = reader.list(fields.stages, '/stages', 'stages') ?? []
  const tasks = list.flatMap((stage, index) => {
    const at = below('/stages', index)
    const named = Object.entries(reader.map(stage, at, 'a stage') ?? {})
    const [name, inside] = named[0] ?? []
    if (name === undefined || named.length !== 1) {
      reader.fault(at, 'a stage is a map with one key, its name: "- load: [ ... ]"')
      return []
    }
    const stageAt = below(at, name)
    reader.attempt(stageAt, () => checkName('stage', name))
    if (stages.includes(name)) reader.fault(stageAt, `there are two stages named ${name}`, 'key')
    const some = readMany(inside, stageAt, `stage ${name}`, stages.push(name) - 1, ids, reader)
    if (some.length === 0) reader.fault(stageAt, `stage ${name} has no tasks`)
    return some
  })
  if (list.length === 0) reader.fault('/stages', 'there are no stages')
  return { stages, tasks }
}

/** A list of tasks, or a map of them by id. */
function readMany(
  value: unknown,
  at: string,
  what: string,
  stage: number | undefined,
  ids: Ids,
  reader: Reader,
): TaskForm[] {
  if (Array.isArray(value))
    return value.flatMap((task, index) => readTask(task, below(at, index), undefined, stage, ids, reader) ?? [])
  const map = reader.map(value, at, what) ?? {}
  return Object.entries(map).flatMap(([id, task]) => readTask(task, below(at, id), id, stage, ids, reader) ?? [])
}

function readTask(
  value: unknown,
  at: string,
  key: string | undefined,
  stage: number | undefined,
  ids: Ids,
  reader: Reader,
): TaskForm | undefined {
  const what = key === undefined ? 'a task' : `task ${key}`
  const given = reader.map(value, at, what)
  if (!given) return undefined
  const found = kinds.filter((kind) => Object.hasOwn(given, kind))
  const [kind] = found
  if (kind === undefined || found.length > 1) {
    const before = reader.count
    reader.fields(given, at, what, [...kinds, ...everywhere, ...Object.values(keysOf).flat()])
    if (reader.count > before) return undefined
    return reader.fault(
      at,
      `${what} has ${found.length === 0 ? 'none' : found.join(' and ')}; one of ${kinds.join(', ')} says what it does`,
    )
  }
  reader.fields(given, at, what, [kind, ...everywhere, ...keysOf[kind]])
  if (key !== undefined && given.id !== undefined) reader.fault(below(at, 'id'), `its id is its key, ${key}`, 'key')
  const target =
    kind === 'wait' || kind === 'branch' ? kind : reader.text(given[kind], below(at, kind), `${kind} of ${what}`)
  if (target === undefined) return undefined
  const id = idOf(key, given, target, kind, at, ids, reader)
  checkOptions(given, at, `task ${id}`, reader)
  return {
    id,
    pointer: at,
    kind,
    target,
    fields: given,
    args: readArgs(kind, given, at, `task ${id}`, reader),
    over: given.map === undefined ? undefined : readExpressions(given.map, below(at, 'map'), reader),
    after: given.after === undefined ? [] : reader.texts(given.after, below(at, 'after'), `after of task ${id}`),
    stage,
    form: given.form === undefined ? undefined : readParams(given.form, below(at, 'form'), reader),
  }
}

/** Its key, its `id`, or the name of what it does, numbered from the second on. */
function idOf(
  key: string | undefined,
  given: Fields,
  target: string,
  kind: Kind,
  at: string,
  ids: Ids,
  reader: Reader,
): string {
  const wanted = key ?? (given.id === undefined ? undefined : (reader.text(given.id, below(at, 'id'), 'id') ?? ''))
  const place = key === undefined ? below(at, 'id') : at
  if (wanted !== undefined && wanted !== '') reader.attempt(place, () => checkName('task', wanted))
  const base = wanted ?? (kind === 'approve' ? 'approval' : target)
  let id = base
  if (wanted !== undefined && ids.has(id)) reader.fault(place, `there are two tasks with the id ${id}`, 'key')
  let number = ids.get(base) ?? 2
  for (; wanted === undefined && ids.has(id); number += 1) id = `${base}-${number}`
  ids.set(base, number)
  if (!ids.has(id)) ids.set(id, 2)
  return id
}

function readArgs(kind: Kind, given: Fields, at: string, what: string, reader: Reader): unknown {
  if (kind === 'wait') return readWait(given.wait, below(at, 'wait'), what, reader)
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

function checkOptions(given: Fields, at: string, what: string, reader: Reader): void {
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
