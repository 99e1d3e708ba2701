/** The tasks of a workflow as YAML writes them: in stages or not, in groups, in bodies that run for each item. */

import type { z } from 'zod'
import { checkName } from '../../../sdk/name.ts'
import { Expression, readExpressions } from './expression.ts'
import { type Declared, type Limits, limitKeys, readDeclared, readLimits } from './limits.ts'
import { readParams } from './params.ts'
import { below } from './pointer.ts'
import type { Fields, Reader } from './reader.ts'
import { checkOptions, readArgs } from './task-options.ts'

export const kinds = ['action', 'run', 'wait', 'approve', 'branch', 'each'] as const
export type Kind = (typeof kinds)[number]

/** The name of a task, and where it stands. */
export interface Named {
  readonly text: string
  readonly pointer: string
}

export interface TaskForm {
  /** With the groups that it stands in: `group.task`. */
  readonly id: string
  readonly name: string
  readonly groups: readonly string[]
  /** Where it stands. */
  readonly pointer: string
  readonly kind: Kind
  /** What stands behind the key of its kind: the name of an action or workflow, the title of an approval. */
  readonly target: string
  readonly fields: Fields
  /** Arguments, with expressions read. */
  readonly args: unknown
  /** What it is mapped over. */
  readonly over: unknown
  readonly after: readonly Named[]
  /** Set-ups that must be there while it runs. */
  readonly using: readonly Named[]
  readonly teardownOf: Named | undefined
  readonly limits: Limits
  readonly stage: number | undefined
  /** What is filled in with the answer to an approval. */
  readonly form: z.ZodObject | undefined
  /** What runs for each item. */
  readonly body: BodyForm | undefined
}

/** Tasks that can name each other. */
export interface ScopeForm {
  readonly stages: readonly string[]
  readonly tasks: readonly TaskForm[]
  /** By name, with the groups that it stands in: the ids of all tasks inside. */
  readonly groups: ReadonlyMap<string, readonly string[]>
  /** What a run results in, with expressions read. */
  readonly result: unknown
}

export interface BodyForm extends ScopeForm {
  /** Another name of the item than `item`. */
  readonly itemName: string | undefined
}

/** All of a scope, and of the bodies in it. */
export function* allTasks({ tasks }: ScopeForm): Generator<TaskForm> {
  for (const task of tasks) {
    yield task
    if (task.body) yield* allTasks(task.body)
  }
}

/** Where tasks are read. */
interface Around {
  readonly reader: Reader
  readonly declared: Declared
  /** Of each id, the number that the next one of its name gets. */
  readonly ids: Map<string, number>
  readonly members: Map<string, string[]>
  readonly stage: number | undefined
  readonly groups: readonly string[]
  /** Of the groups around. */
  readonly after: readonly Named[]
  readonly using: readonly Named[]
}

const everywhere = ['id', 'after', 'rule', 'using']
const keysOf: Readonly<Record<Kind | 'group', readonly string[]>> = {
  action: ['with', 'map', 'retry', 'timeout', 'within', 'priority', ...limitKeys, 'teardownOf'],
  run: ['with', 'map', 'within', 'priority'],
  wait: [],
  approve: ['form', 'show', 'deadline', 'onDeadline', 'onRefuse'],
  branch: ['arms'],
  each: ['as', 'tasks', 'result', 'within', 'priority'],
  group: [],
}

const openScope = (reader: Reader, declared: Declared): Around => ({
  ...{ reader, declared, ids: new Map(), members: new Map() },
  ...{ stage: undefined, groups: [], after: [], using: [] },
})

export function readTasks(fields: Fields, reader: Reader): ScopeForm {
  const around = openScope(reader, readDeclared(fields, reader))
  const both = fields.tasks !== undefined && fields.stages !== undefined
  if (both) reader.fault('/tasks', 'a workflow has either tasks or stages', 'key')
  if (fields.tasks === undefined && fields.stages === undefined)
    reader.fault('', 'a workflow has tasks, or stages of tasks')
  const { stages, tasks } =
    fields.stages === undefined ? readPlain(fields.tasks ?? {}, around) : readStages(fields.stages, around)
  const result = readExpressions(fields.result, '/result', reader)
  return { stages, tasks, groups: around.members, result }
}

