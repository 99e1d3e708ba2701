/** A workflow as a YAML document says it, read and checked as far as it can be without knowing any action. */
import type { z } from 'zod'
import { checkName } from '../../../sdk/name.ts'
import type { Plan } from '../../../sdk/plan.ts'
import { readParams } from './params.ts'
import { readPlans } from './plans.ts'
import type { Places } from './pointer.ts'
import { Reader } from './reader.ts'
import { readTasks, type ScopeForm } from './tasks.ts'

/** What the module of a YAML file exports. */
export interface YamlDocument {
  readonly kind: 'yaml'
  readonly document: unknown
}

export interface WorkflowForm extends ScopeForm {
  /** Undefined when there is none to be read. */
  readonly name: string | undefined
  readonly params: z.ZodObject
  readonly plans: readonly Plan[]
  readonly options: {
    readonly workers?: number
    readonly maxActiveRuns?: number
    readonly timeout?: string
    readonly priority?: number
    readonly description?: string
    readonly tags?: readonly string[]
  }
  /** Goes on with what only the other definitions tell. */
  readonly reader: Reader
}

const keys = [
  'workflow',
  'description',
  'tags',
  'params',
  'plans',
  'workers',
  'maxActiveRuns',
  'timeout',
  'priority',
  'pools',
  'rates',
  'stages',
  'tasks',
  'result',
]

export function isYamlDocument(value: unknown): value is YamlDocument {
  return typeof value === 'object' && value !== null && (value as { kind?: unknown }).kind === 'yaml'
}

function tagsOf(value: unknown, reader: Reader): string[] {
  return reader.texts(value, '/tags', 'tags').map(({ text, pointer }) => {
    reader.attempt(pointer, () => checkName('tag', text))
    return text
  })
}

export function readWorkflow(document: unknown, places: Places): WorkflowForm {
  const reader = new Reader(places)
  const fields = reader.fields(document, '', 'a workflow', keys) ?? {}
  const name = fields.workflow === undefined ? undefined : reader.text(fields.workflow, '/workflow', 'workflow')
  if (fields.workflow === undefined && reader.count === 0) reader.fault('', 'it has no name; write workflow: its-name')
  if (name !== undefined) reader.attempt('/workflow', () => checkName('workflow', name))
  const description =
    fields.description === undefined ? undefined : reader.text(fields.description, '/description', 'description')
  const tags = fields.tags === undefined ? undefined : tagsOf(fields.tags, reader)
  const whole = (key: 'workers' | 'maxActiveRuns' | 'priority', from: number, to: number) =>
    fields[key] === undefined ? undefined : reader.whole(fields[key], `/${key}`, key, from, to)
  const workers = whole('workers', 1, 10_000)
  const maxActiveRuns = whole('maxActiveRuns', 1, 100_000)
  const priority = whole('priority', -1_000, 1_000)
  const timeout = fields.timeout === undefined ? undefined : reader.duration(fields.timeout, '/timeout', 'timeout')
  return {
    name,
    params: readParams(fields.params, '/params', reader),
    plans: readPlans(fields.plans, '/plans', reader),
    options: {
      ...(workers === undefined ? {} : { workers }),
      ...(maxActiveRuns === undefined ? {} : { maxActiveRuns }),
      ...(timeout === undefined ? {} : { timeout }),
      ...(priority === undefined ? {} : { priority }),
      ...(description === undefined ? {} : { description }),
      ...(tags === undefined ? {} : { tags }),
    },
    ...readTasks(fields, reader),
    reader,
  }
}
