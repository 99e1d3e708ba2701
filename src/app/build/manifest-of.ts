/**
 * The manifest of a project: what its definitions say, checked, as JSON. Runs where authors' code may run (it calls
 * `define` and asks schemas), never in the engine. A wrong definition is left out and reported; the others stand.
 */
import { declaredLimits } from '../../core/limit-needs.ts'
import type { CommandManifest, EndpointManifest, Manifest, TopicManifest } from '../../core/manifest.ts'
import { type Fault, messageOf } from '../../errors.ts'
import type { Command } from '../../sdk/command.ts'
import type { Endpoint } from '../../sdk/endpoint.ts'
import type { Topic } from '../../sdk/topic.ts'
import { type Definition, type Definitions, type Kind, nameOf } from '../definitions.ts'
import { checkWhole, invalid, jsonSchema, ownPaths } from './checks.ts'
import { describeStream } from './streams-of.ts'
import { describeWorkflow } from './workflows-of.ts'

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
  'init',
  'dev',
  'serve',
  'run',
  'runs',
  'show',
  'plans',
  'backfill',
  'backfills',
  'test',
  'logs',
  'why',
  'pools',
  'cancel',
  'retry',
  'pause',
  'resume',
  'approvals',
  'approve',
  'streams',
  'dead-letters',
  'lineage',
  'reproduce',
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
  const workflows = describeAll(definitions.workflows, (one) => describeWorkflow(one, definitions, topics)).flat()
  for (const { workflow: name, message } of declaredLimits(workflows).differing) {
    const defined = definitions.workflows.get(name.split('.')[0]!)!
    const where = places.ofDefinition('workflow', defined.name, definitions.fileOf(defined))
    faults.push({ where, message: `workflow ${defined.name}: ${message}` })
  }
  return {
    topics,
    workflows,
    streams: describeAll(definitions.streams, (one) => describeStream(one, definitions, known)),
    endpoints: describeAll(definitions.endpoints, (one) => describeEndpoint(one, definitions)),
    commands: describeAll(definitions.commands, (one) => describeCommand(one, definitions)),
    faults,
  }
}

function describeTopic(topic: Topic): TopicManifest {
  checkWhole('partitions', topic.partitions, 1, 256)
  return { name: topic.name, partitions: topic.partitions, schema: jsonSchema(topic.schema, 'schema') }
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
