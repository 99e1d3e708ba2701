/**
 * Pictures are decoded and turned in processes of their own. Their bytes come from strangers, and the decoders are large
 * programs in C: what ends, hangs or floods one of them must not cost more than the picture that did it. And turning a picture
 * of 640x480 keeps an event loop busy for 5 ms; in the process that also fetches and commits, that loop was the limit.
 *
 * 1. A decoder loads this very module, which then answers instead of asking; so it works from sources and in a bundle.
 * 2. As many as there are cores, each with two pictures: while one is being decoded, another is turned. They start with
 *    the first picture, and end after a minute without one, or with this process.
 * 3. When a decoder ends by itself, or takes longer than `limitMs` for a picture and is killed, its pictures are tried again, each
 *    alone in a decoder, so that the innocent one is told from the other. A picture whose decoder ended `maxTries` times, or
 *    that takes too long when it is alone, is `corrupt`.
 * 4. A decoder that cannot even start fails what waits, as something that may go better another time.
 * 5. Pictures of over 4 million pixels share 64 million pixels over all decoders of this process; the largest go alone.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { answerQuestions, type FromDecoder, type Question } from './decoder.ts'
import { FrameReader, frame } from './frames.ts'
import { ImageError } from './image-error.ts'
import { defaultMaxPixels, type ImageFacts } from './inspect.ts'
import { PixelBudget } from './pixel-budget.ts'
import { registered } from './registry.ts'
import { type ImageTransform, nameOf, type Transformed } from './transform.ts'

const role = 'sluice-images-decoder'
const picturesPerDecoder = 2
const idleMs = 60_000
/** A decoder that is not ready by then never will be. It takes 0.3 s on a quiet machine. */
const startMs = 60_000
/** Left alone, the young generation grows far beyond what is in use; the rate is the same with little. */
const flags = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=8']
const budgetPixels = 64_000_000

/** What a header says of raw bytes, and what was made of them, in the order of the transforms. */
export interface Turned {
  readonly facts: ImageFacts
  readonly made: readonly Transformed[]
}

export interface DecodersOptions {
  /** A module that answers as a decoder when it is started with `sluice-images-decoder` as its argument. */
  readonly program?: string
  /** Milliseconds for one picture in a decoder, waiting apart. The largest take 3 s on a quiet machine. Default 30,000. */
  readonly limitMs?: number
  /** Default 3: the second and third time alone. */
  readonly maxTries?: number
  /** Default: one for each core. */
  readonly processes?: number
  readonly maxPixels?: number
}

interface Job {
  readonly question: Question
  readonly raw: Uint8Array
  readonly resolve: (turned: Turned) => void
  readonly reject: (error: Error) => void
  /** Aborted: nobody waits for it any more. */
  readonly signal: AbortSignal | undefined
  tries: number
}

/** Decodes in processes: `turn` asks, `close` ends them all. */
export class Decoders {
  private readonly options: Required<DecodersOptions>
  private readonly running = new Set<Decoder>()
  private readonly waiting: Job[] = []
  private readonly budget = new PixelBudget(budgetPixels)
  private asked = 0
  private closed = false

  constructor(options: DecodersOptions = {}) {
    this.options = {
      program: fileURLToPath(import.meta.url),
      limitMs: 30_000,
      maxTries: 3,
      processes: availableParallelism(),
      maxPixels: defaultMaxPixels,
      ...options,
    }
  }

