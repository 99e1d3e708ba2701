/**
 * Memory for pixels that is used again. Each fresh megabyte outside of the garbage collector's heap brings its next full
 * marking nearer and has to be paged in; with the same few buffers neither happens.
 */
const kept: ArrayBuffer[] = []
/** Buffers kept at most, and how large one may be. */
const mostKept = 4
const largestKept = 4 * 1024 * 1024

/** At least so many bytes' worth of memory, with whatever was in it before; the view has exactly `bytes`. */
export function takeScratch(bytes: number): Buffer {
  const index = kept.findIndex((buffer) => buffer.byteLength >= bytes)
  const memory = index < 0 ? new ArrayBuffer(Math.max(bytes, 65_536)) : kept.splice(index, 1)[0]!
  return Buffer.from(memory, 0, bytes)
}

/** Nobody may use it any more. */
export function giveScratch(scratch: Buffer): void {
  const memory = scratch.buffer as ArrayBuffer
  if (kept.length < mostKept && memory.byteLength <= largestKept) kept.push(memory)
  else memory.transfer(0)
}
