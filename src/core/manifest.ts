/**
 * What `build` learns from the definition files: everything the engine and the API need to know without running any of
 * the author's code. It is JSON, stored under its content hash.
 */
import type { Fault } from '../errors.ts'
import type { TriggerRule } from '../sdk/graph-builder.ts'
import type { Plan } from '../sdk/plan.ts'
import type { Template } from '../sdk/reference.ts'
import type { RetryPolicy } from './retry.ts'

export interface NodeManifest {
  readonly id: string
  readonly action: string
  readonly args: Template
  /** Present on mapped nodes: the list. */
  readonly over?: Template
  readonly upstream: readonly number[]
  /** Index into `stages`. */
  readonly stage?: number
  readonly rule: TriggerRule
  readonly retry: RetryPolicy
  readonly timeoutMs: number
  readonly isolation: 'shared' | 'process'
}

export interface WorkflowManifest {
  readonly name: string
  readonly file: string
  /** JSON Schema of the parameters. */
  readonly params: object
  readonly plans: readonly (Plan & { readonly name: string })[]
  readonly workers?: number
  readonly stages: readonly string[]
  readonly nodes: readonly NodeManifest[]
}

export interface TopicManifest {
  readonly name: string
  readonly partitions: number
  readonly schema: object
}

export interface StreamManifest {
  readonly name: string
  readonly file: string
  readonly topic: string
  readonly steps: readonly string[]
  /** Only the first record of a key goes through the steps, at least for some records. */
  readonly distinct?: boolean
  readonly sink: { readonly kind: 'documents'; readonly collection: string; readonly key: string }
}

export interface EndpointManifest {
  readonly method: string
  readonly path: string
  readonly file: string
  readonly summary: string
  readonly auth: 'open' | 'users'
}

export interface CommandManifest {
  readonly name: string
  readonly file: string
  readonly summary: string
  readonly args: readonly string[]
  /** JSON Schema of the options, an object. */
  readonly options: object
}

export interface Manifest {
  readonly format: 1
  /** sha256 over code, lock file and architecture, in hex. */
  readonly hash: string
  /** Bundle files (relative to the version's folder) that hold the definitions, one per definition file. */
  readonly entries: readonly { readonly file: string; readonly module: string }[]
  readonly workflows: readonly WorkflowManifest[]
  readonly topics: readonly TopicManifest[]
  readonly streams: readonly StreamManifest[]
  readonly endpoints: readonly EndpointManifest[]
  readonly commands: readonly CommandManifest[]
  /** Files that could not be loaded, and definitions that are wrong: `where` is `file:line:column`. */
  readonly faults: readonly Fault[]
}
