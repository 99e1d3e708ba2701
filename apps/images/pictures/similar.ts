/** Pictures that look alike, by their perceptual hashes. Advice: nothing is ever removed or joined because of it. */

/** Bits of 64. The same picture at another size or quality differs in 0 to 4, two different photographs in about 32. */
export const defaultDistance = 6

/** In how many bits two hashes of 16 hex digits differ. */
export function distanceBetween(one: string, other: string): number {
  let differing = BigInt(`0x${one}`) ^ BigInt(`0x${other}`)
  let bits = 0
  for (; differing > 0n; differing &= differing - 1n) bits += 1
  return bits
}
