/** Asks a child process what bundled definitions say, and names the file that does not let it answer. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import type { WorkflowFunctions } from '../../core/fingerprint.ts'
import type { EntryManifest } from '../../core/manifest.ts'
import { type Fault, SluiceError } from '../../errors.ts'
import { plainEnvironment } from '../config.ts'
import { moduleFile, nodeFlags } from '../own-process.ts'
import type { Described } from './manifest-of.ts'

export type Entry = EntryManifest

/** What the child is given on standard input. */
export interface Job {
  readonly what: 'definitions' | 'config'
  /** Absolute, without symbolic links. */
  readonly folder: string
  readonly entries: readonly Entry[]
}

export interface Evaluated {
  readonly files: readonly string[]
  readonly described: Described
  /** The faults of each file that has any, whether or not it could be imported. */
  readonly broken: { readonly [file: string]: readonly Fault[] }
  /** By workflow. */
  readonly functions: { readonly [workflow: string]: WorkflowFunctions }
}
export type EvaluatedConfig = { readonly config: object | null; readonly faults: readonly Fault[] }
export type Told = { readonly working: string } | Evaluated | EvaluatedConfig

export interface EvaluateOptions {
  readonly projectDir: string
  /** How long one file may take; default 30 s. */
  readonly timeLimitMs?: number
}

/** `files` of the result could be imported. A file on which the child ends or hangs is left out, and the child starts anew. */
export async function evaluate(job: Job, options: EvaluateOptions): Promise<Evaluated | EvaluatedConfig> {
  const faults: Fault[] = []
  let entries = job.entries
  for (;;) {
    const outcome = await askChild({ ...job, entries }, options)
    if (!('stopped' in outcome)) return withFaults(outcome, faults)
    const left = entries.filter(({ file }) => file !== outcome.at)
    if (left.length === entries.length)
      throw new SluiceError('INTERNAL', `The definitions could not be read: ${outcome.stopped}`)
    faults.push({ where: `${outcome.at}:1:1`, message: outcome.stopped })
    entries = left
  }
}

function withFaults(told: Evaluated | EvaluatedConfig, faults: readonly Fault[]): Evaluated | EvaluatedConfig {
  if ('config' in told) return { ...told, faults: [...faults, ...told.faults] }
  const ended = faults.map((fault) => [fault.where.slice(0, -':1:1'.length), [fault]] as const)
  return {
    ...told,
    described: { ...told.described, faults: [...faults, ...told.described.faults] },
    broken: { ...told.broken, ...Object.fromEntries(ended) },
  }
}

type Outcome = Evaluated | EvaluatedConfig | { readonly stopped: string; readonly at: string | undefined }

/** How long the child may take to start. */
const startMs = 60_000

async function askChild(job: Job, { projectDir, timeLimitMs = 30_000 }: EvaluateOptions): Promise<Outcome> {
  const child = spawn(process.execPath, [...nodeFlags, moduleFile(import.meta.url, './evaluate-main')], {
    cwd: projectDir,
    env: plainEnvironment(),
    stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
  })
  const [input, , errors, told] = child.stdio as unknown as [Writable, null, Readable, Readable]
  let at: string | undefined
  let answer: Evaluated | EvaluatedConfig | undefined
  let late = false
  let complaint = ''
  const stop = () => {
    late = true
    child.kill('SIGKILL')
  }
  // Until it is at a file, none of the author's code has run.
  let timer = setTimeout(stop, Math.max(timeLimitMs, startMs))
  errors.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-4_000)
  })
  createInterface({ input: told }).on('line', (line) => {
    clearTimeout(timer)
    timer = setTimeout(stop, timeLimitMs)
    const news = heard(line)
    if (news === undefined) complaint += `${line}\n`
    else if ('working' in news) at = news.working
    else answer = news
  })
  // A child that is gone before it read its job says so by its end.
  input.on('error', () => {}).end(JSON.stringify(job))
  const ended = await new Promise<string>((resolve, reject) => {
    child
      .on('error', reject)
      .on('close', (code, signal) => resolve(code === null ? String(signal) : `exit code ${code}`))
  })
  clearTimeout(timer)
  if (answer !== undefined) return answer
  if (late)
    return { stopped: `it takes longer than ${timeLimitMs / 1000} s to import; a definition file only defines`, at }
  if (ended === 'exit code 13') return { stopped: 'it awaits something at its top level that never comes', at }
  const last =
    complaint
      .trim()
      .split('\n')
      .findLast((line) => /error/i.test(line)) ?? ''
  return { stopped: `importing it ends the process (${ended})${last ? `: ${last.trim().slice(0, 300)}` : ''}`, at }
}

/** Undefined for what is none of ours: authors' code may write to any descriptor. */
function heard(line: string): Told | undefined {
  try {
    return JSON.parse(line) as Told
  } catch {
    return undefined
  }
}
