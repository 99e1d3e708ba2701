/** What the API is made of; given to it by the composition. */
import type { Manifest, WorkflowManifest } from '../core/manifest.ts'
import type { Database } from '../ports/database.ts'
import type { IngestPoint } from '../ports/ingest.ts'
import type { Capabilities, Log } from '../sdk/context.ts'
import type { Endpoint } from '../sdk/endpoint.ts'
import type { Metrics } from '../sdk/metrics.ts'
import type { Clock } from '../time.ts'
import type { HttpLimits } from './http-limits.ts'

/** One thing that must work before the server is ready. */
export interface Check {
  readonly name: string
  readonly ok: boolean
  readonly detail: string
}

export interface StartedRun {
  readonly runId: string
  /** False: the idempotency key gave the run of an earlier call. */
  readonly created: boolean
}

export type Identity = { readonly recordId: string; readonly key: string | null } | { readonly fault: string }

export interface ApiParts {
  /** A pool of the API's own, with a time limit on statements, so that reading cannot starve running. */
  readonly db: Database
  /** What takes new work now. */
  manifest(): Manifest
  /** What definition files contribute, with the file that each came from. */
  readonly endpoints: readonly { readonly endpoint: Endpoint; readonly file: string }[]
  /** Streams that are fed by HTTP, with the file that each came from. */
  readonly ingest?: readonly { readonly point: IngestPoint; readonly file: string }[]
  /** What definition files add to `/metrics`. */
  readonly metrics?: readonly Metrics[]
  capabilities(signal: AbortSignal): Capabilities
  /**
   * Inserts a run and tells the engines. `params` fits the schema of the workflow.
   * @throws SluiceError IDEMPOTENCY_KEY_REUSED when the key was used for another workflow or other parameters.
   */
  startRun(
    workflow: WorkflowManifest,
    params: unknown,
    options: { readonly idempotencyKey?: string },
  ): Promise<StartedRun>
  /**
   * What a stream makes of a value (JSON text): its identity and key, or why it does not take it; undefined when this
   * process does not have that stream.
   */
  identify(stream: string, value: string): Identity | undefined
  /**
   * Where topics do not lie in the database: by partition, the first offset that is kept of one.
   * @throws SluiceError UNAVAILABLE when it cannot be asked for.
   */
  keptFrom?(topic: string): Promise<readonly number[]>
  /** Checks of other parts, besides the API's own of database, engine, shards and definitions. */
  ready?(): Promise<readonly Check[]>
  readonly clock: Clock
  /** From 0 to 1; ids of runs are made of it. */
  readonly random: () => number
  /** Of the platform, as `sluice version` prints it. */
  readonly version: string
  /** Hosts besides this machine's names that Host and Origin may name: `name` or `name:port`. */
  readonly allowedHosts: readonly string[]
  /** Where errors of ours are told, with the id that the caller got. */
  readonly log: Log
  readonly limits?: Partial<HttpLimits>
}
