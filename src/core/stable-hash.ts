/**
 * 32 bits of a text, the same wherever and whenever: FNV-1a over its UTF-16 units, mixed. It decides in which partition a
 * record lies and when an item is due, so it never changes.
 * @param seed - Another one gives bits that have nothing to do with those of the first.
 */
export function stableHash(text: string, seed = 0): number {
  let hash = 0x811c9dc5 ^ seed
  for (let index = 0; index < text.length; index += 1) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
