/**
 * `make bench`: prints Markdown tables. `npm run bench -- tasks startup images --rounds 5` chooses,
 * `memory --pictures 100000` too, which takes a quarter of an hour and is not part of the rest.
 * This machine's figures are in RESULTS.md; only ratios of one run are worth comparing.
 */
import { arch, availableParallelism, platform, totalmem } from 'node:os'
import { parseArgs } from 'node:util'

const benches: Readonly<Record<string, (rounds: number) => Promise<string>>> = {
  tasks: async (rounds) => (await import('./tasks.ts')).benchTasks(rounds),
  startup: async (rounds) => (await import('./startup.ts')).benchStartup(rounds),
  images: async (rounds) => (await import('./images.ts')).benchImages(rounds),
  memory: async () => (await import('./memory.ts')).benchMemory(Number(values.pictures)),
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '5' }, pictures: { type: 'string', default: '100000' } },
})
const rounds = Number(values.rounds)
const names = positionals.length > 0 ? positionals : ['tasks', 'startup', 'images']
const unknown = names.find((name) => !(name in benches))
if (unknown !== undefined || !Number.isInteger(rounds) || rounds < 1) {
  process.stderr.write(
    `There is no benchmark ${unknown ?? ''}; choose among ${Object.keys(benches).join(', ')}, and --rounds of 1 or more\n`,
  )
  process.exit(2)
}
console.log(
  `${platform()} ${arch()}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}\n`,
)
for (const name of names) console.log(`## ${name}\n\n${await benches[name]!(rounds)}\n`)
process.exit(0)
