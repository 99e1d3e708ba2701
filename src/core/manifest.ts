/**
 * What `build` learns from the definition files: everything the engine and the API need to know without running any of
 * the author's code. It is JSON, stored under its content hash.
 */
import type { Fault } from '../errors.ts'
import type { TriggerRule } from '../sdk/graph-builder.ts'
import type { Plan } from '../sdk/plan.ts'
import type { NodeLimits } from '../sdk/pool.ts'
import type { Template } from '../sdk/reference.ts'
import type { RetryPolicy } from './retry.ts'

/** What a node does. All but `action` are done by the engine alone, without a runner. */
export type NodeKind = 'action' | 'branch' | 'wait' | 'approval' | 'workflow'

export interface NodeManifest {
  readonly id: string
  /** Default `action`. */
  readonly kind?: NodeKind
  /** The name of the action; of the workflow that it runs; else the kind. */
  readonly action: string
  /** Of an action its arguments, of a workflow its parameters, of a branch its value, of a wait `WaitArgs`, of an approval what is shown. */
  readonly args: Template
  /** Present on mapped nodes: the list. */
  readonly over?: Template
  readonly upstream: readonly number[]
  /** Index into `stages`. */
  readonly stage?: number
  /** The groups it stands in, outermost first, joined by dots. */
  readonly group?: string
  readonly rule: TriggerRule
  /** It runs only when each of these branches has chosen this arm. */
  readonly arms?: readonly { readonly branch: number; readonly arm: string }[]
  /** Of a branch: what it can choose. */
  readonly choices?: readonly string[]
  /** The node whose good end it undoes: it runs whenever that one succeeded, also when the run is cancelled. */
  readonly teardownOf?: number
  readonly approval?: ApprovalManifest
  readonly retry: RetryPolicy
  /** Of one attempt. */
  readonly timeoutMs: number
  /** Of all attempts and waits together, from the first start on. */
  readonly withinMs?: number
  /** Higher ones start first; default 0. */
  readonly priority?: number
  readonly limits?: NodeLimits
  readonly isolation: 'shared' | 'process'
  /** sha256 of what determines its result, in hex; see `core/fingerprint.ts`. Of versions of before it is not known. */
  readonly fingerprint?: string
}

/** Either a time (RFC 3339 or milliseconds since the epoch) or milliseconds from when the node is reached. */
export type WaitArgs = { readonly until: string | number } | { readonly forMs: number }

export interface ApprovalManifest {
  /** JSON Schema of what is filled in; an object. */
  readonly form?: object
  /** From when it is asked for; default: it waits without end. */
  readonly deadlineMs?: number
  readonly onDeadline: 'fail' | 'skip' | 'approve'
  readonly onRefuse: 'skip' | 'fail'
}

export interface WorkflowManifest {
  readonly name: string
  readonly file: string
  readonly description?: string
  readonly tags?: readonly string[]
  /** JSON Schema of the parameters. */
  readonly params: object
  readonly plans: readonly (Plan & { readonly name: string })[]
  readonly workers?: number
  /** The time limit of a run, from its start. */
  readonly timeoutMs?: number
  /** Runs of it that may be running at once. */
  readonly maxActiveRuns?: number
  /** Of its runs; higher ones go first. Default 0. */
  readonly priority?: number
  /** It is the body of `each` in another workflow and is started by that one alone. */
  readonly inner?: boolean
  /** What its runs result in. */
  readonly output?: Template
  readonly stages: readonly string[]
  readonly nodes: readonly NodeManifest[]
  /** sha256 of what determines its results, in hex. */
  readonly fingerprint?: string
}

export interface TopicManifest {
  readonly name: string
  readonly partitions: number
  readonly schema: object
}

export interface StreamManifest {
  readonly name: string
  readonly file: string
  /** The name of its source. */
  readonly topic: string
  readonly source: SourceManifest
  readonly steps: readonly string[]
  /** Only the first record of a key goes through the steps, at least for some records. */
  readonly distinct?: boolean
  readonly sink: SinkManifest
}

export type SourceManifest =
  | { readonly kind: 'topic'; readonly name: string }
  | {
      readonly kind: 'timer'
      readonly name: string
      readonly shards: number
      readonly refreshMs: number
      /** Items per process at most. */
      readonly perProducer?: number
    }
  | {
      readonly kind: 'http'
      /** `POST /path`. */
      readonly name: string
      readonly paths: readonly string[]
      readonly auth: 'open' | 'users'
    }

export type SinkManifest =
  | { readonly kind: 'documents'; readonly collection: string; readonly key: string }
  | { readonly kind: 'topic'; readonly topic: string }
  | ({ readonly kind: 'table' } & TableManifest)

export interface TableManifest {
  /** `schema.table`. */
  readonly table: string
  /** Those that the rows fill, but for `recordId`. */
  readonly columns: readonly string[]
  readonly key: readonly string[]
  readonly onConflict: 'ignore' | 'update'
  /** The column that keeps the id of the record. */
  readonly recordId?: string
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
  readonly entries: readonly EntryManifest[]
  readonly workflows: readonly WorkflowManifest[]
  readonly topics: readonly TopicManifest[]
  readonly streams: readonly StreamManifest[]
  readonly endpoints: readonly EndpointManifest[]
  readonly commands: readonly CommandManifest[]
  /** Files that could not be loaded, and definitions that are wrong: `where` is `file:line:column`. */
  readonly faults: readonly Fault[]
  /** Files that have faults now and are deployed as they were in an earlier version. */
  readonly kept?: readonly KeptFile[]
}

export interface EntryManifest {
  readonly file: string
  readonly module: string
  /** The hash of the version in which the file was last good, when it is not now: this is its code of then. */
  readonly from?: string
}

export interface KeptFile {
  readonly file: string
  /** The hash of the version in which it was last good. */
  readonly version: string
  readonly faults: readonly Fault[]
  /** When it was first deployed so, RFC 3339; of a manifest that is deployed. */
  readonly since?: string
}
