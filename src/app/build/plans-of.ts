/** The plans of a workflow as its manifest says them, checked against its parameters and what they name. */
import { type CatchUpPolicy, catchUpPolicies } from '../../core/catch-up.ts'
import type { WorkflowManifest } from '../../core/manifest.ts'
import { nearest } from '../../core/nearest.ts'
import { fillTemplate, fitParams, templateOf, tickOf } from '../../core/planned-params.ts'
import { nextTick, scheduleOf } from '../../core/schedule.ts'
import { type Fault, SluiceError } from '../../errors.ts'
import type { Plan, TopicRecordPlan } from '../../sdk/plan.ts'
import { type PlanTemplate, tickFields } from '../../sdk/plan-params.ts'

/** What is read of the JSON Schema of an object. */
export interface ObjectSchema {
  readonly type?: unknown
  readonly properties?: Readonly<Record<string, unknown>>
  readonly required?: readonly string[]
  readonly additionalProperties?: unknown
}

/** What plans may name, with the schemas of the records of topics. */
export interface Nameable {
  readonly topics: ReadonlyMap<string, ObjectSchema>
}

type Workflow = { readonly name: string; readonly params: ObjectSchema }

const maxPlans = 100

/** A plan is named by what it is unless its author named it, so that adding or moving one does not rename the others. */
export function describePlans(
  plans: readonly Plan[],
  workflow: Workflow,
  nameable: Nameable,
): WorkflowManifest['plans'] {
  if (plans.length > maxPlans) throw invalid(`it has ${plans.length} plans; at most ${maxPlans} are allowed`)
  const names = new Set<string>()
  const hooks = new Set<string>()
  return plans.map((plan) => {
    const name = plan.name ?? nameByKind(plan)
    checkPlan(plan, name, nameable)
    if (names.has(name)) throw invalid(`it has the plan ${name} twice; give one of them another name: { name: '...' }`)
    names.add(name)
    if (plan.kind === 'webhook' && hooks.has(plan.hook)) throw invalid(`it has two webhooks named ${plan.hook}`)
    if (plan.kind === 'webhook') hooks.add(plan.hook)
    checkParams(plan, name, workflow, nameable)
    return { ...plan, name }
  })
}

function nameByKind(plan: Plan): string {
  switch (plan.kind) {
    case 'cron':
      return `cron:${plan.pattern}@${plan.timezone}`
    case 'interval':
      return `every:${plan.every}${plan.start === undefined ? '' : `@${new Date(plan.start).toISOString()}`}`
    case 'file-arrival':
      return `file-arrival:${plan.glob}`
    case 'webhook':
      return `webhook:${plan.hook}`
    case 'topic-record':
      return `topic-record:${plan.topic}`
    case 'dataset-written':
      return `dataset-written:${plan.datasets.join(plan.when === 'all' ? '+' : '|')}`
    default:
      throw invalid(
        'a plan is what cron(...), every(...), fileArrival(...), webhook(...), topicRecord(...) or datasetWritten(...) gives',
      )
  }
}

function checkPlan(plan: Plan, name: string, { topics }: Nameable): void {
  if (plan.kind === 'cron' || plan.kind === 'interval') {
    scheduleOf(plan)
    if (!catchUpPolicies.includes(plan.catchUp as CatchUpPolicy)) {
      throw invalid(`catchUp of ${name} is ${JSON.stringify(plan.catchUp)}; allowed are all, last, none`)
    }
  }
  if (plan.kind === 'topic-record' && !topics.has(plan.topic)) {
    const meant = nearest(plan.topic, topics.keys())
    const advice = meant === undefined ? 'export it from a definition file' : `did you mean ${meant}?`
    throw invalid(`there is no topic ${JSON.stringify(plan.topic)}; ${advice}`)
  }
}

/** The event's fields by kind; of a topic also what its records hold. */
const eventFields = {
  'file-arrival': ['file'],
  webhook: ['body', 'delivery', 'time'],
  'topic-record': ['record', 'id', 'key', 'partition', 'offset'],
  batch: ['records', 'count'],
  'dataset-written': ['dataset', 'version', 'datasets'],
} as const

function checkParams(plan: Plan, name: string, workflow: Workflow, nameable: Nameable): void {
  const template = templateOf(plan)
  checkFields(plan, name, template)
  if (isEvent(template)) {
    if (plan.kind === 'topic-record') checkRecord(plan, name, workflow, nameable.topics.get(plan.topic) ?? {})
    return
  }
  const fields = template as Readonly<Record<string, PlanTemplate>>
  checkGiven(name, workflow, Object.keys(fields))
  if (plan.kind === 'cron' || plan.kind === 'interval') {
    const schedule = scheduleOf(plan)
    const sample = nextTick(schedule, Date.UTC(2026)) ?? Date.UTC(2026)
    checkFit(name, workflow, fillTemplate(template, { tick: tickOf(schedule, sample) }))
  } else checkFixed(name, workflow, fields)
}

