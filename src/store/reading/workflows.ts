/** What is said of workflows beside their definitions, and the definition that a run is pinned to. */
import type { WorkflowManifest } from '../../core/manifest.ts'
import { type Session, statement } from '../../ports/database.ts'

const paused = statement<{ name: string }>('reading.paused_workflows', 'select name from sluice.workflows where paused')

export async function pausedWorkflows(session: Session): Promise<ReadonlySet<string>> {
  return new Set((await session.query(paused)).map((row) => row.name))
}

const pinned = statement<{ workflow: WorkflowManifest }>(
  'reading.pinned_workflow',
  `select w as workflow from sluice.versions v, json_array_elements(v.manifest -> 'workflows') as w
   where v.hash = $1 and w ->> 'name' = $2`,
)

/** The workflow as that version defines it. */
export async function readPinnedWorkflow(
  session: Session,
  version: string,
  workflow: string,
): Promise<WorkflowManifest | undefined> {
  return (await session.query(pinned, [version, workflow]))[0]?.workflow
}
