/**
 * Randomness of one attempt: a sequence that run, node, map index and attempt alone decide, so that it comes again when the
 * attempt is reproduced. The key is mixed by FNV-1a into the state of sfc32 (both public domain). Not for secrets.
 */
export function attemptRandom(runId: string, node: number, mapIndex: number, attempt: number): () => number {
  let [a, b, c] = [hashed(`a ${runId}`), hashed(`b ${node} ${mapIndex}`), hashed(`c ${attempt} ${runId}`)]
  let counter = 1
  const next = (): number => {
    const sum = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (c << 21) | (c >>> 11)
    c = (c + sum) | 0
    return sum >>> 0
  }
  for (let round = 0; round < 15; round += 1) next()
  // 53 bits: as many as a number in [0, 1) can have.
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53
}

function hashed(text: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index += 1) {
    hash ^= text.charCodeAt(index)
    hash = Math.imul(hash, 0x01000193)
  }
  return hash | 0
}
