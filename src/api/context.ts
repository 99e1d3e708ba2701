import { isUuid } from '../core/ids.ts'
import type { WorkflowManifest } from '../core/manifest.ts'
import { SluiceError } from '../errors.ts'
import { z } from '../sdk/schema.ts'
import { findRun, type RunDetail } from '../store/reading/runs.ts'
import { readPinnedWorkflow } from '../store/reading/workflows.ts'
import { parseDuration } from '../time.ts'
import { longestWaitMs } from './http-limits.ts'
import type { ApiParts } from './parts.ts'
import type { Tails } from './tails.ts'

/** What the platform's routes work with. */
export interface ApiContext extends ApiParts {
  readonly tails: Tails
  /** The workflow as a run's version defines it; undefined when that version does not have it. */
  pinned(version: string, workflow: string): Promise<WorkflowManifest | undefined>
}

const mostPinned = 64

export function openContext(parts: ApiParts, tails: Tails): ApiContext {
  // Versions never change, so what was read stays right; the oldest are forgotten.
  const known = new Map<string, Promise<WorkflowManifest | undefined>>()
  const pinned = (version: string, workflow: string) => {
    const key = `${version} ${workflow}`
    const found = known.get(key) ?? readPinnedWorkflow(parts.db, version, workflow)
    known.delete(key)
    known.set(key, found)
    found.catch(() => known.delete(key))
    const [oldest] = known.keys()
    if (known.size > mostPinned && oldest !== undefined) known.delete(oldest)
    return found
  }
  return { ...parts, tails, pinned }
}

/** @throws SluiceError NOT_FOUND, also for what is no id. */
export async function runOf({ db }: Pick<ApiContext, 'db'>, id: string): Promise<RunDetail> {
  const run = isUuid(id) ? await findRun(db, id) : undefined
  if (!run) throw new SluiceError('NOT_FOUND', `There is no run ${JSON.stringify(id.slice(0, 80))}`)
  return run
}

/** `wait=20s`: how long to wait for news where there is none yet, in milliseconds; 30 s at most. */
export const waitQuery = z
  .string()
  .regex(/^[1-9]\d{0,4}(?:ms|s)$/, 'is a time such as 500ms or 20s')
  .transform((text) => parseDuration(text))
  .refine((ms) => ms <= longestWaitMs, `is at most ${longestWaitMs / 1000}s`)
  .optional()
  .meta({
    description: `Wait this long for news where there is none yet, such as 20s; at most ${longestWaitMs / 1000}s`,
    examples: ['20s'],
  })

/** Digits in either case name the same; nothing around them does. */
export const idParams = z.object({ id: z.string().max(200).toLowerCase().meta({ description: 'A UUID' }) })
