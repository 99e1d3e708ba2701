import type { Manifest } from '../../core/manifest.ts'
import type { ProjectConfig } from '../../sdk/config.ts'
import type { EvaluateOptions } from './evaluate.ts'

/** What a build gives. */
export interface Version {
  readonly manifest: Manifest
  /** Absolute. */
  readonly folder: string
  /** The project's settings, with defaults. */
  readonly project: Required<ProjectConfig>
  /** Every path that decided what it is, relative to the project, whether or not there is a file. */
  readonly inputs: readonly string[]
}

/** A build's options with the folders as they really are. */
export interface Settled extends EvaluateOptions {
  readonly projectDir: string
  readonly versions: string
  readonly lastGood?: string | undefined
}
