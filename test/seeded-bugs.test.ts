/**
 * Proves the checker of test/invariants: the scenarios find nothing wrong in the sources as they are, and each bug that
 * is written into them is found.
 */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { describe, expect, inject, it } from 'vitest'
import { bugs, type Scenario, type SeededBug, scenarios } from './seeded-bugs/bugs.ts'
import { moreBugs } from './seeded-bugs/more-bugs.ts'
import { type Apart, playApart } from './seeded-bugs/play-apart.ts'

const root = join(import.meta.dirname, '..')
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
  it.each(scenarios)('the scenario %s has no breaches', { timeout: 600_000 }, async (scenario) => {
    expect(await play(scenario, patient)).toEqual({ breaches: [], applied: false })
  })
})

describe.concurrent('a seeded bug is found:', () => {
  it.each([...bugs, ...moreBugs])('$name', { timeout: 600_000 }, async (bug) => {
    expect(readFileSync(join(root, bug.file), 'utf8').split(bug.find)).toHaveLength(2)
    const isFound = ({ breaches }: Apart) => breaches.some(({ invariant }) => invariant === bug.invariant)
    let found = await play(bug.scenario, hasty, bug)
    // On a busy machine the time may be up before the scenario comes to the place.
    if (!isFound(found)) found = await play(bug.scenario, patient / 2, bug)
    if (process.env.SHOW_BREACHES) process.stdout.write(`${bug.name}: ${JSON.stringify(found, null, 2)}\n`)
    expect(found.applied).toBe(true)
    expect(
      found.breaches.map(({ invariant }) => invariant),
      JSON.stringify(found, null, 2),
    ).toContain(bug.invariant)
  })
})

it('the bugs have names of their own, and show every invariant', () => {
  const all = [...bugs, ...moreBugs]
  expect(new Set(all.map(({ name }) => name)).size).toBe(all.length)
  const shown = new Set(all.map(({ invariant }) => invariant))
  expect([...shown].sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
})
