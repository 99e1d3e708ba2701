/** Which versions of datasets start runs. Versions that the workflow's own runs wrote are passed: they start nothing. */
import type { DatasetWrittenPlan } from '../sdk/plan.ts'

export interface WrittenVersion {
  readonly dataset: string
  readonly version: number
  /** When it was committed, in milliseconds since the epoch. */
  readonly at: number
  /** Whose run wrote it; null where no run did. */
  readonly workflow: string | null
}

export interface DatasetStart {
  /** What it takes: one version (`any`), or the newest of each dataset (`all`). */
  readonly versions: readonly WrittenVersion[]
}

export interface DatasetStarts {
  readonly starts: readonly DatasetStart[]
  /** The last version that is done with, of each dataset where that changes. */
  readonly cursors: ReadonlyMap<string, number>
}

/** Whether each version starts a run of its own. */
export const isEach = (plan: Pick<DatasetWrittenPlan, 'datasets' | 'when'>): boolean =>
  plan.when === 'any' || plan.datasets.length === 1

/** @param written versions that are past the plan's cursors. */
export function datasetStarts(
  plan: Pick<DatasetWrittenPlan, 'datasets' | 'when'>,
  workflow: string,
  written: readonly WrittenVersion[],
): DatasetStarts {
  const foreign = written.filter((version) => version.workflow !== workflow)
  const newest = new Map<string, number>()
  for (const { dataset, version } of written) newest.set(dataset, Math.max(version, newest.get(dataset) ?? 0))
  if (isEach(plan)) {
    return { starts: foreign.map((version) => ({ versions: [version] })), cursors: newest }
  }
  const latest = new Map<string, WrittenVersion>()
  for (const one of foreign) if (one.version > (latest.get(one.dataset)?.version ?? 0)) latest.set(one.dataset, one)
  const versions = plan.datasets.flatMap((dataset) => latest.get(dataset) ?? [])
  if (versions.length === plan.datasets.length) return { starts: [{ versions }], cursors: newest }
  // What waits for the others keeps its place; a dataset with nothing but versions of our own goes on.
  return { starts: [], cursors: new Map([...newest].filter(([dataset]) => !latest.has(dataset))) }
}
