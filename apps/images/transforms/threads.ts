/**
 * Transforms in threads of their own. Turning a picture of 640x480 keeps an event loop busy for 5 ms; in the process that
 * also fetches and commits, that loop was the limit (measured on 2 cores: 138 pictures/s, one core idle half the time).
 *
 * 1. A thread loads this very module, which then answers instead of asking; so it works from sources and in a bundle.
 * 2. Threads start with the first picture and end after a minute without one.
 * 3. A thread that dies fails what it had under way, as something that can be tried again; the next picture starts another.
 */
import { availableParallelism } from 'node:os'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { ImageError, type ImageReason } from './image-error.ts'
import type { ImageFacts } from './inspect.ts'
import { further, main } from './registry.ts'
import type { ImageTransform, Transformed } from './transform.ts'

const role = 'sluice-images transforms'
/** While one picture of a thread is being decoded, it turns another. */
const picturesPerThread = 2
const idleMs = 60_000
/** Left alone, a thread's young generation grows to 74 MB though 15 are in use; the rate is the same with 8. */
const youngMb = 8

interface Question {
  readonly id: number
  readonly transform: string
  readonly raw: Uint8Array
  readonly facts: ImageFacts
}

type Answer =
  | { readonly id: number; readonly made: Omit<Transformed, 'bytes'> & { readonly bytes: Uint8Array } }
  | { readonly id: number; readonly refused: { readonly reason: ImageReason; readonly detail: string } }
  | { readonly id: number; readonly failed: string }

interface Job {
  readonly question: Question
  readonly resolve: (made: Transformed) => void
  readonly reject: (error: Error) => void
}

/** The same transform, applied in a thread. */
export function threaded(transform: ImageTransform): ImageTransform {
  return { ...transform, apply: (raw, facts) => ask(nameOf(transform), raw, facts) }
}

const nameOf = ({ name, version }: ImageTransform): string => `${name}@${version}`

class Thread {
  readonly jobs = new Map<number, Job>()
  private readonly worker: Worker
  private idle: NodeJS.Timeout | undefined

  constructor() {
    const resourceLimits = { maxYoungGenerationSizeMb: youngMb }
    this.worker = new Worker(new URL(import.meta.url), { workerData: { role }, name: role, resourceLimits })
    this.worker.on('message', (answer: Answer) => this.hear(answer))
    this.worker.on('error', (error) => this.end(error.message))
    this.worker.on('exit', (code) => this.end(`it ended with code ${code}`))
    // What is under way keeps the process alive, not the thread that waits for more.
    this.worker.unref()
  }

  ask(job: Job): void {
    clearTimeout(this.idle)
    this.worker.ref()
    this.jobs.set(job.question.id, job)
    this.worker.postMessage(job.question)
  }

  private hear(answer: Answer): void {
    const job = this.jobs.get(answer.id)
    this.jobs.delete(answer.id)
    if ('made' in answer) job?.resolve({ ...answer.made, bytes: asBuffer(answer.made.bytes) })
    else if ('refused' in answer) job?.reject(new ImageError(answer.refused.reason, answer.refused.detail))
    else job?.reject(new Error(answer.failed))
    if (this.jobs.size === 0) {
      this.worker.unref()
      this.idle = setTimeout(() => this.end('it was idle'), idleMs).unref()
    }
    serve()
  }

  private end(why: string): void {
    clearTimeout(this.idle)
    threads.delete(this)
    void this.worker.terminate()
    for (const job of this.jobs.values()) job.reject(new Error(`the thread of a transform is gone: ${why}`))
    this.jobs.clear()
    serve()
  }
}

const threads = new Set<Thread>()
const waiting: Job[] = []
let asked = 0

function ask(transform: string, raw: Buffer, facts: ImageFacts): Promise<Transformed> {
  return new Promise((resolve, reject) => {
    asked += 1
    waiting.push({ question: { id: asked, transform, raw, facts }, resolve, reject })
    serve()
  })
}

function serve(): void {
  while (waiting.length > 0) {
    let free: Thread | undefined
    for (const thread of threads) if (thread.jobs.size < (free?.jobs.size ?? picturesPerThread)) free = thread
    if ((free === undefined || free.jobs.size > 0) && threads.size < availableParallelism()) {
      free = new Thread()
      threads.add(free)
    }
    if (free === undefined) return
    free.ask(waiting.shift()!)
  }
}

function answerQuestions(port: NonNullable<typeof parentPort>): void {
  const transforms = new Map([main, ...further].map((transform) => [nameOf(transform), transform]))
  port.on('message', async ({ id, transform, raw, facts }: Question) => {
    try {
      const made = await transforms.get(transform)!.apply(asBuffer(raw), facts)
      port.postMessage({ id, made } satisfies Answer)
    } catch (error) {
      const refused = error instanceof ImageError ? { reason: error.reason, detail: error.detail } : undefined
      port.postMessage((refused ? { id, refused } : { id, failed: String(error) }) satisfies Answer)
    }
  })
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

if (!isMainThread && parentPort && (workerData as { role?: string } | null)?.role === role) answerQuestions(parentPort)
