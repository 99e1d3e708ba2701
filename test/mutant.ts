/**
 * A wrong decision: a patch of one shipped file, and the tests that must notice it: one of them is enough. `find` occurs
 * exactly once in its file.
 */
export interface Mutant {
  /** Below `src`. */
  readonly file: string
  /** What is wrong then. */
  readonly says: string
  readonly find: string
  readonly replace: string
  /** Test files of `src/core`, without `.test.ts`; or `simulation`, which plays 1,000 seeds. */
  readonly caughtBy: readonly string[]
}

export const inFile = (
  file: string,
  caughtBy: readonly string[],
  patches: readonly [string, string, string][],
): Mutant[] => patches.map(([says, find, replace]) => ({ file, says, find, replace, caughtBy }))
