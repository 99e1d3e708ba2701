/** Writers that put the same and different bytes, refer to them and let go of them again, in an order that a seed gives. */
import type { Database } from '../src/ports/database.ts'
import type { ObjectStore } from '../src/ports/objects.ts'
import { claimObjects, groupedClaims, referToObjects, releaseObjects } from '../src/store/objects.ts'

export interface RaceOptions {
  readonly database: Database
  readonly store: ObjectStore
  readonly seed: number
  /** Of this group of writers: its claims and references bear it. */
  readonly name: string
  readonly writers: number
  readonly rounds: number
}

/** An object is idle from the end of its last claim on: long claims would leave nothing to the sweeps. */
const claimMs = 100

/** The contents that all writers of all groups share. */
const contents = Array.from({ length: 30 }, (_, n) => Buffer.from(`content ${n} ${'.'.repeat(n * 100)}`))

/** Numbers in [0, 1) from a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * Gives the hashes to which references are left, one for each. Each reference is held against the store as soon as it is
 * committed. @throws what the store throws: an object that is referred to and is not there, or is not itself
 */
export async function raceForObjects(options: RaceOptions): Promise<string[]> {
  const { writers, seed, name } = options
  const claim = groupedClaims(options.database, `${name} together`, claimMs)
  const kept = await Promise.all(
    Array.from({ length: writers }, (_, index) =>
      write(options, `${name}-${index}`, seeded(seed * 1_000 + index), claim),
    ),
  )
  return kept.flat()
}

type Claim = ReturnType<typeof groupedClaims>

async function write(
  { database, store, name, rounds }: RaceOptions,
  writer: string,
  random: () => number,
  together: Claim,
) {
  const held = new Map<string, string>()
  const claimFor =
    (ms: number): Claim =>
    (object) =>
      claimObjects(database, writer, [object], ms)
  for (let round = 0; round < rounds; round += 1) {
    const bytes = contents[Math.floor(random() * contents.length)]!
    const id = `${writer} ${round}`
    const way = random()
    // Some gather their claims; some claims have probably passed before the reference; some puts are given up.
    const gathered = way > 0.7
    const claimant = gathered ? `${name} together` : writer
    const first: Claim = gathered ? together : claimFor(way < 0.3 ? 1 : claimMs)
    const { sha256 } = await store.put(bytes, first)
    if (way < 0.1) continue
    // Who is refused puts again, and is given more time.
    for (let ms = claimMs; !(await refer(database, claimant, sha256, id)); ms *= 2) {
      await store.put(bytes, (object) => claimObjects(database, claimant, [object], ms))
    }
    await store.read(sha256)
    held.set(id, sha256)
    const [oldest] = held.keys()
    if (oldest !== undefined && random() < 0.7) {
      held.delete(oldest)
      await releaseObjects(database, 'race', [oldest])
    }
  }
  return [...held.values()]
}

async function refer(database: Database, claimant: string, sha256: string, id: string): Promise<boolean> {
  try {
    await database.transaction((session) => referToObjects(session, claimant, [{ sha256, kind: 'race', id }]))
    return true
  } catch (thrown) {
    if ((thrown as { code?: string }).code === 'OBJECT_NOT_FOUND') return false
    throw thrown
  }
}
