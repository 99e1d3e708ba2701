/**
 * The manifest of a project: what its definitions say, checked, as JSON. Runs where authors' code may run (it calls
 * `define` and asks schemas), never in the engine. A wrong definition is left out and reported; the others stand.
 */
import type {
  CommandManifest,
  EndpointManifest,
  Manifest,
  NodeManifest,
  StreamManifest,
  TopicManifest,
  WorkflowManifest,
} from '../../core/manifest.ts'
import { policyOf, type RetryPolicy } from '../../core/retry.ts'
import { parseCron } from '../../core/schedule.ts'
import { type Fault, messageOf, SluiceError } from '../../errors.ts'
import type { RetryOptions } from '../../sdk/action-definition.ts'
import type { Command } from '../../sdk/command.ts'
import type { Endpoint } from '../../sdk/endpoint.ts'
import type { NodeDefinition } from '../../sdk/graph-builder.ts'
import type { Plan } from '../../sdk/plan.ts'
import { type Schema, z } from '../../sdk/schema.ts'
import type { Stream } from '../../sdk/stream.ts'
import type { Topic } from '../../sdk/topic.ts'
import type { Workflow } from '../../sdk/workflow.ts'
import { parseDuration } from '../../time.ts'
import { type Definition, type Definitions, type Kind, nameOf } from '../definitions.ts'
import { danglingReference } from './references.ts'

/** Where things stand in the author's files, as `file:line:column`. */
export interface Places {
  /** Where the definition is written. */
  ofDefinition(kind: Kind, name: string, file: string): string
  /** Where in the author's files something was thrown, if its stack goes through them. */
  ofThrown(thrown: unknown): string | undefined
}

export type Described = Pick<Manifest, 'workflows' | 'topics' | 'streams' | 'endpoints' | 'commands' | 'faults'>

/** Commands of Sluice itself: the first word of an app's command can be none of them. */
export const ownCommands = [
  'dev',
  'serve',
  'run',
  'runs',
  'show',
  'logs',
  'cancel',
  'streams',
  'dead-letters',
  'backup',
  'restore',
  'check',
  'doctor',
  'migrate',
  'build',
  'stop',
  'version',
  'help',
] as const

/** The platform's own HTTP paths, and what lies below them. */
const ownPaths =
  /^\/(healthz|readyz|metrics|docs|openapi\.json|api\/v1\/(workflows|runs|tasks|plans|streams|logs|events|query))(\/|$)/

const maxPlans = 100
const maxSteps = 100

export function manifestOf(definitions: Definitions, places: Places): Described {
  const faults: Fault[] = definitions.refused.map(({ kind, name, file, message }) => ({
    where: places.ofDefinition(kind, name, file),
    message,
  }))
  const describeAll = <From extends Definition, To>(
    all: ReadonlyMap<string, From>,
    describe: (one: From) => To,
  ): To[] =>
    [...all.values()].flatMap((definition) => {
      try {
        return [describe(definition)]
      } catch (thrown) {
        const name = nameOf(definition)
        const where =
          places.ofThrown(thrown) ?? places.ofDefinition(definition.kind, name, definitions.fileOf(definition))
        faults.push({ where, message: `${definition.kind} ${name}: ${messageOf(thrown)}` })
        return []
      }
    })
  const topics = describeAll(definitions.topics, describeTopic)
  const known = new Set(topics.map(({ name }) => name))
  return {
    topics,
    workflows: describeAll(definitions.workflows, (one) => describeWorkflow(one, definitions)),
    streams: describeAll(definitions.streams, (one) => describeStream(one, definitions, known)),
    endpoints: describeAll(definitions.endpoints, (one) => describeEndpoint(one, definitions)),
    commands: describeAll(definitions.commands, (one) => describeCommand(one, definitions)),
    faults,
  }
}

