import { randomBytes } from 'node:crypto'

let pool = Buffer.alloc(0)
let at = 0

/** A number in [0, 1) from 48 bits of the system's randomness, read in blocks: ids and tokens must not be guessed. */
export function random(): number {
  if (at + 6 > pool.length) {
    pool = randomBytes(6 * 512)
    at = 0
  }
  at += 6
  return pool.readUIntBE(at - 6, 6) / 2 ** 48
}
