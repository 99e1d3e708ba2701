/** Which bugs an everyday run plays. */
import { createHash } from 'node:crypto'
import type { SeededBug } from './bugs.ts'

/** For each invariant one bug that breaks it. The same seed draws the same, whatever bugs are added to other invariants. */
export function sampleOf(bugs: readonly SeededBug[], seed: number): SeededBug[] {
  if (!Number.isSafeInteger(seed)) throw new Error('SEEDED_BUGS is `all`, or a whole number that draws a sample')
  const lot = ({ name }: SeededBug) => createHash('sha256').update(`${seed} ${name}`).digest('hex')
  const drawn = new Map<number, SeededBug>()
  for (const bug of bugs) {
    const other = drawn.get(bug.invariant)
    if (other === undefined || lot(bug) < lot(other)) drawn.set(bug.invariant, bug)
  }
  return [...drawn.values()]
}