function describeWorkflow(workflow: Workflow, definitions: Definitions): WorkflowManifest {
  const { nodes, stages } = definitions.graphOf(workflow.name)
  const params = jsonSchema(workflow.params, 'params')
  if (workflow.workers !== undefined) checkWhole('workers', workflow.workers, 1, 10_000)
  const dangling = danglingReference(nodes, workflow.params)
  if (dangling !== undefined) throw invalid(dangling)
  return {
    name: workflow.name,
    file: definitions.fileOf(workflow),
    params,
    plans: describePlans(workflow.plans, params),
    ...(workflow.workers === undefined ? {} : { workers: workflow.workers }),
    stages,
    nodes: nodes.map(describeNode),
  }
}

function describeNode(node: NodeDefinition): NodeManifest {
  const isolation = node.action.options.isolation ?? 'shared'
  if (isolation !== 'shared' && isolation !== 'process') {
    throw invalid(
      `isolation of action ${node.action.name} is ${JSON.stringify(isolation)}; allowed are shared, process`,
    )
  }
  if (typeof node.action.options.run !== 'function') throw invalid(`action ${node.action.name} has no run function`)
  return {
    id: node.id,
    action: node.action.name,
    args: node.args,
    ...(node.over === undefined ? {} : { over: node.over }),
    upstream: node.upstream,
    ...(node.stage === undefined ? {} : { stage: node.stage }),
    rule: node.rule,
    retry: checkedPolicy(node.retry, 1, `task ${node.id}`),
    timeoutMs: node.timeoutMs,
    isolation,
  }
}

/** A plan is named by what it is, so that adding or moving one does not rename the others. */
function describePlans(plans: readonly Plan[], params: ObjectSchema): WorkflowManifest['plans'] {
  if (plans.length > maxPlans) throw invalid(`it has ${plans.length} plans; at most ${maxPlans} are allowed`)
  const names = new Set<string>()
  return plans.map((plan) => {
    const name = planName(plan)
    checkPlan(plan, params, name)
    if (names.has(name)) throw invalid(`it has the plan ${name} twice`)
    names.add(name)
    return { ...plan, name }
  })
}

export function planName(plan: Plan): string {
  return plan.kind === 'cron' ? `cron:${plan.pattern}@${plan.timezone}` : `file-arrival:${plan.glob}`
}

function checkPlan(plan: Plan, params: ObjectSchema, name: string): void {
  const given = plan.kind === 'file-arrival' ? ['file'] : []
  if (plan.kind === 'cron') {
    parseCron(plan.pattern, plan.timezone)
    if (!['all', 'last', 'none'].includes(plan.catchUp)) {
      throw invalid(`catchUp of ${name} is ${JSON.stringify(plan.catchUp)}; allowed are all, last, none`)
    }
  } else if (plan.kind !== 'file-arrival') {
    throw invalid('a plan is what cron(...) or fileArrival(...) gives')
  }
  const lacking = (params.required ?? []).filter((field) => !given.includes(field))
  if (lacking.length > 0) {
    throw invalid(
      `${name} starts it ${given.length === 0 ? 'without parameters' : 'with the parameter file'}, and ${lacking.join(', ')} has no default`,
    )
  }
  const unknown = params.additionalProperties
    ? undefined
    : given.find((field) => params.properties && !(field in params.properties))
  if (unknown !== undefined)
    throw invalid(`${name} starts it with the parameter ${unknown}, which its params do not have`)
}

function describeTopic(topic: Topic): TopicManifest {
  checkWhole('partitions', topic.partitions, 1, 256)
  return { name: topic.name, partitions: topic.partitions, schema: jsonSchema(topic.schema, 'schema') }
}

