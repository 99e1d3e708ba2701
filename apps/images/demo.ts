/**
 * `make demo`: runs a catalog of image URLs to its end on this machine and prints the sum of where each line has ended.
 *
 * It starts Sluice on the data in `SLUICE_HOME` (default `.sluice`) and, unless `LIVE=1`, an origin like picsum.photos,
 * adds the catalog `CATALOG` (default the sample) over HTTP, waits until the stream is at rest, and stops both. Results go
 * to standard output, progress to standard error. Exit code 0 when the sum balances, 1 otherwise, 130 when interrupted.
 */
import { randomUUID } from 'node:crypto'
import { constants, openAsBlob } from 'node:fs'
import { access } from 'node:fs/promises'
import { resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { nameOfFile } from './catalog/catalog-name.ts'
import { type Background, startOriginProcess, startSluice } from './demo/processes.ts'
import { openProgress } from './demo/progress.ts'
import { balances, since, sumText, type Totals } from './pictures/sum.ts'

const sample = resolve(import.meta.dirname, 'sample/urls.txt')
const lookMs = 200
/** No record takes longer without an end or another attempt. */
const longestStillMs = 600_000
/** A run that nobody takes up. */
const longestQueuedMs = 60_000
/** Parts of Sluice that die are started again meanwhile. */
const longestAwayMs = 60_000

interface Published {
  readonly published: number
  readonly known: number
}

const interrupted = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted.abort())

process.exitCode = await demo(process.env, interrupted.signal).catch((thrown: unknown) => {
  if (interrupted.signal.aborted) return 130
  process.stderr.write(`demo: ${thrown instanceof Error ? thrown.message : thrown}\n`)
  return 1
})
if (interrupted.signal.aborted) process.stderr.write('Interrupted; the next make demo goes on where this one ended.\n')

async function demo(environment: NodeJS.ProcessEnv, signal: AbortSignal): Promise<number> {
  const { CATALOG, LIVE } = environment
  const file = CATALOG ? resolve(CATALOG) : sample
  const name = CATALOG ? nameOfFile(file) : 'sample'
  await access(file, constants.R_OK).catch(() => {
    throw new Error(`the catalog ${file} cannot be read`)
  })
  const content = await openAsBlob(file)
  const background: Background[] = []
  try {
    const origin = LIVE === '1' ? undefined : await startOriginProcess(background, signal)
    const sluice = await startSluice(background, environment, origin, signal)
    return await run({ ...sluice, name, content, signal, home: resolve(environment.SLUICE_HOME || '.sluice') })
  } finally {
    for (const one of background.reverse()) await one.stop()
  }
}

interface Job {
  readonly url: string
  /** What Sluice said last. */
  readonly said: readonly string[]
  readonly hasEnded: () => boolean
  readonly name: string
  readonly content: Blob
  readonly home: string
  readonly signal: AbortSignal
}

async function run(job: Job): Promise<number> {
  const before = await totalsOf(job)
  const startedAt = performance.now()
  const { runId } = await ask<{ runId: string }>(job, `/api/v1/catalogs?name=${encodeURIComponent(job.name)}`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain', 'idempotency-key': randomUUID() },
    body: job.content,
  })
  const after = await untilAtRest(job, runId, before)
  const seconds = (performance.now() - startedAt) / 1_000
  const { published, known } = await publishedBy(job, runId)
  tell(`${known} lines known, ${published} new`)
  const own = since(before, after)
  const others = before.received > 0 || own.received !== published
  if (others && published > 0 && before.pending === 0 && own.received === published) {
    tell(`catalog ${job.name}: ${sumText(own)}`)
  }
  tell(sumText(after))
  const ended = own.received + before.pending
  if (ended > 0) tell(`${seconds.toFixed(1)} s, ${Math.round(ended / seconds)} records/s`)
  tell(`The pictures are in ${job.home}; make start shows them at http://localhost:8000/api/v1/images`)
  return balances(after) && after.pending === 0 ? 0 : 1
}

/** The run has ended, and every record that was received. */
async function untilAtRest(job: Job, runId: string, before: Totals): Promise<Totals> {
  const endedBefore = before.received - before.pending
  const progress = openProgress(process.stderr)
  let seen = { news: '', at: performance.now() }
  try {
    for (;;) {
      const run = await ask<{ state: string; error: string | null }>(job, `/api/v1/runs/${runId}`)
      const totals = await totalsOf(job)
      const reading = run.state === 'queued' || run.state === 'running'
      if (!reading && run.state !== 'success')
        throw new Error(`the run ${runId} has ended as ${run.state}: ${run.error}`)
      progress.show({
        done: totals.received - totals.pending - endedBefore,
        total: totals.received - endedBefore,
        reading,
      })
      if (!reading && totals.pending === 0) return totals
      const news = `${run.state} ${totals.received} ${totals.pending}`
      if (news !== seen.news) seen = { news, at: performance.now() }
      const longestMs = run.state === 'queued' ? longestQueuedMs : longestStillMs
      if (performance.now() - seen.at > longestMs) {
        const where = `the run ${runId} is ${run.state}, ${totals.pending} records are pending`
        throw new Error([`nothing has moved for ${longestMs / 1_000} s: ${where}`, ...job.said].join('\n'))
      }
      await delay(lookMs, undefined, { signal: job.signal })
    }
  } finally {
    progress.end()
  }
}

async function publishedBy(job: Job, runId: string): Promise<Published> {
  const { items } = await ask<{ items: { id: string; name: string }[] }>(job, `/api/v1/runs/${runId}/tasks`)
  const task = items.find((item) => item.name === 'publish-lines')
  return (await ask<{ result: Published }>(job, `/api/v1/tasks/${task?.id}`)).result
}

async function totalsOf(job: Job): Promise<Totals> {
  return (await ask<{ totals: Totals }>(job, '/api/v1/streams/images')).totals
}

/** Asks again while nothing answers, or what is needed is away. */
async function ask<Answer>(job: Job, path: string, init: RequestInit = {}): Promise<Answer> {
  const giveUpAt = performance.now() + longestAwayMs
  for (;;) {
    const answer = await askOnce<Answer>(job, path, init)
    if ('found' in answer) return answer.found
    job.signal.throwIfAborted()
    if (job.hasEnded()) throw new Error(['Sluice has ended', ...job.said].join('\n'))
    if (!answer.away || performance.now() > giveUpAt) throw new Error(answer.why)
    await delay(lookMs, undefined, { signal: job.signal })
  }
}

type Asked<Answer> = { readonly found: Answer } | { readonly away: boolean; readonly why: string }

async function askOnce<Answer>({ url, signal }: Job, path: string, init: RequestInit): Promise<Asked<Answer>> {
  try {
    const response = await fetch(url + path, { ...init, signal })
    const answer: unknown = await response.json()
    if (response.ok) return { found: answer as Answer }
    const why = (answer as { detail?: string }).detail ?? `${path}: status ${response.status}`
    return { away: response.status === 503, why }
  } catch (thrown) {
    return { away: true, why: thrown instanceof Error ? thrown.message : String(thrown) }
  }
}

function tell(line: string): void {
  process.stdout.write(`${line}\n`)
}
