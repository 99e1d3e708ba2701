/**
 * A large catalog by the watched folder and by upload, with what each process of Sluice takes of memory while its lines
 * are read:
 *
 *   node --conditions=sluice-source --disable-warning=ExperimentalWarning test/large-catalog.ts [lines=1000000]
 *
 * Every line is a URL of its own, which an origin of this process answers with 404; their records are not waited for. A
 * tenth of the lines goes first, to warm up. Exit code 1 when a count is wrong, or a process takes 64 MB more for all lines
 * the second time than the first: what grows with lines would.
 */

import { createWriteStream, openAsBlob } from 'node:fs'
import { mkdir, readdir, readFile, rename } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { listening } from './loopback.ts'
import { projectOf, startSluice, until } from './sluice-process.ts'

const lines = Number(process.argv[2] ?? 1_000_000)
const mostGrowth = 64 * 1_048_576
const longestMs = 1_800_000

interface Run {
  readonly id: string
  readonly state: string
  readonly workflow: string
}

interface Memory {
  readonly name: string
  readonly bytes: number
}

const origin = createServer((_, response) => response.writeHead(404).end())
const web = {
  kind: 'fetch',
  rewrite: [{ from: 'https://many.test', to: `http://127.0.0.1:${await listening(origin)}` }],
}
const project = await projectOf('images', { SLUICE_CONNECTION_WEB: JSON.stringify(web) })
const server = await startSluice(project)
const phases = ['before', 'tenth', 'folder', 'upload'] as const
type Phase = (typeof phases)[number]
/** Of each process, the most in each phase. */
const peaks = new Map<string, Partial<Record<Phase, number>>>()
let phase: Phase = 'before'
let failed = false
await look()
const sampling = setInterval(look, 200)
try {
  for (phase of phases.slice(1)) await measure(phase, phase === 'tenth' ? Math.ceil(lines / 10) : lines)
} finally {
  clearInterval(sampling)
  await server.stop()
  origin.close()
  await project.remove()
}
for (const [name, most] of peaks) {
  if (name !== 'postgres' && (most.upload ?? 0) - (most.folder ?? 0) > mostGrowth) failed = true
  const figures = phases.map((one) => `${one} ${mebibytes(most[one] ?? 0)} MB`)
  process.stdout.write(`${name.padEnd(9)} ${figures.join(', ')}\n`)
}
process.exitCode = failed ? 1 : 0

async function look(): Promise<void> {
  const now = phase
  for (const { name, bytes } of await memory()) {
    const most = peaks.get(name) ?? {}
    peaks.set(name, { ...most, [now]: Math.max(bytes, most[now] ?? 0) })
  }
}

async function measure(way: Phase, count: number): Promise<void> {
  const staged = join(project.folder, `${way}.part`)
  await pipeline(Readable.from(urls(way, count)), createWriteStream(staged))
  const startedAt = performance.now()
  if (way !== 'upload') {
    await mkdir(join(project.folder, 'catalogs'), { recursive: true })
    await rename(staged, join(project.folder, `catalogs/${way}.txt`))
  } else {
    const init = { method: 'POST', headers: { 'content-type': 'text/plain' }, body: await openAsBlob(staged) }
    const answer = await fetch(`${server.url}/api/v1/catalogs?name=upload`, init)
    if (answer.status !== 202) throw new Error(await answer.text())
    process.stdout.write(`upload: taken after ${seconds(startedAt)} s\n`)
  }
  const runs = () => server.get<{ items: Run[] }>('/api/v1/runs?limit=1&workflow=catalog')
  const wanted = phases.indexOf(way)
  const run = await until(
    async () => {
      const { items } = await server.get<{ items: Run[] }>('/api/v1/runs?workflow=catalog')
      return items.length === wanted ? (await runs()).items[0] : undefined
    },
    (found) => found !== undefined && found.state !== 'queued' && found.state !== 'running',
    longestMs,
  )
  const took = (performance.now() - startedAt) / 1_000
  const tasks = await server.get<{ items: { id: string; name: string }[] }>(`/api/v1/runs/${run!.id}/tasks`)
  const last = tasks.items.find(({ name }) => name === 'publish-lines')
  const { result } = await server.get<{ result: { published: number; lines: number } | null }>(
    `/api/v1/tasks/${last!.id}`,
  )
  if (result?.published !== count || result.lines !== count) failed = true
  const rate = Math.round(count / took)
  process.stdout.write(`${way}: ${run!.state}, ${JSON.stringify(result)} in ${took.toFixed(1)} s, ${rate} lines/s\n`)
}

function* urls(way: string, lines: number): Generator<string> {
  for (let from = 0; from < lines; from += 1_000) {
    const count = Math.min(1_000, lines - from)
    yield Array.from({ length: count }, (_, at) => `https://many.test/${way}/${from + at}\n`).join('')
  }
}

/** Resident memory of the processes that this one has started, by what they are. */
async function memory(): Promise<Memory[]> {
  const names = await readdir('/proc')
  const found = await Promise.all(names.filter((name) => /^\d+$/.test(name)).map(processOf))
  const all = new Map(found.filter((one) => one !== undefined).map((one) => [one.pid, one]))
  const own = (pid: number): boolean => pid === process.pid || childOfOwn(all.get(pid)?.parent)
  const childOfOwn = (parent: number | undefined): boolean => parent !== undefined && parent > 1 && own(parent)
  const sums = new Map<string, number>()
  for (const one of all.values()) {
    if (one.pid !== process.pid && own(one.pid)) sums.set(one.name, (sums.get(one.name) ?? 0) + one.bytes)
  }
  return [...sums].map(([name, bytes]) => ({ name, bytes }))
}

async function processOf(id: string) {
  try {
    const [command, status] = await Promise.all([
      readFile(`/proc/${id}/cmdline`, 'utf8'),
      readFile(`/proc/${id}/status`, 'utf8'),
    ])
    const number = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0)
    const name =
      /(engine|serving|shard|runner)-main/.exec(command)?.[1] ?? (/postgres/.test(command) ? 'postgres' : 'other')
    return { pid: Number(id), parent: number('PPid'), bytes: number('VmRSS') * 1_024, name }
  } catch {
    return undefined
  }
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1_000).toFixed(1)
}

function mebibytes(bytes: number): string {
  return (bytes / 1_048_576).toFixed(0).padStart(5)
}