function readPlain(value: unknown, around: Around): Pick<ScopeForm, 'stages' | 'tasks'> {
  const { reader } = around
  const tasks = readMany(value, '/tasks', 'tasks', around)
  if (tasks.length === 0 && reader.count === 0) reader.fault('/tasks', 'there are no tasks')
  return { stages: [], tasks }
}

function readStages(value: unknown, around: Around): Pick<ScopeForm, 'stages' | 'tasks'> {
  const { reader } = around
  const stages: string[] = []
  const list = reader.list(value, '/stages', 'stages') ?? []
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
    const before = reader.count
    const some = readMany(inside, stageAt, `stage ${name}`, { ...around, stage: stages.push(name) - 1 })
    if (some.length === 0 && reader.count === before) reader.fault(stageAt, `stage ${name} has no tasks`)
    return some
  })
  if (list.length === 0) reader.fault('/stages', 'there are no stages')
  return { stages, tasks }
}

/** A list of tasks, or a map of them by id. */
function readMany(value: unknown, at: string, what: string, around: Around): TaskForm[] {
  if (Array.isArray(value)) return value.flatMap((task, index) => readTask(task, below(at, index), undefined, around))
  const map = around.reader.map(value, at, what) ?? {}
  return Object.entries(map).flatMap(([id, task]) => readTask(task, below(at, id), id, around))
}

/** One task, or those of a group. */
function readTask(value: unknown, at: string, key: string | undefined, around: Around): TaskForm[] {
  const { reader } = around
  const what = key === undefined ? 'a task' : `task ${key}`
  const given = reader.map(value, at, what)
  if (!given) return []
  const kind = kindOf(given, at, what, reader)
  if (kind === undefined) return []
  const known = kind === 'group' ? ['id', 'after', 'using'] : [...everywhere, ...keysOf[kind]]
  reader.fields(given, at, what, [kind, ...known])
  if (key !== undefined && given.id !== undefined) reader.fault(below(at, 'id'), `its id is its key, ${key}`, 'key')
  if (kind === 'group') return readGroup(given, at, key, around)
  const isText = kind === 'action' || kind === 'run' || kind === 'approve'
  const target = isText ? reader.text(given[kind], below(at, kind), `${kind} of ${what}`) : kind
  if (target === undefined) return []
  const { id, name } = idOf(key, given, kind === 'approve' ? 'approval' : target, at, around)
  const called = `task ${id}`
  checkOptions(given, at, called, reader)
  if (given.teardownOf !== undefined && given.rule !== undefined)
    reader.fault(
      below(at, 'rule'),
      `${called} is a teardown, which runs however the work ended; it takes no rule`,
      'key',
    )
  const names = (word: string) =>
    given[word] === undefined ? [] : reader.texts(given[word], below(at, word), `${word} of ${called}`)
  return [
    {
      ...{ id, name, groups: around.groups, pointer: at, kind, target, fields: given, stage: around.stage },
      args: readArgs(kind, given, at, called, reader),
      over: readList(given, at, called, reader),
      after: [...around.after, ...names('after')],
      using: [...around.using, ...names('using')],
      teardownOf: kind === 'action' ? names('teardownOf')[0] : undefined,
      limits: readLimits(given, at, called, around.declared, reader),
      form: given.form === undefined ? undefined : readParams(given.form, below(at, 'form'), reader),
      body: kind === 'each' ? readBody(given, at, called, around) : undefined,
    },
  ]
}

function kindOf(given: Fields, at: string, what: string, reader: Reader): Kind | 'group' | undefined {
  const all = [...kinds, 'group'] as const
  const found = all.filter((kind) => Object.hasOwn(given, kind))
  if (found.length === 1) return found[0]
  const before = reader.count
  reader.fields(given, at, what, [...all, ...everywhere, ...Object.values(keysOf).flat()])
  if (reader.count > before) return undefined
  const has = found.length === 0 ? 'none' : found.join(' and ')
  return reader.fault(at, `${what} has ${has}; one of ${all.join(', ')} says what it does`)
}