  /**
   * Looks at raw bytes and applies transforms, which may be none.
   * @throws ImageError; the reason of `signal` when it aborts; an Error where no decoder can start, or after `close`.
   */
  turn(raw: Uint8Array, transforms: readonly ImageTransform[], signal?: AbortSignal): Promise<Turned> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted()
      if (this.closed) throw new Error('the decoders were closed')
      this.asked += 1
      const { maxPixels } = this.options
      const job: Job = {
        question: { id: this.asked, names: transforms.map(nameOf), maxPixels },
        raw,
        signal,
        tries: 0,
        resolve: (turned) => {
          signal?.removeEventListener('abort', abort)
          resolve(turned)
        },
        reject: (error) => {
          signal?.removeEventListener('abort', abort)
          reject(error)
        },
      }
      const abort = () => {
        const at = this.waiting.indexOf(job)
        if (at >= 0) this.waiting.splice(at, 1)
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', abort, { once: true })
      this.waiting.push(job)
      this.serve()
    })
  }

  /** Whatever is under way or waits fails. */
  close(): void {
    this.closed = true
    for (const job of this.waiting.splice(0)) job.reject(new Error('the decoders were closed'))
    for (const decoder of this.running) decoder.kill('the decoders were closed')
  }

  private serve(): void {
    for (;;) {
      const job = this.waiting[0]
      if (job === undefined) return
      const decoder = this.placeFor(job)
      if (decoder === undefined) return
      this.waiting.shift()
      decoder.take(job)
    }
  }

  /** One that has nothing to do before a fresh one, a fresh one before a second picture. */
  private placeFor(job: Job): Decoder | undefined {
    let least: Decoder | undefined
    for (const decoder of this.running) {
      if (decoder.jobs.size < (least?.jobs.size ?? picturesPerDecoder) && !decoder.isAlone) least = decoder
    }
    if (least?.jobs.size === 0) return least
    if (this.running.size < this.options.processes) return this.start()
    return job.tries === 0 ? least : undefined
  }

  private start(): Decoder {
    const decoder: Decoder = new Decoder(this.options, this.budget, {
      free: () => this.serve(),
      retired: () => this.running.delete(decoder),
      ended: (why, started, jobs, slow) => {
        this.running.delete(decoder)
        if (started && !this.closed) this.tryAgain(why, jobs, slow)
        else for (const job of [...jobs, ...this.waiting.splice(0)]) job.reject(new Error(why))
        this.serve()
      },
    })
    this.running.add(decoder)
    return decoder
  }

  private tryAgain(why: string, jobs: readonly Job[], slow: boolean): void {
    for (const job of jobs) {
      job.tries += 1
      const again = job.tries < this.options.maxTries && !(slow && job.tries > 1)
      if (job.signal?.aborted) continue
      if (again) this.waiting.unshift(job)
      else job.reject(new ImageError('corrupt', `its decoder ended ${job.tries} times: ${why}`))
    }
  }
}

interface Hears {
  free(): void
  /** It takes no more. */
  retired(): void
  /** `slow`: it was killed for the time that one of the jobs took. */
  ended(why: string, started: boolean, jobs: readonly Job[], slow: boolean): void
}

class Decoder {
  readonly jobs = new Map<number, Job>()
  private readonly child: ChildProcess
  private readonly limitMs: number
  private readonly budget: PixelBudget
  private readonly hears: Hears
  private readonly limits = new Map<number, NodeJS.Timeout>()
  private readonly leaves = new Map<number, () => void>()
  private started = false
  private idle: NodeJS.Timeout | undefined
  private killedFor: string | undefined
  private slow = false
  private gone = false

  constructor({ program, limitMs }: Required<DecodersOptions>, budget: PixelBudget, hears: Hears) {
    this.limitMs = limitMs
    this.budget = budget
    this.hears = hears
    this.child = spawn(process.execPath, [...flags, program, role], {
      stdio: ['pipe', 'pipe', 'inherit'],
      // Nothing of ours is passed on. Many arenas of glibc would hold back what large pictures took.
      env: { MALLOC_ARENA_MAX: '2' },
    })
    const reader = new FrameReader<FromDecoder>((header, bytes) => this.hear(header, bytes))
    this.child.stdout?.on('data', (piece: Buffer) => {
      try {
        reader.push(piece)
      } catch (thrown) {
        this.kill(String(thrown))
      }
    })
    // It went: its end says more than the pipe.
    this.child.stdin?.on('error', () => {})
    this.child.on('error', (error) => this.end(`it could not start: ${error.message}`))
    this.child.on('close', (code, signal) =>
      this.end(signal === null ? `it ended with code ${code}` : `it ended by ${signal}`),
    )
    this.hold(false)
  }