/** A whole event in the place of parameters. */
const isEvent = (template: PlanTemplate): boolean =>
  typeof template === 'object' && template !== null && '$event' in template

/** @throws SluiceError DEFINITION_INVALID where it speaks of a tick or an event that a plan of this kind does not have. */
function checkFields(plan: Plan, name: string, template: PlanTemplate): void {
  if (template === null || typeof template !== 'object') return
  if ('$tick' in template) {
    const clocked = plan.kind === 'cron' || plan.kind === 'interval'
    const known = (tickFields as readonly unknown[]).includes(template.$tick)
    if (!clocked) throw invalid(`params of ${name} speak of a tick, and it has none; use event`)
    if (!known) throw invalid(`params of ${name} speak of tick.${template.$tick}; there are ${tickFields.join(', ')}`)
    return
  }
  if ('$event' in template) {
    if (plan.kind === 'cron' || plan.kind === 'interval') {
      throw invalid(`params of ${name} speak of an event, and it has none; use tick`)
    }
    const fields: readonly string[] = eventFields[plan.kind === 'topic-record' && plan.batch ? 'batch' : plan.kind]
    const [field] = template.$event as readonly string[]
    if (field === undefined || fields.includes(field)) return
    const meant = nearest(field, fields)
    throw invalid(
      `params of ${name} speak of event.${field}; ${meant === undefined ? `there are ${fields.join(', ')}` : `did you mean event.${meant}?`}`,
    )
  }
  const inner = '$literal' in template ? template.$literal : template
  for (const field of Object.values(inner as object)) checkFields(plan, name, field as PlanTemplate)
}

function checkFit(name: string, workflow: Workflow, given: unknown): void {
  const fit = fitParams(workflow, given)
  if ('params' in fit) return
  const told = fit.faults.map(({ where, message }) => `${where} ${message}`).join('; ')
  throw invalid(`${name} starts it with parameters that do not fit: ${told}`, fit.faults)
}

/** Which parameters a plan fills is known, whatever their values will be. */
function checkGiven(name: string, workflow: Workflow, given: readonly string[]): void {
  checkNames(name, workflow, given)
  const lacking = (workflow.params.required ?? []).filter((field) => !given.includes(field))
  if (lacking.length > 0) {
    throw invalid(
      `${name} starts it ${given.length === 0 ? 'without parameters' : `with the parameter ${given.join(', ')}`}, and ${lacking.join(', ')} has no default`,
    )
  }
}

/** What an event will bring is not known yet; the values of all other parameters are. */
function checkFixed(name: string, workflow: Workflow, template: Readonly<Record<string, PlanTemplate>>): void {
  const { properties = {} } = workflow.params
  const known = Object.keys(template).filter(
    (field) => Object.hasOwn(properties, field) && !speaksOfEvent(template[field]!),
  )
  const schema = { type: 'object', properties: Object.fromEntries(known.map((field) => [field, properties[field]])) }
  checkFit(
    name,
    { name: workflow.name, params: schema },
    fillTemplate(Object.fromEntries(known.map((field) => [field, template[field]!])), {}),
  )
}

function checkNames(name: string, { params }: Workflow, given: readonly string[]): void {
  if (params.additionalProperties || !params.properties) return
  const unknown = given.find((field) => !Object.hasOwn(params.properties!, field))
  if (unknown === undefined) return
  const meant = nearest(unknown, Object.keys(params.properties))
  throw invalid(
    `${name} starts it with the parameter ${unknown}, which its params do not have${meant === undefined ? '' : `; did you mean ${meant}?`}`,
  )
}

const speaksOfEvent = (template: unknown): boolean =>
  typeof template === 'object' &&
  template !== null &&
  ('$event' in template || Object.values(template).some(speaksOfEvent))

/** A record is the parameters: what a run needs must be in every record. */
function checkRecord(plan: TopicRecordPlan, name: string, workflow: Workflow, record: ObjectSchema): void {
  if (record.type !== 'object') return
  const lacking = (workflow.params.required ?? []).filter((field) => !Object.hasOwn(record.properties ?? {}, field))
  if (lacking.length > 0 && !record.additionalProperties) {
    throw invalid(`${name} starts it with a record of ${plan.topic}, and that has no ${lacking.join(', ')}`)
  }
  checkNames(name, workflow, Object.keys(record.properties ?? {}))
}

function invalid(message: string, faults: readonly Fault[] = []): SluiceError {
  return new SluiceError('DEFINITION_INVALID', message, { faults })
}
