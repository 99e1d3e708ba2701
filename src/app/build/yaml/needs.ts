/** What the tasks of a document wait for: its references, `after`, `using` and arms, checked against what there is. */
import type { WorkflowForm } from './document.ts'
import { type Expression, expressionsIn, resultNamed } from './expression.ts'
import { orderOf } from './order.ts'
import { below } from './pointer.ts'
import { type Reader, unknownName } from './reader.ts'
import type { Named, ScopeForm, TaskForm } from './tasks.ts'

export interface Arm {
  readonly branch: string
  readonly arm: string
}

/** Of a workflow, or of what runs for each item. */
export interface Needs {
  /** The tasks in an order in which each comes after those that it waits for. */
  readonly order: readonly TaskForm[]
  /** By task: the ids of those that it names in `after` and `using`, of groups the last. */
  readonly after: ReadonlyMap<TaskForm, ReadonlySet<string>>
  /** Of tasks in arms of branches, by id. */
  readonly arms: ReadonlyMap<string, Arm>
  /** By set-up: the ids of the tasks that use it. */
  readonly work: ReadonlyMap<string, readonly string[]>
  readonly bodies: ReadonlyMap<TaskForm, Needs>
}

/** What can be named besides the tasks of a scope. */
interface Around {
  readonly params: readonly string[]
  /** Names of items. */
  readonly items: readonly string[]
  /** Tasks around an `each`, by id. */
  readonly tasks: ReadonlySet<string>
}

/** Faults go to the reader of the form; undefined when there are any. */
export function needsOf(form: WorkflowForm): Needs | undefined {
  const before = form.reader.count
  const around = { params: Object.keys(form.params.shape), items: [], tasks: new Set<string>() }
  const needs = new NeedsOfScope(form, around, form.reader).read(() => {}, 'the result')
  return form.reader.count > before ? undefined : needs
}

class NeedsOfScope {
  readonly #scope: ScopeForm
  readonly #around: Around
  readonly #reader: Reader
  readonly #index: ReadonlyMap<string, number>
  /** By task: those that it waits for, and where that is said. */
  readonly #waits: readonly Map<number, string>[]
  readonly #after = new Map<TaskForm, Set<string>>()
  readonly #work = new Map<string, string[]>()
  readonly #bodies = new Map<TaskForm, Needs>()
  /** Where a name stands that nothing has: what a group says, all of its tasks say. */
  readonly #unknown = new Set<string>()

  constructor(scope: ScopeForm, around: Around, reader: Reader) {
    this.#scope = scope
    this.#around = around
    this.#reader = reader
    this.#index = new Map(scope.tasks.map((task, at) => [task.id, at]))
    this.#waits = scope.tasks.map(() => new Map<number, string>())
  }

