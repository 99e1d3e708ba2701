/**
 * Makes of a YAML document the same workflow that TypeScript would define: its `define` calls the same functions, so that
 * manifest, checks, engine and runner know no difference.
 */
import { type Fault, messageOf, SluiceError } from '../../../errors.ts'
import type { Action } from '../../../sdk/action.ts'
import type { GraphDefinition } from '../../../sdk/graph-builder.ts'
import { graphOf, type Workflow, workflow } from '../../../sdk/workflow.ts'
import { told, wrongArguments } from '../arguments.ts'
import { fieldsOf } from '../references.ts'
import { define } from './define.ts'
import type { WorkflowForm } from './document.ts'
import { expressionsIn, resultNamed } from './expression.ts'
import { needsOf } from './needs.ts'
import { below } from './pointer.ts'
import { type ProgramTask, programOf, unknownAction } from './program.ts'
import { type Reader, unknownName } from './reader.ts'
import { allTasks, type ScopeForm, type TaskForm } from './tasks.ts'

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
  const actions = new Map([...allTasks(form)].flatMap((task) => actionOf(task, form, nameable) ?? []))
  if (reader.count > 0 || needs === undefined || name === undefined) return { faults: inOrder(reader.faults) }
  const made = workflow(name, {
    params: form.params,
    plans: form.plans,
    ...form.options,
    define: ({ params }) =>
      define(form, needs, { params, items: new Map(), refs: new Map() }, { places: reader.places, actions }),
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
): [TaskForm, ProgramTask][] | undefined {
  const { kind, target, pointer } = task
  if (kind === 'run') {
    const at = below(pointer, 'run')
    if (!workflows.has(target)) reader.fault(at, () => unknownName('there is no workflow', target, workflows))
    return undefined
  }
  if (kind !== 'action') return undefined
  if (target === 'program') {
    const program = programOf(task, reader)
    return program && [[task, program]]
  }
  const action = actions.get(target)
  const at = below(pointer, 'action')
  if (action === undefined) return reader.fault(at, () => unknownAction(target, actions.keys()))
  if (typeof action === 'string') return reader.fault(at, action)
  return [[task, { action, args: task.args }]]
}

/** What the graph shows: arguments that do not fit, fields that no result has. */
function checkArguments(form: WorkflowForm, made: Workflow): void {
  const { reader } = form
  try {
    const graph = graphOf(made)
    checkScope(form, made.name, { graph, inner: graph.inner, around: new Map(), reader })
  } catch (thrown) {
    if (!(thrown instanceof SluiceError)) throw thrown
    const [fault] = thrown.faults
    if (fault) reader.add(fault)
    else reader.fault('/workflow', messageOf(thrown))
  }
}

/** The fields of results, by the ids of tasks; undefined where anything may be in them. */
type Results = ReadonlyMap<string, ReadonlySet<string> | undefined>

interface Checking {
  readonly graph: GraphDefinition
  /** The graphs of bodies, by their names. */
  readonly inner: GraphDefinition['inner']
  readonly around: Results
  readonly reader: Reader
}

function checkScope(scope: ScopeForm, name: string, { graph, inner, around, reader }: Checking): void {
  const pointers = new Map(scope.tasks.map((task) => [task.id, task.pointer]))
  for (const wrong of wrongArguments(graph.nodes)) {
    const at = below(pointers.get(wrong.node.id) ?? '', 'with', ...wrong.path)
    reader.fault(at, told(wrong), wrong.message.startsWith('there is no') ? 'key' : 'value')
  }
  const results: Results = new Map([
    ...around,
    ...graph.nodes.map(
      ({ id, action, over }) => [id, over === undefined ? fieldsOf(action?.options.output) : undefined] as const,
    ),
  ])
  const all = [...scope.tasks.flatMap(({ args, over, limits }) => [args, over, limits.key]), scope.result]
  for (const { path, pointer } of expressionsIn(all)) {
    const found = path[0] === 'tasks' ? resultNamed(path, (id) => results.has(id)) : undefined
    const [field] = found?.path ?? []
    const known = found && results.get(found.id)
    if (field !== undefined && known !== undefined && !known.has(field))
      reader.fault(pointer, () => unknownName(`the result of ${found?.id} has no field`, field, known))
  }
  for (const { body, id } of scope.tasks) {
    const within = inner.get(`${name}.${id}`)
    if (body && within) checkScope(body, `${name}.${id}`, { graph: within, inner, around: results, reader })
  }
}
