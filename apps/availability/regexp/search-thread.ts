/**
 * Searches pages in a thread of its own, which can be ended: linear time is no short time (a pattern of 900 instructions takes
 * 15 s for 1 MiB of text that was made for it), and the thread that also checks thousands of other sites must not stand still.
 *
 * 1. This very module is what the thread loads; so it works from sources and in a bundle.
 * 2. One search after another. One over its limit ends with its thread; the next search has a new one.
 * 3. The limit counts from when the thread takes the search, not while it starts or works on others.
 */
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import type { RE2JS } from 're2js'
import { compilePattern } from './pattern.ts'

const role = 'sluice-availability-search'
const compiledPatterns = 500

export interface Page {
  readonly body: Uint8Array
  /** As its head says; utf-8 where that is none. */
  readonly charset: string
}

/** `over`: it was ended at its limit, or too many wait. */
export type Searched = 'found' | 'missing' | 'over'

interface Job {
  readonly pattern: string
  readonly page: Page
  readonly resolve: (searched: Searched) => void
  readonly reject: (error: Error) => void
}

export class SearchThread {
  private readonly limitMs: number
  private readonly mostWaiting: number
  private readonly waiting: Job[] = []
  private busy = false
  private worker: Promise<Worker> | undefined

  constructor(limitMs: number, mostWaiting: number) {
    this.limitMs = limitMs
    this.mostWaiting = mostWaiting
  }

  /** @throws Error where no thread can start. */
  search(pattern: string, page: Page): Promise<Searched> {
    if (this.waiting.length >= this.mostWaiting) return Promise.resolve('over')
    return new Promise((resolve, reject) => {
      this.waiting.push({ pattern, page, resolve, reject })
      void this.serve()
    })
  }

  async close(): Promise<void> {
    const worker = this.worker
    this.worker = undefined
    await worker?.then(
      (running) => running.terminate(),
      () => {},
    )
  }

  private async serve(): Promise<void> {
    if (this.busy) return
    this.busy = true
    for (let job = this.waiting.shift(); job; job = this.waiting.shift()) {
      try {
        this.worker ??= started()
        job.resolve(await this.run(await this.worker, job))
      } catch (thrown) {
        this.worker = undefined
        job.reject(thrown as Error)
      }
    }
    this.busy = false
  }

  private run(worker: Worker, { pattern, page }: Job): Promise<Searched> {
    return new Promise((resolve) => {
      const end = (searched: Searched) => {
        clearTimeout(timer)
        worker.off('message', answered).off('exit', ended)
        worker.unref()
        if (searched === 'over') {
          this.worker = undefined
          void worker.terminate()
        }
        resolve(searched)
      }
      const answered = (searched: Searched) => end(searched)
      // it ran out of memory, for example
      const ended = () => end('over')
      const timer = setTimeout(ended, this.limitMs)
      worker.on('message', answered).on('exit', ended)
      worker.ref()
      worker.postMessage({ pattern, page })
    })
  }
}

function started(): Promise<Worker> {
  const worker = new Worker(fileURLToPath(import.meta.url), {
    workerData: role,
    resourceLimits: { maxOldGenerationSizeMb: 256 },
  })
  return new Promise((resolve, reject) => {
    worker.once('message', () => {
      worker.off('error', reject)
      // what ends it later is told by `exit`
      worker.on('error', () => {})
      resolve(worker)
    })
    worker.once('error', reject)
  })
}

/** The thread's side. */
function answer(): void {
  const known = new Map<string, RE2JS>()
  const compiled = (pattern: string) => {
    const found = known.get(pattern) ?? compilePattern(pattern)
    known.delete(pattern)
    known.set(pattern, found)
    for (const [oldest] of known) if (known.size > compiledPatterns) known.delete(oldest)
    return found
  }
  parentPort?.on('message', ({ pattern, page }: { pattern: string; page: Page }) => {
    parentPort?.postMessage(compiled(pattern).test(textOf(page)) ? 'found' : 'missing')
  })
  parentPort?.postMessage('ready')
}

function textOf({ body, charset }: Page): string {
  try {
    return new TextDecoder(charset).decode(body)
  } catch {
    return new TextDecoder().decode(body)
  }
}

if (!isMainThread && workerData === role) answer()
