import { setTimeout as delay } from 'node:timers/promises'
import { type ApiClient, type CommandContext, command, SluiceError, z } from 'sluice'
import { catalogNamePattern, catalogNameRule, nameOfFile } from '../catalog/catalog-name.ts'
import { balances, sumText, type Totals } from '../pictures/sum.ts'

const options = z.object({
  name: z.string().optional().meta({ description: 'of the catalog (default: the name of the file, without .txt)' }),
  refresh: z.boolean().default(false).meta({ description: 'ask again for URLs that are known' }),
  wait: z.boolean().default(false).meta({ description: 'until every line has ended; then print the sum' }),
})

type Options = z.infer<typeof options>

interface Started {
  readonly runId: string
  readonly name: string
}

/** What the task `publish-lines` gives. */
interface Published {
  readonly lines: number
  readonly published: number
  readonly known: number
  readonly blank: number
  readonly malformed: number
}

export const catalogAdd = command<Options>('catalog add', {
  summary: 'add a catalog: a text file with one URL per line',
  args: ['file'],
  options,
  async run(context) {
    const { api, args, options, print } = context
    const file = args[0] as string
    const name = options.name?.normalize() ?? nameOfFile(file)
    if (!catalogNamePattern.test(name)) {
      const advice = `allowed are ${catalogNameRule}. Give one with --name`
      throw new SluiceError('USAGE', `${JSON.stringify(name)} is not a name for a catalog; ${advice}`)
    }
    const query = new URLSearchParams({ name, refresh: String(options.refresh) })
    const started = await api.upload<Started>('POST', `/api/v1/catalogs?${query}`, file, 'text/plain')
    if (options.wait) return waitForEnds(context, started)
    print(`${started.runId} reads the catalog ${name}`, started)
    return 0
  },
})

async function waitForEnds(context: CommandContext<Options>, started: Started): Promise<number> {
  const { api, print, signal, note } = context
  const onAbort = () => note(`The run ${started.runId} and its records go on`)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    const published = await untilPublished(context, started)
    const totals = published.published === 0 ? await totalsOf(api) : await untilEnded(context, published.published)
    const fresh = `${published.published} new`
    const line = `${published.known} lines known, ${fresh}`
    print(published.published === 0 ? line : `${line}\n${sumText(totals)}`, { ...started, ...published, totals })
    return balances(totals) ? 0 : 1
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

const lookMs = 250

/** @throws SluiceError ACTION_FAILED when the run fails. */
async function untilPublished({ api }: CommandContext<Options>, { runId }: Started): Promise<Published> {
  for (;;) {
    const run = await api.request<{ state: string; error: string | null }>('GET', `/api/v1/runs/${runId}?wait=20s`)
    if (run.state === 'queued' || run.state === 'running') continue
    if (run.state !== 'success') {
      const errors = (await tasksOf(api, runId)).flatMap(({ name, error }) =>
        error ? [`\n${name}: ${error.split('\n')[0]}`] : [],
      )
      throw new SluiceError(
        'ACTION_FAILED',
        `The run ${runId} has ended as ${run.state}: ${run.error ?? 'see its log'}${errors.join('')}`,
      )
    }
    const items = await tasksOf(api, runId)
    const task = items.find((item) => item.name === 'publish-lines')
    const { result } = await api.request<{ result: Published }>('GET', `/api/v1/tasks/${task?.id}`)
    return result
  }
}

async function tasksOf(api: ApiClient, runId: string) {
  type Tasks = { items: { id: string; name: string; error: string | null }[] }
  return (await api.request<Tasks>('GET', `/api/v1/runs/${runId}/tasks`)).items
}

/**
 * Waits until everything that was received by now has ended. Others may go on publishing: so what counts is not that
 * nothing is pending, but that the offsets have passed this point and no record behind them waits.
 */
async function untilEnded({ api, progress, signal }: CommandContext<Options>, published: number): Promise<Totals> {
  const bar = progress('records')
  try {
    const first = await totalsOf(api)
    const target = first.received
    for (;;) {
      const totals = await totalsOf(api)
      const passed = totals.received - totals.queued
      const open = Math.max(0, target - passed) + totals.waiting
      bar.update(Math.max(0, published - open), published)
      if (passed >= target && totals.waiting === 0) return totals
      await delay(lookMs, undefined, { signal })
    }
  } finally {
    bar.stop()
  }
}

interface OpenTotals extends Totals {
  readonly queued: number
  readonly waiting: number
}

async function totalsOf(api: ApiClient): Promise<OpenTotals> {
  return (await api.request<{ totals: OpenTotals }>('GET', '/api/v1/streams/images')).totals
}
