/**
 * Makes of a YAML document the same workflow that TypeScript would define: its `define` calls the same functions, so that
 * manifest, checks, engine and runner know no difference.
 */
import { type Fault, messageOf, SluiceError } from '../../../errors.ts'
import type { Action } from '../../../sdk/action.ts'
import { branch } from '../../../sdk/flow.ts'
import { type CallOptions, nodesOf, scopeFor, stage } from '../../../sdk/graph-builder.ts'
import type { Ref } from '../../../sdk/reference.ts'
import { approve, run, wait } from '../../../sdk/waits.ts'
import { graphOf, type Workflow, workflow } from '../../../sdk/workflow.ts'
import { told, wrongArguments } from '../arguments.ts'
import { fieldsOf } from '../references.ts'
import type { WorkflowForm } from './document.ts'
import { type Expression, expressionsIn, into, withReferences } from './expression.ts'
import { type Needs, needsOf } from './needs.ts'
import { below } from './pointer.ts'
import { type ProgramTask, programOf, unknownAction } from './program.ts'
import { unknownName } from './reader.ts'
import type { TaskForm } from './tasks.ts'

/** What a document can name. */
export interface Nameable {
  /** By name; a text says why the name cannot be used. */
  readonly actions: ReadonlyMap<string, Action | string>
  readonly workflows: ReadonlySet<string>
}

export type Compiled = { readonly workflow: Workflow } | { readonly faults: readonly Fault[] }

/** @param check whether arguments are judged, too: a build asks for it, a runner need not. */
export function compile(form: WorkflowForm, nameable: Nameable, check: boolean): Compiled {
  const { reader, name } = form
  const needs = needsOf(form)
  const actions = new Map(form.tasks.flatMap((task) => actionOf(task, form, nameable) ?? []))
  if (reader.count > 0 || needs === undefined || name === undefined) return { faults: inOrder(reader.faults) }
  const made = workflow(name, {
    params: form.params,
    plans: form.plans,
    ...form.options,
    define: ({ params }) => define(form, needs, actions, params),
  }) as unknown as Workflow
  if (check) checkArguments(form, made)
  return reader.count > 0 ? { faults: inOrder(reader.faults) } : { workflow: made }
}

/** As they stand in the file. */
function inOrder(faults: readonly Fault[]): Fault[] {
  const place = ({ where }: Fault) => where.split(':').slice(-2).map(Number) as [number, number]
  return faults.toSorted((a, b) => {
    const [[line, column], [otherLine, otherColumn]] = [place(a), place(b)]
    return line - otherLine || column - otherColumn
  })
}

/** What a task calls: an action of the project, or a program. */
function actionOf(
  task: TaskForm,
  { reader }: WorkflowForm,
  { actions, workflows }: Nameable,
): [string, ProgramTask][] | undefined {
  const { id, kind, target, pointer } = task
  if (kind === 'run') {
    const at = below(pointer, 'run')
    if (!workflows.has(target)) reader.fault(at, () => unknownName('there is no workflow', target, workflows))
    return undefined
  }
  if (kind !== 'action') return undefined
  if (target === 'program') {
    const program = programOf(task, reader)
    return program && [[id, program]]
  }
  const action = actions.get(target)
  const at = below(pointer, 'action')
  if (action === undefined) return reader.fault(at, () => unknownAction(target, actions.keys()))
  if (typeof action === 'string') return reader.fault(at, action)
  return [[id, { action, args: task.args }]]
}

type Refs = Map<string, Ref<unknown>>

function define(form: WorkflowForm, needs: Needs, actions: ReadonlyMap<string, ProgramTask>, params: unknown): unknown {
  const refs: Refs = new Map()
  const referenceTo = (item: unknown) => (expression: Expression) => {
    const { path } = expression
    if (path[0] === 'params') return into(params, path.slice(1))
    if (path[0] === 'item') return into(item, path.slice(1))
    return into(refs.get(path[1] as string), path.slice(3))
  }
  const place = (task: TaskForm) => {
    try {
      refs.set(
        task.id,
        inArms(task.id, needs, refs, () => call(task, actions.get(task.id), refs, referenceTo)),
      )
    } catch (thrown) {
      if (!(thrown instanceof SluiceError)) throw thrown
      const where = form.reader.places.of(task.pointer)
      throw new SluiceError(thrown.code, `task ${task.id}: ${messageOf(thrown)}`, {
        cause: thrown,
        faults: [{ where, message: messageOf(thrown) }],
      })
    }
  }
  for (const task of needs.order) if (task.stage === undefined) place(task)
  for (const [index, name] of form.stages.entries()) {
    stage(name, () => {
      for (const task of needs.order) if (task.stage === index) place(task)
    })
  }
  return form.result === undefined ? undefined : withReferences(form.result, referenceTo(undefined))
}

