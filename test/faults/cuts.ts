/** Where connections are cut: chosen by a seed, so that a failure can be played again (`FAULT_SEED=n vitest run test/faults`). */
import type { Cut } from './tcp-proxy.ts'

export const seed = Number(process.env.FAULT_SEED ?? 1)
/** How many times as many cuts as in the suite (`FAULT_ROUNDS`). */
const rounds = Number(process.env.FAULT_ROUNDS ?? 1)
export const timeout = 120_000 * rounds

/** Mulberry32. */
function numbers(from: number): () => number {
  let state = from >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** Cuts of all kinds, at one of the first `messages` of the server's messages. */
export function cutsOf(count: number, messages: number): Cut[] {
  const random = numbers(seed + messages)
  const upTo = (most: number) => 1 + Math.floor(random() * most)
  return Array.from({ length: count * rounds }, (_, index): Cut => {
    const number = upTo(messages)
    if (index % 4 === 3) return { at: 'byte', number: number * 40, end: 'reset' }
    if (index % 4 === 2) return { at: 'commit', number: upTo(4) }
    return { at: 'message', number, side: index % 4 === 0 ? 'before' : 'after' }
  })
}