  /** Nothing else is given to it while it tries something again. */
  get isAlone(): boolean {
    for (const job of this.jobs.values()) if (job.tries > 0) return true
    return false
  }

  take(job: Job): void {
    clearTimeout(this.idle)
    this.hold(true)
    this.jobs.set(job.question.id, job)
    this.limit(job.question.id)
    this.say(job.question, [job.raw])
  }

  kill(why: string): void {
    this.killedFor ??= why
    this.hears.retired()
    this.child.kill('SIGKILL')
  }

  private say(header: object, parts?: readonly Uint8Array[]): void {
    const { stdin } = this.child
    stdin?.cork()
    for (const part of frame(header, parts)) stdin?.write(part)
    stdin?.uncork()
  }

  private hear(header: FromDecoder, bytes: Buffer): void {
    if ('ready' in header) {
      this.started = true
      for (const id of this.jobs.keys()) this.limit(id)
      return
    }
    if ('wants' in header) {
      this.grant(header.id, header.wants)
      return
    }
    const job = this.forget(header.id)
    if ('made' in header) job?.resolve({ facts: header.facts, made: split(header.made, bytes) })
    else if ('refused' in header) job?.reject(new ImageError(header.refused.reason, header.refused.detail))
    else job?.reject(new Error(header.failed))
    if (this.jobs.size === 0) {
      this.hold(false)
      this.idle = setTimeout(() => this.retire(), idleMs).unref()
    }
    this.hears.free()
  }

  private grant(id: number, pixels: number): void {
    clearTimeout(this.limits.get(id))
    void this.budget.enter(pixels).then((leave) => {
      if (!this.jobs.has(id)) return leave()
      this.leaves.set(id, leave)
      this.limit(id)
      this.say({ id, granted: true })
    })
  }

  private limit(id: number): void {
    clearTimeout(this.limits.get(id))
    const limitMs = this.started ? this.limitMs : startMs
    const timer = setTimeout(() => {
      this.slow = true
      this.kill(`it took longer than ${limitMs} ms`)
    }, limitMs)
    this.limits.set(id, timer)
  }

  private forget(id: number): Job | undefined {
    const job = this.jobs.get(id)
    this.jobs.delete(id)
    clearTimeout(this.limits.get(id))
    this.limits.delete(id)
    this.leaves.get(id)?.()
    this.leaves.delete(id)
    return job
  }

  /** What is under way keeps this process alive, not the decoder that waits for more. */
  private hold(busy: boolean): void {
    const pipes = [this.child.stdin, this.child.stdout] as unknown as (NodeJS.RefCounted | null)[]
    for (const one of [this.child, ...pipes]) busy ? one?.ref() : one?.unref()
  }

  private retire(): void {
    this.hears.retired()
    this.child.stdin?.end()
  }

  private end(why: string): void {
    if (this.gone) return
    this.gone = true
    clearTimeout(this.idle)
    const jobs = [...this.jobs.keys()].flatMap((id) => this.forget(id) ?? [])
    this.hears.ended(this.killedFor ?? why, this.started, jobs, this.slow)
  }
}

function split(
  made: readonly (Omit<Transformed, 'bytes'> & { readonly bytes: number })[],
  bytes: Buffer,
): Transformed[] {
  let from = 0
  return made.map((one) => {
    const to = from + one.bytes
    const transformed = { ...one, bytes: bytes.subarray(from, to) }
    from = to
    return transformed
  })
}

const shared = new Decoders()

/** `Decoders.turn` of the decoders that this process shares. */
export const turn: Decoders['turn'] = (raw, transforms, signal) => shared.turn(raw, transforms, signal)

if (process.argv[2] === role) answerQuestions(registered)