function describeStream(stream: Stream, definitions: Definitions, topics: ReadonlySet<string>): StreamManifest {
  const { from, id, key, distinct, concurrency = {}, to, retry = {}, timeout } = stream.options
  if (from?.kind !== 'topic') throw invalid('from must be a topic')
  if (!topics.has(from.name)) throw invalid(`its topic ${from.name} is not valid`)
  if (definitions.topics.get(from.name) !== from) throw invalid(`its topic ${from.name} is not the one that others use`)
  if (typeof id !== 'function') throw invalid('id must be a function of the record')
  if (distinct !== undefined && distinct !== false && key === undefined) throw invalid('distinct needs key')
  if (to?.kind !== 'documents') throw invalid('to must be documents(...)')
  if (stream.steps.length > maxSteps)
    throw invalid(`it has ${stream.steps.length} steps; at most ${maxSteps} are allowed`)
  const total = concurrency.total ?? 64
  checkWhole('concurrency.total', total, 1, 4_096)
  if ((concurrency.per === undefined) !== (concurrency.each === undefined)) {
    throw invalid('concurrency.per and concurrency.each go together')
  }
  if (concurrency.each !== undefined) checkWhole('concurrency.each', concurrency.each, 1, total)
  checkedPolicy(retry, 5, 'the stream')
  if (timeout !== undefined) parseDuration(timeout)
  return {
    name: stream.name,
    file: definitions.fileOf(stream),
    topic: from.name,
    steps: stream.steps.map((step) => step.name),
    ...(distinct === undefined || distinct === false ? {} : { distinct: true }),
    sink: { kind: 'documents', collection: to.collection, key: to.key },
  }
}

function describeEndpoint(endpoint: Endpoint, definitions: Definitions): EndpointManifest {
  const { summary, auth = 'users', upload, handle } = endpoint.options
  if (ownPaths.test(endpoint.path)) throw invalid(`${endpoint.path} is a path of Sluice itself; choose another`)
  if (typeof handle !== 'function') throw invalid('handle must be a function')
  if (typeof summary !== 'string' || summary === '') throw invalid('summary must be a text')
  if (auth !== 'open' && auth !== 'users') throw invalid(`auth is ${JSON.stringify(auth)}; allowed are open, users`)
  if (upload) checkWhole('upload.maxBytes', upload.maxBytes, 1, Number.MAX_SAFE_INTEGER)
  return { method: endpoint.method, path: endpoint.path, file: definitions.fileOf(endpoint), summary, auth }
}

function describeCommand(command: Command, definitions: Definitions): CommandManifest {
  const { summary, args = [], options, run } = command.options
  const [first] = command.name.split(' ')
  if ((ownCommands as readonly string[]).includes(first as string))
    throw invalid(`${first} is a command of Sluice itself`)
  if (typeof run !== 'function') throw invalid('run must be a function')
  const wrong = args.find((arg) => !/^(\[[a-z][a-z-]*\]|[a-z][a-z-]*)$/i.test(arg))
  if (wrong !== undefined)
    throw invalid(
      `${JSON.stringify(wrong)} is not a name for an argument; use letters and -, in [ ] when it is optional`,
    )
  const schema = options === undefined ? { type: 'object', properties: {} } : jsonSchema(options, 'options')
  if (schema.type !== 'object') throw invalid('options must be a z.object: one option per field')
  return { name: command.name, file: definitions.fileOf(command), summary, args, options: schema }
}

interface ObjectSchema {
  readonly type?: unknown
  readonly properties?: Readonly<Record<string, unknown>>
  readonly required?: readonly string[]
  readonly additionalProperties?: unknown
}

function jsonSchema(schema: Schema, what: string): ObjectSchema {
  if (typeof schema !== 'object' || schema === null || !('_zod' in schema))
    throw invalid(`${what} must be a zod schema`)
  return z.toJSONSchema(schema, { unrepresentable: 'any', io: 'input' }) as ObjectSchema
}

function checkedPolicy(options: RetryOptions, attempts: number, whose: string): RetryPolicy {
  checkWhole(`retry.attempts of ${whose}`, options.attempts ?? attempts, 1, 100)
  return policyOf(options, attempts)
}

function checkWhole(what: string, value: unknown, from: number, to: number): void {
  if (Number.isInteger(value) && (value as number) >= from && (value as number) <= to) return
  throw invalid(`${what} is ${JSON.stringify(value)}; allowed are whole numbers from ${from} to ${to}`)
}

function invalid(message: string): SluiceError {
  return new SluiceError('DEFINITION_INVALID', message)
}
