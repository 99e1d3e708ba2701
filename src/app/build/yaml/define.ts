/** Places the tasks of a document, by the functions that TypeScript calls, in an order in which each finds what it names. */
import { messageOf, SluiceError } from '../../../errors.ts'
import { branch, each, tearDown } from '../../../sdk/flow.ts'
import { type CallOptions, nodesOf, scopeFor, stage } from '../../../sdk/graph-builder.ts'
import type { Ref } from '../../../sdk/reference.ts'
import { approve, run, wait } from '../../../sdk/waits.ts'
import type { Workflow } from '../../../sdk/workflow.ts'
import { type Expression, into, resultNamed, withReferences } from './expression.ts'
import type { Needs } from './needs.ts'
import type { Places } from './pointer.ts'
import type { ProgramTask } from './program.ts'
import type { ScopeForm, TaskForm } from './tasks.ts'

/** What expressions can name while tasks are placed. */
export interface Known {
  readonly params: unknown
  /** By name. */
  readonly items: ReadonlyMap<string, unknown>
  /** By id: those that are placed, in the scope and around it. */
  readonly refs: Map<string, Ref<unknown>>
}

export interface DefineParts {
  readonly places: Places
  /** What tasks of the kind `action` call. */
  readonly actions: ReadonlyMap<TaskForm, ProgramTask>
}

/** What has its place among the faults. */
const located = new WeakSet<SluiceError>()

/** Gives what the scope results in. */
export function define(scope: ScopeForm, needs: Needs, known: Known, parts: DefineParts): unknown {
  const place = (task: TaskForm) => {
    try {
      const ref = inGroups(task, () => inArms(task.id, needs, known, () => call(task, needs, known, parts)))
      known.refs.set(task.id, ref)
      if (task.teardownOf) tearDown(indexOf(ref), indexOf(known.refs.get(task.teardownOf.text)), workOf(task))
    } catch (thrown) {
      if (!(thrown instanceof SluiceError) || located.has(thrown)) throw thrown
      const where = parts.places.of(task.pointer)
      const faults = [{ where, message: messageOf(thrown) }]
      const told = new SluiceError(thrown.code, `task ${task.id}: ${messageOf(thrown)}`, { cause: thrown, faults })
      located.add(told)
      throw told
    }
  }
  const workOf = ({ teardownOf }: TaskForm) =>
    (needs.work.get(teardownOf?.text as string) ?? []).map((id) => indexOf(known.refs.get(id)))
  for (const task of needs.order) if (task.stage === undefined) place(task)
  for (const [index, name] of scope.stages.entries()) {
    stage(name, () => {
      for (const task of needs.order) if (task.stage === index) place(task)
    })
  }
  return scope.result === undefined ? undefined : withReferences(scope.result, referenceIn(known))
}

function referenceIn({ params, items, refs }: Known): (expression: Expression) => unknown {
  return ({ path }) => {
    const [root, ...rest] = path as [string, ...string[]]
    if (root === 'params') return into(params, rest)
    if (root !== 'tasks') return into(items.get(root), rest)
    const found = resultNamed(path, (id) => refs.has(id))
    return into(refs.get(found?.id as string), found?.path ?? [])
  }
}

const withItem = (known: Known, ...named: readonly (readonly [name: string, item: unknown])[]): Known => ({
  ...known,
  items: new Map([...known.items, ...named]),
})

function inGroups<Result>({ groups: names, id }: TaskForm, work: () => Result): Result {
  const { groups } = scopeFor(`task ${id}`)
  groups.push(...names)
  try {
    return work()
  } finally {
    groups.length -= names.length
  }
}

/** What is placed by `work` stands in the arms that its task is in, and those that their branches are in. */
function inArms<Result>(id: string, needs: Needs, known: Known, work: () => Result): Result {
  const arm = needs.arms.get(id)
  if (arm === undefined) return work()
  return inArms(arm.branch, needs, known, () => {
    const { arms } = scopeFor(`branch ${arm.branch}`)
    arms.push({ branch: indexOf(known.refs.get(arm.branch)), arm: arm.arm })
    try {
      return work()
    } finally {
      arms.pop()
    }
  })
}

function indexOf(ref: unknown): number {
  const [node] = nodesOf(ref, 'a task')
  if (node?.from === 'node') return node.node
  throw new SluiceError('INTERNAL', 'a task has no node')
}

function call(task: TaskForm, needs: Needs, known: Known, parts: DefineParts): Ref<unknown> {
  const { fields, kind, target, over, body } = task
  const called = parts.actions.get(task)
  const args = (item?: unknown) =>
    withReferences(called ? called.args : task.args, referenceIn(withItem(known, ['item', item]))) as never
  const plain = () => withReferences(called ? called.args : task.args, referenceIn(known)) as never
  const list = withReferences(over, referenceIn(known)) as never
  const options = optionsOf(task, needs, known)
  switch (kind) {
    case 'action': {
      const { action } = called as ProgramTask
      return over === undefined ? action(plain(), options) : action.map(list, args, options as never)
    }
    case 'run': {
      const other = { kind: 'workflow', name: target } as Workflow
      return over === undefined ? run(other, plain(), options) : run.map(other, list, args, options)
    }
    case 'wait': {
      const { for: length, until } = plain() as { for?: string; until?: string }
      return until === undefined ? wait.for(length as string, options) : wait.until(until, options)
    }
    case 'approve': {
      const { deadline, onDeadline, onRefuse } = fields as { [key: string]: never }
      const asked = task.form === undefined ? {} : { form: task.form }
      const more = { show: plain(), deadline, onDeadline, onRefuse }
      return approve(target, { ...options, ...asked, ...more }) as Ref<unknown>
    }
    case 'branch': {
      const arms = Object.keys(fields.arms as object).map((arm) => [arm, () => {}] as const)
      return branch(plain(), Object.fromEntries(arms), options)
    }
    case 'each': {
      const work = body as NonNullable<typeof body>
      const inside = (item: unknown) => {
        const named = work.itemName === undefined ? [] : [[work.itemName, item] as const]
        const inner = withItem({ ...known, refs: new Map(known.refs) }, ['item', item], ...named)
        return define(work, needs.bodies.get(task) as Needs, inner, parts)
      }
      return each(list, inside, options) as Ref<unknown>
    }
  }
}

function optionsOf(task: TaskForm, needs: Needs, known: Known): CallOptions {
  const { fields, limits, over, name } = task
  const after = [...(needs.after.get(task) ?? [])].map((id) => known.refs.get(id) as Ref<unknown>)
  const { key, ...plain } = limits
  const keyFor = (item: unknown) => withReferences(key, referenceIn(withItem(known, ['item', item])))
  const all = {
    id: name,
    after: after.length > 0 ? after : undefined,
    rule: fields.rule,
    retry: fields.retry,
    timeout: fields.timeout,
    within: fields.within,
    priority: fields.priority,
    ...plain,
    key: key && (over === undefined ? withReferences(key, referenceIn(known)) : keyFor),
  }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
}
