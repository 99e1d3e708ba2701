/** What a simulated world is made of. */
import type { ConnectionClient, ConnectionKind } from '../sdk/connection.ts'

/** What `workflow(...)`, `topic(...)` or `action(...)` gave. */
export interface Defined {
  readonly kind: 'workflow' | 'topic' | 'action'
}

/** What a program would have been given; see docs/program.md. */
export interface ProgramGiven {
  /** The program and all of its arguments. */
  readonly command: readonly string[]
  /** What its action declares; secrets included. */
  readonly env: Readonly<Record<string, string>>
  readonly stdin: unknown
}

/** Stands for a program: gives its result. It fails by throwing, and skips its task by `throw skip('why')`. */
export type FakeProgram = (given: ProgramGiven) => unknown

export interface SimulateOptions {
  /** The time at which the world begins; RFC 3339. Default `2026-01-01T00:00:00Z`. */
  readonly start?: string
  /** Of everything that is drawn: waits before retries, `random()` of attempts, ids. The same seed gives the same world. Default 1. */
  readonly seed?: number
  /** By name, such as `{ web: fakeFetch({ ... }) }`. A connection that is not here fails the attempt that uses it. */
  readonly connections?: Readonly<Record<string, ConnectionClient<ConnectionKind>>>
  /** By name. A secret that is not here fails the attempt that asks for it. */
  readonly secrets?: Readonly<Record<string, string>>
  /** By the names of their actions; all programs of YAML workflows are called `program`. One that is not here is really run. */
  readonly programs?: Readonly<Record<string, FakeProgram>>
  /**
   * The project's folder: programs run there, attempts read its files, and paths of YAML files begin there. Default: an
   * empty folder of the simulation, into which `drop` writes; YAML files then begin where the process does.
   */
  readonly folder?: string
  /** How long one attempt may take in real time, in milliseconds, before it fails with TIMEOUT. Default 10,000. */
  readonly attemptLimitMs?: number
}
