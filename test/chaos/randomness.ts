/** Numbers that look random and follow from a seed, so that a run can be made again. */
export interface Randomness {
  /** In [0, 1). */
  next(): number
  /** A whole number from `from` to `to`, both included. */
  whole(from: number, to: number): number
  pick<Item>(items: readonly Item[]): Item
  chance(share: number): boolean
  /** Another source that follows from this one; what it is asked does not move this one on. */
  fork(): Randomness
}

/** mulberry32: 32 bits of state, good enough to choose victims and moments. */
export function randomness(seed: number): Randomness {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    next,
    whole: (from, to) => from + Math.floor(next() * (to - from + 1)),
    pick: (items) => items[Math.floor(next() * items.length)]!,
    chance: (share) => next() < share,
    fork: () => randomness(Math.floor(next() * 2 ** 32)),
  }
}
