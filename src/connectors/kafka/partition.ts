/** Where a key lies: as Java's clients place it, so that others' producers and ours agree. */

/** Murmur2 (32 bits, signed) over the UTF-8 bytes. */
export function murmur2(data: Uint8Array): number {
  const { length } = data
  const m = 0x5bd1e995
  let h = 0x9747b28c ^ length
  let i = 0
  for (; i + 4 <= length; i += 4) {
    let k = data[i]! | (data[i + 1]! << 8) | (data[i + 2]! << 16) | (data[i + 3]! << 24)
    k = Math.imul(k, m)
    k = Math.imul(k ^ (k >>> 24), m)
    h = Math.imul(h, m) ^ k
  }
  const left = length - i
  if (left === 3) h ^= data[i + 2]! << 16
  if (left >= 2) h ^= data[i + 1]! << 8
  if (left >= 1) h = Math.imul(h ^ data[i]!, m)
  h = Math.imul(h ^ (h >>> 13), m)
  return h ^ (h >>> 15)
}

export const partitionOf = (key: Uint8Array, partitions: number): number => (murmur2(key) & 0x7fffffff) % partitions
