import type { WorkflowManifest } from './manifest.ts'

/** The parameters of a run that a plan starts, as JSON text: what the plan gives, and the defaults of everything else. */
export function plannedParams({ params }: Pick<WorkflowManifest, 'params'>, given: object = {}): string {
  const { properties = {} } = params as { properties?: Readonly<Record<string, { default?: unknown }>> }
  const defaults = Object.entries(properties).flatMap(([name, schema]) =>
    schema.default === undefined ? [] : [[name, schema.default] as const],
  )
  return JSON.stringify({ ...Object.fromEntries(defaults), ...given })
}
