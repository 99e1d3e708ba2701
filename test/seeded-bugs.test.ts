/**
 * Proves the checker of test/invariants: the scenarios find nothing wrong in the sources as they are, and each bug that
 * is written into them is found.
 *
 * A run plays a sample with one bug at least of each invariant, always the same. SEEDED_BUGS says which are played:
 *
 *     SEEDED_BUGS=all npx vitest run test/seeded-bugs.test.ts     all of them
 *     SEEDED_BUGS=7 npx vitest run test/seeded-bugs.test.ts       the sample that this number draws; 1 is the default
 */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { describe, expect, inject, it } from 'vitest'
import { bugs, type Scenario, type SeededBug, scenarios } from './seeded-bugs/bugs.ts'
import { moreBugs } from './seeded-bugs/more-bugs.ts'
import { newBugs } from './seeded-bugs/new-bugs.ts'
import { type Apart, playApart } from './seeded-bugs/play-apart.ts'
import { sampleOf } from './seeded-bugs/sample.ts'
import { simulatedBugs } from './seeded-bugs/simulated-bugs.ts'

const root = join(import.meta.dirname, '..')
const all = [...bugs, ...moreBugs, ...newBugs, ...simulatedBugs]
const { SEEDED_BUGS: wanted = '1' } = process.env
const played = wanted === 'all' ? all : sampleOf(all, Number(wanted))
/** As long as `until` waits anywhere; and, with a bug, as long as it usually takes and more. */
const patient = 60_000
const hasty = 5_000

/** They wait for processes most of the time; more at once than this, and those that have to be in time are not. */
let free = availableParallelism() + 1
const queue: (() => void)[] = []

async function play(scenario: Scenario, patienceMs: number, bug?: SeededBug): Promise<Apart> {
  if (free === 0) await new Promise<void>((resolve) => queue.push(resolve))
  else free -= 1
  try {
    return await playApart(inject('testServer'), scenario, patienceMs, bug)
  } finally {
    const next = queue.shift()
    if (next) next()
    else free += 1
  }
}

describe.concurrent('with the sources as they are', () => {
  it.each(scenarios)('the scenario %s has no breaches', { timeout: 900_000 }, async (scenario) => {
    expect(await play(scenario, patient)).toEqual({ breaches: [], applied: false })
  })
})

describe.concurrent(`of ${all.length} seeded bugs ${played.length} are played; each is found:`, () => {
  // One by one, since `it.each` cuts names short, by which they are asked for.
  for (const bug of played) it(bug.name, { timeout: 900_000 }, () => isShown(bug))
})

async function isShown(bug: SeededBug): Promise<void> {
  const isFound = ({ breaches }: Apart) => breaches.some(({ invariant }) => invariant === bug.invariant)
  // On a busy machine the time may be up before the scenario comes to the place: then that shows nothing.
  let found = await play(bug.scenario, bug.invariant === 9 ? patient / 2 : hasty, bug)
  if (!isFound(found)) found = await play(bug.scenario, patient / 2, bug)
  if (process.env.SHOW_BREACHES) process.stdout.write(`${bug.name}: ${JSON.stringify(found, null, 2)}\n`)
  expect(found.applied).toBe(true)
  expect(
    found.breaches.map(({ invariant }) => invariant),
    JSON.stringify(found, null, 2),
  ).toContain(bug.invariant)
}

describe('the list of seeded bugs', () => {
  it('has names of their own, and patches that apply once to the files as they are', () => {
    expect(new Set(all.map(({ name }) => name)).size).toBe(all.length)
    const stale = all.filter(({ file, find }) => readFileSync(join(root, file), 'utf8').split(find).length !== 2)
    expect(stale.map(({ name, file }) => `${file}: ${name}`)).toEqual([])
  })

  it('shows every invariant, and so does each sample', () => {
    const shown = (some: readonly SeededBug[]) =>
      [...new Set(some.map(({ invariant }) => invariant))].sort((a, b) => a - b)
    expect(shown(all)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
    for (let seed = 1; seed <= 20; seed += 1) expect(shown(sampleOf(all, seed))).toEqual(shown(all))
    expect(sampleOf(all, 3)).toEqual(sampleOf(all, 3))
  })
})