  /** @param outside is told of tasks around the scope that are named in it. */
  read(outside: (id: string, pointer: string) => void, result: string): Needs | undefined {
    const { tasks, groups } = this.#scope
    const arms = armsOf(this.#scope, this.#index, this.#reader)
    const toGroups: { readonly task: number; readonly named: Named }[] = []
    for (const [at, task] of tasks.entries()) {
      for (const named of task.after) {
        if (groups.has(named.text) && !this.#index.has(named.text)) toGroups.push({ task: at, named })
        else this.#waitAfter(at, named)
      }
      for (const named of task.using) {
        this.#waitAfter(at, named)
        this.#work.set(named.text, [...(this.#work.get(named.text) ?? []), task.id])
      }
      const arm = arms.get(task.id)
      if (arm) this.#wait(at, arm.branch, task.pointer)
      this.#seeExpressions(at, task, outside)
      if (task.body) this.#seeBody(at, task, outside)
    }
    // Inner groups first: which tasks of a group are its last depends on who waits for groups in it.
    const depth = ({ named }: { readonly named: Named }) => named.text.split('.').length
    for (const { task, named } of toGroups.sort((a, b) => depth(b) - depth(a))) this.#waitForGroup(task, named)
    this.#seeTeardowns()
    this.#seeResult(result, outside)
    const found = orderOf(this.#waits.map((some) => new Set(some.keys())))
    if ('circle' in found) return this.#circle(found.circle)
    const order = found.order.map((at) => tasks[at] as TaskForm)
    return { order, arms, after: this.#after, work: this.#work, bodies: this.#bodies }
  }

  #wait(task: number, id: string, pointer: string): void {
    const at = this.#index.get(id)
    const { id: own, stage } = this.#scope.tasks[task] as TaskForm
    if (at === undefined) {
      if (this.#unknown.has(pointer)) return
      this.#unknown.add(pointer)
      this.#reader.fault(pointer, () => unknownName(`task ${own} names the task`, id, this.#known(own)))
      return
    }
    const target = this.#scope.tasks[at] as TaskForm
    if (at === task) this.#reader.fault(pointer, `task ${own} waits for itself`)
    else if (stage !== undefined && target.stage !== undefined && target.stage > stage) {
      const [here, later] = [this.#scope.stages[stage], this.#scope.stages[target.stage]]
      this.#reader.fault(pointer, `task ${own} of stage ${here} waits for ${id} of stage ${later}, which starts later`)
    } else if (!this.#waits[task]?.has(at)) this.#waits[task]?.set(at, pointer)
  }

  /** Names that a task may have meant. */
  #known(own?: string): string[] {
    const all = new Set([...this.#index.keys(), ...this.#scope.groups.keys(), ...this.#around.tasks])
    return [...all].filter((one) => one !== own)
  }

  #waitAfter(task: number, { text, pointer }: Named): void {
    const form = this.#scope.tasks[task] as TaskForm
    if (!this.#index.has(text) && this.#around.tasks.has(text)) {
      const what = `task ${form.id} is to wait for ${text}, which stands outside of the each around it`
      this.#reader.fault(pointer, `${what}; say so at the each`)
      return
    }
    this.#wait(task, text, pointer)
    this.#after.set(form, (this.#after.get(form) ?? new Set()).add(text))
  }

  #waitForGroup(task: number, { text, pointer }: Named): void {
    const { id } = this.#scope.tasks[task] as TaskForm
    const members = (this.#scope.groups.get(text) ?? []).map((member) => this.#index.get(member) as number)
    if (members.includes(task)) {
      this.#reader.fault(pointer, `task ${id} waits for group ${text}, in which it stands`)
      return
    }
    const counting = members.filter((member) => this.#scope.tasks[member]?.teardownOf === undefined)
    if (counting.length === 0)
      this.#reader.fault(pointer, `group ${text} has teardowns alone, for which nobody waits; name the task itself`)
    const awaited = new Set(counting.flatMap((member) => [...(this.#waits[member]?.keys() ?? [])]))
    for (const member of counting) {
      if (!awaited.has(member)) this.#waitAfter(task, { text: (this.#scope.tasks[member] as TaskForm).id, pointer })
    }
  }

  #seeExpressions(at: number, task: TaskForm, outside: (id: string, pointer: string) => void): void {
    const see = (id: string, pointer: string) => {
      if (!this.#index.has(id) && this.#around.tasks.has(id)) outside(id, pointer)
      else this.#wait(at, id, pointer)
    }
    const { items } = this.#around
    for (const one of expressionsIn(task.over)) this.#check(one, items, see)
    const inside = task.kind !== 'each' && task.over !== undefined ? [...items, 'item'] : items
    for (const one of expressionsIn([task.args, task.limits.key])) this.#check(one, inside, see)
  }

  #seeBody(at: number, task: TaskForm, outside: (id: string, pointer: string) => void): void {
    const body = task.body as NonNullable<TaskForm['body']>
    const { params, items, tasks } = this.#around
    const around = {
      params,
      items: [...items, 'item', ...(body.itemName === undefined ? [] : [body.itemName])],
      tasks: new Set([...tasks, ...this.#index.keys()]),
    }
    const needs = new NeedsOfScope(body, around, this.#reader).read((id, pointer) => {
      if (this.#index.has(id)) this.#wait(at, id, pointer)
      else outside(id, pointer)
    }, `the result of task ${task.id}`)
    if (needs) this.#bodies.set(task, needs)
  }

  #seeResult(what: string, outside: (id: string, pointer: string) => void): void {
    for (const one of expressionsIn(this.#scope.result)) {
      this.#check(one, this.#around.items, (id, pointer) => {
        if (this.#index.has(id)) return
        if (this.#around.tasks.has(id)) outside(id, pointer)
        else this.#reader.fault(pointer, () => unknownName(`${what} names the task`, id, this.#known()))
      })
    }
  }

  #check({ path, pointer }: Expression, items: readonly string[], see: (task: string, pointer: string) => void): void {
    const [root, name] = path as [string, string | undefined]
    const { params } = this.#around
    if (root === 'params') {
      if (name !== undefined && !params.includes(name))
        this.#reader.fault(pointer, () => unknownName('there is no parameter', name, params))
    } else if (root === 'tasks') {
      const found = resultNamed(path, (id) => this.#index.has(id) || this.#around.tasks.has(id))
      if (found === undefined)
        this.#reader.fault(pointer, `write \${{ tasks.${name ?? 'id'}.result }}, and the path of a field behind it`)
      else see(found.id, pointer)
    } else if (root === 'item' && !items.includes('item')) {
      this.#reader.fault(
        pointer,
        'item is there only in the "with" and "key" of a task that has map, and inside an each',
      )
    } else if (!items.includes(root)) {
      const roots = ['params', 'tasks', 'item', ...items.filter((item) => item !== 'item')]
      this.#reader.fault(pointer, () =>
        unknownName(`an expression begins with ${roots.slice(0, -1).join(', ')} or ${roots.at(-1)}, not`, root, roots),
      )
    }
  }

  #seeTeardowns(): void {
    const { tasks, stages } = this.#scope
    for (const [stage, name] of stages.entries()) {
      const [first, ...others] = tasks.filter((task) => task.stage === stage)
      if (first && [first, ...others].every(({ teardownOf }) => teardownOf !== undefined))
        this.#reader.fault(
          first.pointer,
          `stage ${name} has teardowns alone, for which no stage waits; put them into the stage of their set-up`,
        )
    }
    const teardowns = new Map<string, string>()
    for (const [at, { id, teardownOf }] of tasks.entries()) {
      if (teardownOf === undefined) continue
      const { text: setup, pointer } = teardownOf
      const before = teardowns.get(setup)
      if (before !== undefined) this.#reader.fault(pointer, `task ${setup} has a teardown already: ${before}`)
      teardowns.set(setup, id)
      this.#waitAfter(at, teardownOf)
      const work = this.#work.get(setup) ?? []
      if (work.length === 0 && this.#index.has(setup))
        this.#reader.fault(pointer, `no task uses ${setup}; write using: ${setup} at those that need it`)
      for (const one of work) this.#wait(at, one, pointer)
    }
    for (const { id, using } of tasks) {
      for (const { text, pointer } of using)
        if (this.#index.has(text) && !teardowns.has(text))
          this.#reader.fault(
            pointer,
            `task ${id} uses ${text}, which no task tears down; write teardownOf: ${text} at one, or after instead of using`,
          )
    }
  }

  #circle(circle: readonly number[]): undefined {
    const { tasks } = this.#scope
    const [first, second] = circle as [number, number]
    const path = circle.map((at) => tasks[at]?.id).join(' -> ')
    const pointer = this.#waits[first]?.get(second) ?? ''
    return this.#reader.fault(pointer, `tasks wait for one another in a circle: ${path} (-> is "waits for")`)
  }
}

function armsOf({ tasks, groups }: ScopeForm, index: ReadonlyMap<string, number>, reader: Reader): Map<string, Arm> {
  const found = new Map<string, Arm>()
  for (const { id, kind, fields, pointer } of tasks) {
    if (kind !== 'branch') continue
    const at = below(pointer, 'arms')
    const arms = Object.entries(reader.map(fields.arms, at, `arms of branch ${id}`) ?? {})
    if (arms.length === 0) reader.fault(at, `branch ${id} has no arms; write arms: { name: [task] }`)
    for (const [arm, members] of arms) {
      for (const { text, pointer: place } of reader.texts(members, below(at, arm), `arm ${arm}`)) {
        const some = index.has(text) ? [text] : groups.get(text)
        if (some === undefined)
          reader.fault(place, () => unknownName(`arm ${arm} names the task`, text, [...index.keys(), ...groups.keys()]))
        for (const member of some ?? []) {
          const before = found.get(member)
          if (member === id) reader.fault(place, `branch ${id} stands in its own arm`)
          else if (before)
            reader.fault(place, `task ${member} stands in the arm ${before.arm} of ${before.branch} already`)
          else found.set(member, { branch: id, arm })
        }
      }
    }
  }
  return found
}