function readGroup(given: Fields, at: string, key: string | undefined, around: Around): TaskForm[] {
  const { reader } = around
  if (key === undefined && given.id === undefined)
    return reader.fault(at, 'a group in a list has an id: "- { id: name, group: { ... } }"') ?? []
  const { id, name } = idOf(key, given, 'group', at, around)
  const names = (word: string) =>
    given[word] === undefined ? [] : reader.texts(given[word], below(at, word), `${word} of group ${id}`)
  const tasks = readMany(given.group, below(at, 'group'), `group ${id}`, {
    ...around,
    groups: [...around.groups, name],
    after: [...around.after, ...names('after')],
    using: [...around.using, ...names('using')],
  })
  if (tasks.length === 0 && reader.count === 0) reader.fault(below(at, 'group'), `group ${id} has no tasks`)
  around.members.set(
    id,
    tasks.map((task) => task.id),
  )
  return tasks
}

/** What runs for each item: tasks of their own, which may use what stands around them. */
function readBody(given: Fields, at: string, what: string, { reader, declared }: Around): BodyForm {
  const around = openScope(reader, declared)
  if (given.tasks === undefined) reader.fault(at, `${what} has no tasks; write tasks: what runs for each item`)
  const tasks = given.tasks === undefined ? [] : readMany(given.tasks, below(at, 'tasks'), `tasks of ${what}`, around)
  if (tasks.length === 0 && reader.count === 0) reader.fault(below(at, 'tasks'), `${what} has no tasks`)
  const itemName = given.as === undefined ? undefined : reader.text(given.as, below(at, 'as'), `as of ${what}`)
  if (itemName !== undefined && (!/^[A-Za-z_][\w-]*$/.test(itemName) || taken.has(itemName)))
    reader.fault(
      below(at, 'as'),
      `as of ${what} is "${itemName}"; it is a name of letters, digits, _ and -, and not one of ${[...taken].join(', ')}`,
    )
  const result = readExpressions(given.result, below(at, 'result'), reader)
  return { stages: [], tasks, groups: around.members, result, itemName }
}

const taken: ReadonlySet<string> = new Set(['params', 'tasks', 'item', 'tick', 'event'])

/** Of `map` and `each`. */
function readList(given: Fields, at: string, what: string, reader: Reader): unknown {
  const word = given.each === undefined ? 'map' : 'each'
  if (given[word] === undefined) return undefined
  const read = readExpressions(given[word], below(at, word), reader)
  if (read === undefined || read instanceof Expression || Array.isArray(read)) return read
  return reader.fault(below(at, word), `${word} of ${what} is a list, or a reference to one: \${{ tasks.find.result }}`)
}

/** Its key, its `id`, or the name of what it does, numbered from the second on; in its groups. */
function idOf(
  key: string | undefined,
  given: Fields,
  fallback: string,
  at: string,
  { ids, groups, reader }: Around,
): { id: string; name: string } {
  const wanted = key ?? (given.id === undefined ? undefined : (reader.text(given.id, below(at, 'id'), 'id') ?? ''))
  const place = key === undefined ? below(at, 'id') : at
  if (wanted !== undefined && wanted !== '') reader.attempt(place, () => checkName('task', wanted))
  const inGroups = (name: string) => [...groups, name].join('.')
  const base = wanted ?? fallback
  let name = base
  if (wanted !== undefined && ids.has(inGroups(name)))
    reader.fault(place, `there are two tasks with the id ${inGroups(name)}`, 'key')
  let number = ids.get(inGroups(base)) ?? 2
  for (; wanted === undefined && ids.has(inGroups(name)); number += 1) name = `${base}-${number}`
  ids.set(inGroups(base), number)
  const id = inGroups(name)
  if (!ids.has(id)) ids.set(id, 2)
  return { id, name }
}