/** What is placed by `work` stands in the arms that its task is in, and those that their branches are in. */
function inArms<Result>(id: string, needs: Needs, refs: Refs, work: () => Result): Result {
  const arm = needs.arms.get(id)
  if (arm === undefined) return work()
  return inArms(arm.branch, needs, refs, () => {
    const [node] = nodesOf(refs.get(arm.branch), `branch ${arm.branch}`)
    if (node?.from !== 'node') throw new SluiceError('INTERNAL', `branch ${arm.branch} has no node`)
    const { arms } = scopeFor(`branch ${arm.branch}`)
    arms.push({ branch: node.node, arm: arm.arm })
    try {
      return work()
    } finally {
      arms.pop()
    }
  })
}

function call(
  task: TaskForm,
  called: ProgramTask | undefined,
  refs: Refs,
  referenceTo: (item: unknown) => (expression: Expression) => unknown,
): Ref<unknown> {
  const { fields, kind, target, over } = task
  const after = task.after.map(({ text }) => refs.get(text) as Ref<unknown>)
  const given = Object.entries({
    rule: fields.rule,
    retry: fields.retry,
    timeout: fields.timeout,
    within: fields.within,
    priority: fields.priority,
  }).filter(([, value]) => value !== undefined)
  const options: CallOptions = { id: task.id, ...(after.length > 0 ? { after } : {}), ...Object.fromEntries(given) }
  const plain = referenceTo(undefined)
  const args = (item: unknown) => withReferences(called ? called.args : task.args, referenceTo(item)) as never
  const list = withReferences(over, plain) as never
  switch (kind) {
    case 'action': {
      const { action } = called as ProgramTask
      return over === undefined ? action(args(undefined), options) : action.map(list, args, options)
    }
    case 'run': {
      const other = { kind: 'workflow', name: target } as Workflow
      return over === undefined ? run(other, args(undefined), options) : run.map(other, list, args, options)
    }
    case 'wait': {
      const { for: length, until } = args(undefined) as { for?: string; until?: string }
      return until === undefined ? wait.for(length as string, options) : wait.until(until, options)
    }
    case 'approve': {
      const { deadline, onDeadline, onRefuse } = fields as { [key: string]: never }
      const asked = task.form === undefined ? {} : { form: task.form }
      return approve(target, {
        ...options,
        ...asked,
        show: args(undefined),
        deadline,
        onDeadline,
        onRefuse,
      }) as Ref<unknown>
    }
    case 'branch': {
      const arms = Object.keys(fields.arms as object).map((arm) => [arm, () => {}] as const)
      return branch(args(undefined), Object.fromEntries(arms), options)
    }
  }
}

/** What the graph shows: arguments that do not fit, fields that no result has. */
function checkArguments(form: WorkflowForm, made: Workflow): void {
  const { reader } = form
  const pointers = new Map(form.tasks.map((task) => [task.id, task.pointer]))
  try {
    const { nodes } = graphOf(made)
    for (const wrong of wrongArguments(nodes)) {
      const at = below(pointers.get(wrong.node.id) ?? '', 'with', ...wrong.path)
      reader.fault(at, told(wrong), wrong.message.startsWith('there is no') ? 'key' : 'value')
    }
    const results = new Map(
      nodes.map(({ id, action, over }) => [id, over === undefined ? fieldsOf(action?.options.output) : undefined]),
    )
    const all = [...form.tasks.flatMap(({ args, over }) => [args, over]), form.result]
    for (const { path, pointer } of expressionsIn(all)) {
      const [root, task = '', , field] = path
      const known = root === 'tasks' && field !== undefined ? results.get(task) : undefined
      if (field !== undefined && known !== undefined && !known.has(field))
        reader.fault(pointer, () => unknownName(`the result of ${task} has no field`, field, known))
    }
  } catch (thrown) {
    if (!(thrown instanceof SluiceError)) throw thrown
    const [fault] = thrown.faults
    if (fault) reader.add(fault)
    else reader.fault('/workflow', messageOf(thrown))
  }
}
