/**
 * Plays the simulation with each mutant that it is to notice, in one process: every mutant has a graph of modules of its own,
 * whose addresses end in its number. Prints one line of JSON: what the simulation said of each, by its number; null where it
 * noticed nothing, and of the sources as they are under `unchanged`.
 */
import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { mutants } from './mutants.ts'

/** So many show nearly all that ten thousand show. */
const seeds = 1_000

const root = join(import.meta.dirname, '..')
const own = pathToFileURL(root).href
const mark = '?mutant='

registerHooks({
  resolve(specifier, context, next) {
    const found = next(specifier, context)
    const number = context.parentURL?.split(mark)[1]
    const ours = found.url.startsWith(`${own}/src/`) || found.url.startsWith(`${own}/test/simulation/`)
    return number === undefined || !ours || found.url.includes(mark)
      ? found
      : { ...found, url: found.url + mark + number }
  },
  load(url, context, next) {
    const [plain, number] = url.split(mark)
    const mutant = number === undefined ? undefined : mutants[Number(number)]
    if (mutant === undefined || fileURLToPath(plain!) !== join(root, 'src', mutant.file)) return next(url, context)
    const source = readFileSync(fileURLToPath(plain!), 'utf8').replace(mutant.find, () => mutant.replace)
    return { ...next(url, context), source }
  },
})

type Seeds = typeof import('./simulation/seeds.ts')

async function played(address: string): Promise<string | null> {
  try {
    const { playSeeds } = (await import(`${own}/test/simulation/seeds.ts${address}`)) as Seeds
    const [failure] = await playSeeds({ from: 1, seeds }, 1, ['runs'])
    return failure === undefined ? null : `seed ${failure.seed}: ${failure.message.split('\n')[0]}`
  } catch (error) {
    // It cannot even be loaded: that would prove nothing.
    return `broken: ${error}`
  }
}

const said: Record<string, string | null> = { unchanged: await played('') }
for (const [index, { caughtBy }] of mutants.entries())
  if (caughtBy.includes('simulation')) said[index] = await played(mark + index)
process.stdout.write(`${JSON.stringify(said)}\n`)
