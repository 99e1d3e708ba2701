/** Plays one scenario in a process of its own and prints what it finds, a line of JSON each. */
import { patience } from '../engine-world.ts'
import type { Breach } from '../invariants/check.ts'
import { Findings } from './findings.ts'

/** One line of the output. What else is printed is none of JSON. */
export type Told =
  | { readonly breach: Breach }
  /** The last. `broke`: something went wrong that is no breach, the scenario could not be played to its end. */
  | { readonly played: { readonly broke?: string } }

const [name, patienceMs, wanted] = process.argv.slice(2) as [string, string, string?]
patience.ms = Number(patienceMs)
// What a bug lets float is one more thing that it does wrong; the scenario goes on.
process.on('unhandledRejection', () => {})
const tell = (told: Told, then?: () => void) => process.stdout.write(`\n${JSON.stringify(told)}\n`, then)
const findings = new Findings((breach) => tell({ breach }), wanted === undefined ? undefined : Number(wanted))
let broke: string | undefined
try {
  const { default: play } = (await import(`./scenarios/${name}.ts`)) as {
    default: (findings: Findings) => Promise<void>
  }
  await play(findings)
} catch (thrown) {
  broke = findings.explain(thrown)
}
tell({ played: broke === undefined ? {} : { broke } }, () => process.exit(0))
