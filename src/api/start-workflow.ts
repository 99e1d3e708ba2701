import type { WorkflowManifest } from '../core/manifest.ts'
import { SluiceError } from '../errors.ts'
import { type Schema, z } from '../sdk/schema.ts'
import { faultsOf, invalid } from './faults.ts'
import type { ApiParts, StartedRun } from './parts.ts'

/** @throws SluiceError NOT_FOUND */
export function workflowOf({ manifest }: Pick<ApiParts, 'manifest'>, name: string): WorkflowManifest {
  const found = manifest().workflows.find((workflow) => workflow.name === name)
  if (found) return found
  const fault = manifest().faults.length > 0 ? '; some definition files have faults, see /api/v1/workflows' : ''
  throw new SluiceError('NOT_FOUND', `There is no workflow ${JSON.stringify(name.slice(0, 80))}${fault}`)
}

/**
 * Starts a run with parameters that fit the workflow; what has a default may be left out.
 * @throws SluiceError NOT_FOUND, INVALID_INPUT (each field named), IDEMPOTENCY_KEY_REUSED
 */
export function startWorkflow(
  parts: Pick<ApiParts, 'manifest' | 'startRun'>,
  name: string,
  params: unknown,
  options: { readonly idempotencyKey?: string },
): Promise<StartedRun> {
  const workflow = workflowOf(parts, name)
  const checked = paramsSchema(workflow).safeParse(params)
  if (!checked.success) throw invalid(faultsOf(checked.error, '/body/params'))
  return parts.startRun(name, checked.data, options)
}

const compiled = new WeakMap<object, Schema>()

/** Fields that the schema does not know are refused: they are misspelt ones of those it does. */
function paramsSchema({ name, params }: WorkflowManifest): Schema {
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
