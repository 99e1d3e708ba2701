import type { WorkflowManifest } from '../core/manifest.ts'
import { paramsSchema } from '../core/planned-params.ts'
import { SluiceError } from '../errors.ts'
import { faultsOf, invalid } from './faults.ts'
import type { ApiParts, StartedRun } from './parts.ts'

/** @throws SluiceError NOT_FOUND */
export function workflowOf({ manifest }: Pick<ApiParts, 'manifest'>, name: string): WorkflowManifest {
  const found = manifest().workflows.find((workflow) => workflow.name === name)
  // The body of an `each` is started by its workflow alone.
  if (found && !found.inner) return found
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
  return parts.startRun(workflow, checked.data, options)
}
