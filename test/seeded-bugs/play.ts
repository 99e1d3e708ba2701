/** Plays one scenario in a process of its own and prints what it found, as one line of JSON. */
import { patience } from '../engine-world.ts'
import type { Breach } from '../invariants/check.ts'
import { Findings } from './findings.ts'

export interface Played {
  readonly breaches: readonly Breach[]
  /** Something went wrong that is no breach: the scenario could not be played to its end. */
  readonly broke?: string
}

const [name, patienceMs, wanted] = process.argv.slice(2) as [string, string, string?]
patience.ms = Number(patienceMs)
// What a bug lets float is one more thing that it does wrong; the scenario goes on.
process.on('unhandledRejection', () => {})
const findings = new Findings(wanted === undefined ? undefined : Number(wanted))
let broke: string | undefined
try {
  const { default: play } = (await import(`./scenarios/${name}.ts`)) as {
    default: (findings: Findings) => Promise<void>
  }
  await play(findings)
} catch (thrown) {
  broke = findings.explain(thrown)
}
const played: Played = { breaches: findings.breaches, ...(broke === undefined ? {} : { broke }) }
process.stdout.write(`\n${JSON.stringify(played)}\n`, () => process.exit(0))
