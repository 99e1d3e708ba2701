/**
 * `make bench`: prints Markdown tables. `npm run -s bench -- tasks light --rounds 5` chooses, `--json` prints the figures of
 * those that have some for programs. What takes a quarter of an hour (`memory --pictures 100000`, `history --tasks 1000000`,
 * `records --records 10000000`) or minutes (`status --results 2000000`) or waits for the minute (`plans`, `probes --seconds 75`) or needs what `make services` fetches
 * (`kafka --messages 300000`) is not part of the rest. This
 * machine's figures are in RESULTS.md; only ratios of one run are worth comparing.
 */
import { arch, availableParallelism, loadavg, platform, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import type { Report } from './measure.ts'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
    pictures: { type: 'string', default: '100000' },
    sizes: { type: 'string', default: '1000,10000,100000' },
    plans: { type: 'string', default: '1000' },
    rates: { type: 'string', default: '50,200' },
    tasks: { type: 'string', default: '1000000' },
    seconds: { type: 'string', default: '75' },
    records: { type: 'string', default: '1000000' },
    messages: { type: 'string', default: '300000' },
    results: { type: 'string', default: '2000000' },
  },
})
const numbers = (text: string) => text.split(',').map(Number)
const rounds = Number(values.rounds)

const benches: Readonly<Record<string, () => Promise<string | Report>>> = {
  tasks: async () => (await import('./tasks.ts')).benchTasks(rounds),
  light: async () => (await import('./light.ts')).benchLight(rounds),
  latency: async () => (await import('./latency.ts')).benchLatency(rounds, numbers(values.rates)),
  fan: async () => (await import('./fan.ts')).benchFan(rounds, numbers(values.sizes)),
  plans: async () => (await import('./plans.ts')).benchPlans(rounds, Number(values.plans)),
  history: async () => (await import('./history.ts')).benchHistory(rounds, Number(values.tasks)),
  backfill: async () => (await import('./backfill.ts')).benchBackfill(rounds),
  startup: async () => (await import('./startup.ts')).benchStartup(rounds),
  images: async () => (await import('./images.ts')).benchImages(rounds),
  ingest: async () => (await import('./ingest.ts')).benchIngest(rounds),
  probes: async () => (await import('./probes.ts')).benchProbes(Number(values.seconds)),
  kafka: async () => (await import('./kafka.ts')).benchKafka(rounds, Number(values.messages)),
  records: async () => (await import('./records.ts')).benchRecords(Number(values.records)),
  status: async () => (await import('./status.ts')).benchStatus(rounds, Number(values.results)),
  memory: async () => (await import('./memory.ts')).benchMemory(Number(values.pictures)),
}
const usual = ['tasks', 'light', 'latency', 'fan', 'backfill', 'startup', 'images', 'ingest']

const names = positionals.length > 0 ? positionals : usual
const unknown = names.find((name) => !(name in benches))
const counts = [rounds, Number(values.plans), Number(values.tasks), ...numbers(values.sizes), ...numbers(values.rates)]
if (unknown !== undefined || !counts.every((count) => Number.isInteger(count) && count >= 1)) {
  process.stderr.write(
    `There is no benchmark ${unknown ?? ''}; choose among ${Object.keys(benches).join(', ')}, and whole numbers of 1 or more\n`,
  )
  process.exit(2)
}
const machine = {
  system: `${platform()} ${arch()}`,
  cores: availableParallelism(),
  memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
  node: process.version,
}
const load = () => loadavg()[0]!.toFixed(1)
const all: Record<string, unknown> = {}
if (!values.json) console.log(`${machine.system}, ${machine.cores} cores, ${machine.memory}, Node ${machine.node}\n`)
for (const name of names) {
  const before = load()
  const report = await benches[name]!()
  const { text, figures } = typeof report === 'string' ? { text: report, figures: { text: report } } : report
  const loads = { before, after: load() }
  all[name] = { ...figures, load: loads }
  if (!values.json)
    console.log(
      `## ${name}\n\n${text}\n\nLoad before ${before}, after ${loads.after} (what it made itself included).\n`,
    )
}
if (values.json) console.log(JSON.stringify({ machine, rounds, ...all }, null, 2))
process.exit(0)
