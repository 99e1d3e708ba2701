/** Metrics of definition files, as text. */
import { setImmediate as turn } from 'node:timers/promises'
import { messageOf, SluiceError } from '../errors.ts'
import type { MetricSample, Metrics } from '../sdk/metrics.ts'
import type { ApiParts } from './parts.ts'

const limitMs = 5_000
const mostSamples = 200_000
/** Samples after which others have their turn. */
const atOnce = 2_000

export interface Contribution {
  readonly name: string
  /** Lines of its gauges; none where it failed. */
  readonly text: string
  readonly up: boolean
  readonly seconds: number
  /** Samples beyond the most that are taken. */
  readonly dropped: number
}

/** Asks one contributor. Whatever it does, it is an answer, in time. */
export async function contributionOf(
  { options, name }: Metrics,
  taken: ReadonlySet<string>,
  { capabilities, log, clock }: Pick<ApiParts, 'capabilities' | 'log' | 'clock'>,
): Promise<Contribution> {
  const startedAt = clock.now()
  const stop = new AbortController()
  const late = new SluiceError('TIMEOUT', `the samples were not there within ${limitMs} ms`)
  const timer = setTimeout(() => stop.abort(late), limitMs)
  const aborted = new Promise<never>((_, reject) => stop.signal.addEventListener('abort', () => reject(late)))
  const seconds = () => (clock.now() - startedAt) / 1_000
  try {
    const samples = Promise.resolve(options.collect(capabilities(stop.signal)))
    const written = writeSamples(await Promise.race([samples, aborted]), options.gauges, taken, stop.signal)
    return { name, ...(await Promise.race([written, aborted])), up: true, seconds: seconds() }
  } catch (thrown) {
    log.warn(`the metrics ${name} could not be collected: ${messageOf(thrown)}`, { metrics: name })
    return { name, text: '', up: false, seconds: seconds(), dropped: 0 }
  } finally {
    clearTimeout(timer)
  }
}

/** Of a gauge that another has, and of one that was not declared, nothing is written. */
async function writeSamples(
  samples: Iterable<MetricSample> | AsyncIterable<MetricSample>,
  gauges: Readonly<Record<string, string>>,
  taken: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<Pick<Contribution, 'text' | 'dropped'>> {
  const lines = new Map<string, string[]>(
    Object.entries(gauges)
      .filter(([gauge]) => !taken.has(gauge))
      .map(([gauge, help]) => [gauge, [`# HELP ${gauge} ${oneLine(help)}`, `# TYPE ${gauge} gauge`]]),
  )
  let count = 0
  for await (const sample of paced(samples, signal)) {
    count += 1
    if (count <= mostSamples) lines.get(sample.gauge)?.push(lineOf(sample))
  }
  const text = [...lines.values()].map((of) => `${of.join('\n')}\n`).join('')
  return { text, dropped: Math.max(0, count - mostSamples) }
}

async function* paced<T>(items: Iterable<T> | AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  let count = 0
  for await (const item of items) {
    yield item
    count += 1
    if (count % atOnce === 0) await turn()
    signal.throwIfAborted()
  }
}

function lineOf({ gauge, labels = {}, value }: MetricSample): string {
  const given = Object.entries(labels).filter(([, text]) => text !== undefined)
  const written = given.map(([name, text]) => {
    if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name)) {
      throw new SluiceError('INTERNAL', `${JSON.stringify(name)} is no name of a label (${gauge})`)
    }
    return `${name}="${String(text).replace(/[\\"\n]/g, (found) => escapes[found] as string)}"`
  })
  return `${gauge}${written.length === 0 ? '' : `{${written.join(',')}}`} ${numberText(value)}`
}

const escapes: Readonly<Record<string, string>> = { '\\': '\\\\', '"': '\\"', '\n': '\\n' }

const numberText = (value: number) => (Math.abs(value) === Infinity ? (value > 0 ? '+Inf' : '-Inf') : String(value))

const oneLine = (text: string) => text.replace(/\\/g, '\\\\').replace(/\s+/g, ' ')
