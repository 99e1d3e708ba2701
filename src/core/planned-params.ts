/** What a run that a plan starts is given: the plan's own parameters, filled in from the tick or event, and defaults. */
import { type Fault, SluiceError } from '../errors.ts'
import type { Plan } from '../sdk/plan.ts'
import type { PlanTemplate, TickFieldName } from '../sdk/plan-params.ts'
import { type Schema, z } from '../sdk/schema.ts'
import { faultsOf, unfitPart } from './input-faults.ts'
import { localTime } from './local-time.ts'
import type { WorkflowManifest } from './manifest.ts'
import { previousTick, type Schedule } from './schedule.ts'
import { follow } from './template.ts'

/** The values that a template's fields stand for. */
export interface Occasion {
  readonly tick?: (field: TickFieldName) => string
  readonly event?: Readonly<Record<string, unknown>>
}

/** Parameters as JSON text, or why they are none of the workflow's. */
export type Fit = { readonly params: string } | { readonly faults: readonly Fault[] }

type Workflow = Pick<WorkflowManifest, 'name' | 'params'>

/** Checks parameters and fills in defaults. */
export function fitParams(workflow: Workflow, given: unknown): Fit {
  const unfit = unfitPart(given, '/params')
  if (unfit) return { faults: [unfit] }
  const checked = paramsSchema(workflow).safeParse(given)
  return checked.success ? { params: JSON.stringify(checked.data) } : { faults: faultsOf(checked.error, '/params') }
}

const compiled = new WeakMap<object, Schema>()

/** Fields that the schema does not know are refused: they are misspelt ones of those it does. */
export function paramsSchema({ name, params }: Workflow): Schema {
  const known = compiled.get(params)
  if (known) return known
  try {
    const schema = z.fromJSONSchema({ additionalProperties: false, ...params } as Parameters<
      typeof z.fromJSONSchema
    >[0])
    compiled.set(params, schema)
    return schema
  } catch (cause) {
    throw new SluiceError('DEFINITION_INVALID', `The schema of the parameters of ${name} cannot be used`, { cause })
  }
}

/** What the runs of a plan get whose author says nothing of it. */
export function templateOf(plan: Plan): PlanTemplate {
  if (plan.params !== undefined) return plan.params
  if (plan.kind === 'file-arrival') return { file: { $event: ['file'] } }
  if (plan.kind === 'webhook') return { $event: ['body'] }
  if (plan.kind === 'topic-record') return plan.batch ? { records: { $event: ['records'] } } : { $event: ['record'] }
  return {}
}

/** The value of a template; a field that the event does not have is left out of objects and is null in lists. */
export function fillTemplate(template: PlanTemplate, occasion: Occasion): unknown {
  if (template === null || typeof template !== 'object') return template
  if (Array.isArray(template)) {
    return (template as readonly PlanTemplate[]).map((item) => fillTemplate(item, occasion) ?? null)
  }
  const object = template as { readonly [key: string]: PlanTemplate }
  if ('$tick' in object) return occasion.tick?.(object.$tick as unknown as TickFieldName)
  if ('$event' in object) return follow(occasion.event, object.$event as unknown as readonly string[])
  const fields = '$literal' in object ? (object.$literal as { readonly [key: string]: PlanTemplate }) : object
  return Object.fromEntries(Object.entries(fields).map(([key, field]) => [key, fillTemplate(field, occasion)]))
}

/** The fields of a tick (see sdk/plan-params.ts). The first tick of all begins one interval before, or with itself. */
export function tickOf(schedule: Schedule, at: number): (field: TickFieldName) => string {
  const zone = 'zone' in schedule ? schedule.zone : 'UTC'
  const start = () => previousTick(schedule, at) ?? ('everyMs' in schedule ? at - schedule.everyMs : at)
  const values: Readonly<Record<TickFieldName, () => string>> = {
    time: () => new Date(at).toISOString(),
    end: () => new Date(at).toISOString(),
    start: () => new Date(start()).toISOString(),
    date: () => localDate(zone, at),
    startDate: () => localDate(zone, start()),
  }
  return (field) => values[field]()
}

function localDate(zone: string, at: number): string {
  return new Date(at + localTime(zone).stretchAt(at).offset).toISOString().slice(0, 10)
}
