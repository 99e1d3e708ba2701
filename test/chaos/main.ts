/** `npm run -s chaos`: see its `--help`. Exit codes: 0 all held, 1 something did not, 2 wrong usage. */
import { parseArgs } from 'node:util'
import { type ChaosReport, chaos, type Kill } from './chaos.ts'
import { demoKills } from './demo-kills.ts'
import { type Victim, victims, victimTexts } from './victims.ts'

const help = `Kills parts of Sluice at random moments while catalogs and batch runs come in, and counts again what came of them.

  npm run -s chaos -- [--count 20] [--seed N] [--round 20] [--victims a,b] [--lease 10] [--server postgres15 | --database-url URL] [--json]

  --count N         kills
  --seed N          repeats a run: same victims, moments and catalogs (default: a random one, which is printed)
  --round N         kills after which all work has to come to rest and is counted again
  --victims A,B     only these
  --lease S         seconds; after every kill the stream must commit again within the lease and 5 s
  --server postgresV     a PostgreSQL of Debian's, in a temporary folder, which is stopped and killed, too
  --database-url URL     a PostgreSQL that runs, with an empty database; it is not killed
  --demo            kills make demo instead, N times in a row, everything or a part of it at a random moment; the last
                    one runs to its end and must print the sum of the sample catalog
  --json            the report as JSON on standard output

Victims:
${Object.entries(victimTexts)
  .map(([name, text]) => `  ${name.padEnd(24)}${text}`)
  .join('\n')}
One blow in seven strikes two of them at once, and three in ten at the moment when the API has acknowledged something.
`

const sampleSum = '650 received = 500 written + 99 duplicate + 51 rejected (http error) + 0 dead + 0 pending'

function wholeNumber(name: string, text: string): number {
  if (/^\d{1,10}$/.test(text)) return Number(text)
  throw new TypeError(`--${name} must be a whole number, not "${text}"`)
}

function readArguments() {
  const { values } = parseArgs({
    options: {
      count: { type: 'string', default: '20' },
      seed: { type: 'string' },
      round: { type: 'string', default: '20' },
      victims: { type: 'string' },
      lease: { type: 'string', default: '10' },
      server: { type: 'string' },
      'database-url': { type: 'string' },
      demo: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const version = values.server === undefined ? undefined : /^postgres(\d+)$/.exec(values.server)?.[1]
  if (values.server !== undefined && version === undefined)
    throw new TypeError(`--server must be postgres and a version, such as postgres15, not "${values.server}"`)
  const chosen = values.victims?.split(',')
  const wrong = chosen?.find((name) => !(victims as readonly string[]).includes(name))
  if (wrong !== undefined) throw new TypeError(`"${wrong}" is no victim; there are ${victims.join(', ')}`)
  const url = values['database-url']
  return {
    ...values,
    options: {
      count: wholeNumber('count', values.count),
      seed: values.seed === undefined ? Math.floor(Math.random() * 1e9) : wholeNumber('seed', values.seed),
      round: wholeNumber('round', values.round),
      leaseMs: wholeNumber('lease', values.lease) * 1_000,
      ...(chosen === undefined ? {} : { victims: chosen as Victim[] }),
      ...(version !== undefined ? { server: { version } } : url === undefined ? {} : { server: { url } }),
    },
  }
}

async function main(): Promise<number> {
  let given: ReturnType<typeof readArguments>
  try {
    given = readArguments()
  } catch (thrown) {
    process.stderr.write(`chaos: ${(thrown as Error).message}\n`)
    return 2
  }
  if (given.help) {
    process.stdout.write(help)
    return 0
  }
  const tell = (line: string) => process.stderr.write(`${line}\n`)
  const { options } = given
  tell(`seed ${options.seed}`)
  try {
    if (given.demo) {
      const sum = await demoKills({ ...options, latestMs: 10_000, tell })
      process.stdout.write(`${sum}\n`)
      return sum === sampleSum ? 0 : 1
    }
    const report = await chaos({ ...options, tell })
    process.stdout.write(given.json ? `${JSON.stringify(report)}\n` : tableText(report))
    return 0
  } catch (thrown) {
    tell(thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown))
    const same = process.argv.slice(2).filter((word, at, all) => word !== '--seed' && all[at - 1] !== '--seed')
    tell(`The same again: npm run -s chaos -- ${[...same, '--seed', options.seed].join(' ')}`)
    return 1
  }
}

/** One line of the table: a name, and which kills it is about. */
type Line = readonly [string, (kill: Kill) => boolean]

function tableText({ kills, received, catalogs, runs, seed }: ChaosReport): string {
  const all: readonly Line[] = [
    ...victims.map((victim): Line => [victim, (kill) => kill.victims.length === 1 && kill.victims[0] === victim]),
    ['two at once', (kill) => kill.victims.length > 1],
    ['at an acknowledgement', (kill) => kill.atAcknowledgement],
    ['all', () => true],
  ]
  const heads = ['victim', 'kills', 'commits p50', 'max', 'ready p50', 'max', 'in flight, least']
  const rows = all.flatMap(([name, fits]) => {
    const some = kills.filter(fits)
    if (some.length === 0) return []
    const [commit, ready] = [some.map(({ commitMs }) => commitMs), some.map(({ readyMs }) => readyMs)]
    const least = Math.min(...some.map(({ inFlight }) => inFlight))
    return [
      [name, some.length, median(commit), Math.max(...commit), median(ready), Math.max(...ready), least].map(String),
    ]
  })
  const widths = heads.map((head, at) => Math.max(head.length, ...rows.map((row) => row[at]!.length)))
  const line = (row: readonly string[]) =>
    row.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!))).join('  ')
  const sum = `${received} records of ${catalogs} catalogs and ${runs} runs: 0 lost, 0 doubled (seed ${seed}, times in ms)`
  return `${[line(heads), ...rows.map(line), sum].join('\n')}\n`
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)]!
}

process.exitCode = await main()
