/** A few kills of each run of the suite; `npm run -s chaos` makes as many as one likes. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, inject, it } from 'vitest'
import { chaos } from './chaos/chaos.ts'
import { demoKills } from './chaos/demo-kills.ts'
import { testDatabase } from './database.ts'

const timeout = 600_000

/** Another one each time; a failure says it, so that it can be made again. */
const seed = Math.floor(Math.random() * 1e9)

it(`ten kills at random moments lose nothing, double nothing, and leave nothing torn (seed ${seed})`, {
  timeout,
}, async () => {
  const database = inject('testServer').url === undefined ? undefined : await testDatabase({ migrated: false })
  const told: string[] = []
  try {
    // How long a recovery may take is asserted by the command: here others may need the machine, too.
    const report = await chaos({
      count: 10,
      seed,
      round: 10,
      limitMs: timeout,
      tell: (line) => told.push(line),
      ...(database === undefined ? {} : { server: { url: database.url } }),
    })
    expect(report.kills).toHaveLength(10)
    expect(Math.min(...report.kills.map(({ inFlight }) => inFlight))).toBeGreaterThan(0)
  } catch (thrown) {
    const again = `npm run -s chaos -- --count 10 --round 10 --seed ${seed}`
    throw new Error([(thrown as Error).message, ...told, again].join('\n'), { cause: thrown })
  } finally {
    await database?.drop()
  }
})

it(`a demo that was killed and is run again prints the same sum (seed ${seed})`, { timeout }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-demo-catalog-'))
  try {
    const pictures = Array.from({ length: 80 }, (_, at) => `https://picsum.photos/${100 + at}/90`)
    const lines = [
      ...pictures,
      ...pictures.slice(0, 12),
      ...Array.from({ length: 8 }, () => 'https://picsum.photos/error/1'),
    ]
    const catalog = join(folder, 'some.txt')
    await writeFile(catalog, `${lines.join('\n')}\n`)
    const sum = await demoKills({ count: 2, seed, catalog, latestMs: 4_000 })
    expect(sum).toBe('100 received = 80 written + 19 duplicate + 1 rejected (http error) + 0 dead + 0 pending')
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
