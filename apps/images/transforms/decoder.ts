/**
 * The process in which hostile bytes are decoded: it has no secret, no environment and no connection but the pipes to the
 * pool that started it. It answers questions from standard input on standard output, and ends when its input does.
 *
 * - First comes `{ ready }`. A question is `{ id, names, maxPixels }` and the raw bytes.
 * - Before a picture of over `smallPixels` is decoded, the pool is asked with `{ id, wants }` and answers `{ id, granted }`.
 * - The answer is `{ id, facts, made }` and the bytes of what was made, `{ id, refused }` or `{ id, failed }`.
 */
import { writeFile } from 'node:fs/promises'
import { FrameReader, frame } from './frames.ts'
import { ImageError, type ImageReason } from './image-error.ts'
import { type ImageFacts, inspect } from './inspect.ts'
import { type ImageTransform, nameOf, type Transformed } from './transform.ts'

/** Pictures up to this many pixels are decoded without asking: one takes 64 MB at most. */
const smallPixels = 4_000_000

export interface Question {
  readonly id: number
  /** Of the transforms to apply, `name@version`. */
  readonly names: readonly string[]
  readonly maxPixels: number
}

export type ToDecoder = Question | { readonly id: number; readonly granted: true }

/** One thing made, without its bytes, of which it has so many. */
type MadeHeader = Omit<Transformed, 'bytes'> & { readonly bytes: number }

export type FromDecoder =
  | { readonly ready: true }
  | { readonly id: number; readonly wants: number }
  | { readonly id: number; readonly facts: ImageFacts; readonly made: readonly MadeHeader[] }
  | { readonly id: number; readonly refused: { readonly reason: ImageReason; readonly detail: string } }
  | { readonly id: number; readonly failed: string }

/** Answers until the input ends; then the process is gone at once, whatever is being decoded. */
export function answerQuestions(transforms: readonly ImageTransform[]): void {
  const byName = new Map(transforms.map((transform) => [nameOf(transform), transform]))
  const waiting = new Map<number, () => void>()
  const say = (header: FromDecoder, parts: readonly Uint8Array[] = []) => {
    for (const part of frame(header, parts)) process.stdout.write(part)
  }
  const grant = (id: number, wants: number) =>
    new Promise<void>((resolve) => {
      waiting.set(id, resolve)
      say({ id, wants })
    })

  const answer = async ({ id, names, maxPixels }: Question, raw: Buffer) => {
    try {
      const facts = await inspect(raw, { maxPixels })
      const pixels = facts.width * facts.height
      if (names.length > 0 && pixels > smallPixels) await grant(id, pixels)
      const made: Transformed[] = []
      for (const name of names) {
        const transform = byName.get(name)
        if (transform === undefined) throw new Error(`no transform is named ${name}`)
        made.push(await transform.apply(raw, facts))
      }
      const headers = made.map((one) => ({ ...one, bytes: one.bytes.length }))
      say(
        { id, facts, made: headers },
        made.map(({ bytes }) => bytes),
      )
    } catch (thrown) {
      if (thrown instanceof ImageError) say({ id, refused: { reason: thrown.reason, detail: thrown.detail } })
      else say({ id, failed: String(thrown) })
    }
  }

  const reader = new FrameReader<ToDecoder>((header, bytes) => {
    if ('names' in header) return void answer(header, bytes)
    waiting.get(header.id)?.()
    waiting.delete(header.id)
  })
  process.stdin.on('data', (piece: Buffer) => reader.push(piece))
  process.stdin.on('close', () => process.kill(process.pid, 'SIGKILL'))
  process.stdout.on('error', () => process.kill(process.pid, 'SIGKILL'))
  // Ctrl-C goes to the whole group of a terminal: what is under way is still wanted while the shard drains.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
  void preferToDie()
  say({ ready: true })
}

/** Where memory runs out, Linux ends this process before any other of ours. */
async function preferToDie(): Promise<void> {
  await writeFile('/proc/self/oom_score_adj', '500').catch(() => undefined)
}
