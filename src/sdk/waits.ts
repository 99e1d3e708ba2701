/** What a run waits for without a runner: times, people, other workflows. */
import { SluiceError } from '../errors.ts'
import { type Duration, parseDuration } from '../time.ts'
import { type CallOptions, placeNode } from './graph-builder.ts'
import type { Args, Ref } from './reference.ts'
import { type Schema, z } from './schema.ts'
import type { Workflow } from './workflow.ts'

type WaitOptions = Pick<CallOptions, 'id' | 'after' | 'rule'>

export const wait = {
  /** Until a time: RFC 3339 or milliseconds since the epoch; one that has passed is no wait. */
  until(time: Ref<string> | Ref<number> | string | number | Date, options: WaitOptions = {}): Ref<{ at: string }> {
    const until = time instanceof Date ? time.toISOString() : time
    return placeNode({ kind: 'wait', target: 'wait', called: 'wait.until', args: { until } }, options) as never
  },
  /** For so long, counted from when the tasks before it have ended. */
  for(duration: Duration, options: WaitOptions = {}): Ref<{ at: string }> {
    const forMs = parseDuration(duration)
    return placeNode({ kind: 'wait', target: 'wait', called: 'wait.for', args: { forMs } }, options) as never
  },
}

export interface ApprovalOptions<Form, Shown> extends Pick<CallOptions, 'id' | 'after' | 'rule'> {
  /** What is filled in with the answer, a `z.object`. Default: nothing. */
  readonly form?: Schema<Form>
  /** What is shown to whoever answers; up to 64 KiB as JSON. */
  readonly show?: Shown
  /** Counted from when it is asked. Default: it waits without end. */
  readonly deadline?: Duration
  /** What an approval is that nobody answered before its deadline. Default `fail`. */
  readonly onDeadline?: 'fail' | 'skip' | 'approve'
  /** What a refused one is. Default `skip`: what is behind it is skipped. */
  readonly onRefuse?: 'skip' | 'fail'
}

/** What an approval gives: who gave it, when, and what was filled in. `by` is null when its deadline approved it. */
export interface Approved<Form> {
  readonly approved: true
  readonly by: string | null
  readonly note: string | null
  readonly at: string
  readonly form: Form
}

/** Waits until a person answers, through the API, the command line or a page. @param title what is asked. */
export function approve<Form = null, Shown = unknown>(
  title: string,
  options: ApprovalOptions<Form, Shown> = {},
): Ref<Approved<Form>> {
  const { form, show = null, deadline, onDeadline = 'fail', onRefuse = 'skip', ...call } = options
  if (typeof title !== 'string' || title.trim() === '' || title.length > 200) {
    throw new SluiceError('DEFINITION_INVALID', 'the title of an approval is a text of 1 to 200 characters')
  }
  oneOf(`onDeadline of approval "${title}"`, onDeadline, ['fail', 'skip', 'approve'])
  oneOf(`onRefuse of approval "${title}"`, onRefuse, ['skip', 'fail'])
  const approval = {
    form: form === undefined ? undefined : formSchema(form, title),
    deadlineMs: deadline === undefined ? undefined : parseDuration(deadline),
    ...{ onDeadline, onRefuse },
  }
  const placed = { kind: 'approval', target: 'approval', called: `approval "${title}"`, args: { title, show } } as const
  return placeNode({ ...placed, approval }, { ...call, id: call.id ?? slugOf(title) }) as never
}

function formSchema(form: Schema, title: string): object {
  const schema = z.toJSONSchema(form, { unrepresentable: 'any', io: 'input' })
  if (schema.type === 'object') return schema
  throw new SluiceError('DEFINITION_INVALID', `the form of approval "${title}" must be a z.object: one field each`)
}

/** The id of an approval's task; undefined, so that it is numbered, when the title gives none. */
function slugOf(title: string): string | undefined {
  const slug = title
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^[^a-z]+|-+$/g, '')
    .slice(0, 60)
    .replace(/-+$/, '')
  return slug === '' ? undefined : slug
}

function oneOf(what: string, value: unknown, allowed: readonly string[]): void {
  if (allowed.includes(value as string)) return
  throw new SluiceError('DEFINITION_INVALID', `${what} is ${JSON.stringify(value)}; allowed are ${allowed.join(', ')}`)
}

interface RunWorkflow {
  /** Runs another workflow and waits for its end; gives what its `define` returns. A run that fails fails the task. */
  <Params, Output>(workflow: Workflow<Params, Output>, params: Args<Params>, options?: CallOptions): Ref<Output>
  /** One run per item of a list, up to 64 at once; the results keep the order of the list. */
  map<Item, Params, Output>(
    workflow: Workflow<Params, Output>,
    list: Ref<readonly Item[]> | Ref<Item[]> | readonly Item[],
    each: (item: Ref<Item>) => Args<Params>,
    options?: CallOptions,
  ): Ref<Output[]>
}

const place = (
  workflow: Workflow,
  more: { args: unknown; over?: unknown; each?: (item: never) => unknown },
  options?: CallOptions,
) => {
  if (workflow?.kind !== 'workflow') {
    throw new SluiceError('DEFINITION_INVALID', 'run(...) takes what workflow(...) gave')
  }
  return placeNode({ kind: 'workflow', target: workflow.name, called: `run of ${workflow.name}`, ...more }, options)
}

export const run: RunWorkflow = Object.assign(
  (workflow: Workflow, params: unknown, options?: CallOptions) => place(workflow, { args: params }, options) as never,
  {
    map: (workflow: Workflow, list: unknown, each: (item: never) => unknown, options?: CallOptions) =>
      place(workflow, { args: {}, over: list, each }, options) as never,
  },
) as never
