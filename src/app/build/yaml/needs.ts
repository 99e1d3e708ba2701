/** What the tasks of a document wait for: its references, `after` and arms, checked against what there is. */
import type { WorkflowForm } from './document.ts'
import { type Expression, expressionsIn } from './expression.ts'
import { orderOf } from './order.ts'
import { below } from './pointer.ts'
import { type Reader, unknownName } from './reader.ts'
import type { TaskForm } from './tasks.ts'

export interface Arm {
  readonly branch: string
  readonly arm: string
}

export interface Needs {
  /** The tasks in an order in which each comes after those that it waits for. */
  readonly order: readonly TaskForm[]
  /** Of tasks in arms of branches. */
  readonly arms: ReadonlyMap<string, Arm>
}

/** Faults go to the reader of the form; undefined when there are any. */
export function needsOf(form: WorkflowForm): Needs | undefined {
  const { tasks, reader, params } = form
  const before = reader.count
  const index = new Map(tasks.map((task, at) => [task.id, at]))
  const arms = armsOf(tasks, index, reader)
  const waits = tasks.map(() => new Map<number, string>())
  const see = (task: number, other: string, pointer: string) => {
    const at = index.get(other)
    const { id, stage } = tasks[task] as TaskForm
    const target = at === undefined ? undefined : tasks[at]
    if (at === undefined || target === undefined) {
      reader.fault(pointer, () =>
        unknownName(
          `task ${id} names the task`,
          other,
          [...index.keys()].filter((one) => one !== id),
        ),
      )
    } else if (at === task) reader.fault(pointer, `task ${id} waits for itself`)
    else if (stage !== undefined && target.stage !== undefined && target.stage > stage) {
      const [own, later] = [form.stages[stage], form.stages[target.stage]]
      reader.fault(pointer, `task ${id} of stage ${own} waits for ${other} of stage ${later}, which starts later`)
    } else if (!waits[task]?.has(at)) waits[task]?.set(at, pointer)
  }
  for (const [at, task] of tasks.entries()) {
    for (const { text, pointer } of task.after) see(at, text, pointer)
    const arm = arms.get(task.id)
    if (arm) see(at, arm.branch, task.pointer)
    for (const one of expressionsIn(task.over))
      checkExpression(one, params, false, (id) => see(at, id, one.pointer), reader)
    for (const one of expressionsIn(task.args)) {
      checkExpression(one, params, task.over !== undefined, (id) => see(at, id, one.pointer), reader)
    }
  }
  for (const one of expressionsIn(form.result)) {
    checkExpression(
      one,
      params,
      false,
      (id) => {
        if (!index.has(id)) reader.fault(one.pointer, () => unknownName('the result names the task', id, index.keys()))
      },
      reader,
    )
  }
  const found = orderOf(waits.map((some) => new Set(some.keys())))
  if ('circle' in found) {
    const [first, second] = found.circle as [number, number]
    const path = found.circle.map((at) => tasks[at]?.id).join(' -> ')
    reader.fault(waits[first]?.get(second) ?? '', `tasks wait for one another in a circle: ${path} (-> is "waits for")`)
    return undefined
  }
  if (reader.count > before) return undefined
  return { order: found.order.map((at) => tasks[at] as TaskForm), arms }
}

function checkExpression(
  { path, pointer }: Expression,
  params: WorkflowForm['params'],
  mapped: boolean,
  see: (task: string) => void,
  reader: Reader,
): void {
  const [root, name, part] = path
  if (root === 'params') {
    const known = Object.keys(params.shape)
    if (name !== undefined && !known.includes(name))
      reader.fault(pointer, () => unknownName('there is no parameter', name, known))
  } else if (root === 'tasks') {
    if (name === undefined || part !== 'result')
      reader.fault(pointer, `write \${{ tasks.${name ?? 'id'}.result }}, and the path of a field behind it`)
    else see(name)
  } else if (root === 'item') {
    if (!mapped) reader.fault(pointer, 'item is there only in the "with" of a task that has map')
  } else
    reader.fault(pointer, () =>
      unknownName('an expression begins with params, tasks or item, not', root as string, ['params', 'tasks', 'item']),
    )
}

function armsOf(tasks: readonly TaskForm[], index: ReadonlyMap<string, number>, reader: Reader): Map<string, Arm> {
  const found = new Map<string, Arm>()
  for (const { id, kind, fields, pointer } of tasks) {
    if (kind !== 'branch') continue
    const at = below(pointer, 'arms')
    const arms = Object.entries(reader.map(fields.arms, at, `arms of branch ${id}`) ?? {})
    if (arms.length === 0) reader.fault(at, `branch ${id} has no arms; write arms: { name: [task] }`)
    for (const [arm, members] of arms) {
      for (const { text, pointer: place } of reader.texts(members, below(at, arm), `arm ${arm}`)) {
        const before = found.get(text)
        if (!index.has(text)) reader.fault(place, () => unknownName(`arm ${arm} names the task`, text, index.keys()))
        else if (text === id) reader.fault(place, `branch ${id} stands in its own arm`)
        else if (before) reader.fault(place, `task ${text} stands in the arm ${before.arm} of ${before.branch} already`)
        else found.set(text, { branch: id, arm })
      }
    }
  }
  return found
}
