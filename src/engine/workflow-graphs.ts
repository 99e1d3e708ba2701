/** The compiled workflows of versions, as runs need them. The last 32 versions that were asked for are kept. */
import { compileGraph, type Graph } from '../core/graph.ts'
import type { Manifest, WorkflowManifest } from '../core/manifest.ts'
import { SluiceError } from '../errors.ts'
import type { Session } from '../ports/database.ts'
import { readVersion } from '../store/versions.ts'

export interface CompiledWorkflow {
  readonly workflow: WorkflowManifest
  readonly graph: Graph
}

const kept = 32

export class WorkflowGraphs {
  private readonly versions = new Map<string, Promise<Map<string, CompiledWorkflow>>>()
  private readonly db: Session

  constructor(db: Session) {
    this.db = db
  }

  /** @throws SluiceError NOT_FOUND when there is no such version, or it has no such workflow. */
  async of(version: string, workflow: string): Promise<CompiledWorkflow> {
    const found = (await this.read(version)).get(workflow)
    if (!found) throw new SluiceError('NOT_FOUND', `version ${version} has no workflow ${workflow}`)
    return found
  }

  private read(version: string) {
    let found = this.versions.get(version)
    if (!found) {
      found = readVersion(this.db, version).then((manifest) => compileAll(version, manifest))
      found.catch(() => this.versions.delete(version))
      this.versions.set(version, found)
      if (this.versions.size > kept) this.versions.delete(this.versions.keys().next().value!)
    }
    return found
  }
}

function compileAll(version: string, manifest: Manifest | undefined) {
  if (!manifest) throw new SluiceError('NOT_FOUND', `version ${version} is not stored`)
  return new Map(manifest.workflows.map((workflow) => [workflow.name, { workflow, graph: compileGraph(workflow) }]))
}
