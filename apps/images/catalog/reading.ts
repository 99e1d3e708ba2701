/** Reads the new lines of a catalog as records, and remembers what it has read. */
import { type CatalogLine, CatalogLines } from './catalog-lines.ts'
import type { CatalogState, CountedPrefix, ReadingPlan } from './catalog-state.ts'
import { urlFault } from './catalog-url.ts'

export interface LineRecord {
  readonly url: string
  readonly catalog: string
  readonly line: number
  readonly generation: number
  readonly refresh: boolean
}

export interface ReadingOptions {
  readonly name: string
  readonly plan: ReadingPlan
  /** Whether a last line without LF counts. */
  readonly rested: boolean
  readonly refresh: boolean
  /** Of the whole catalog. */
  readonly bytes: number
  readonly progress: (doneBytes: number, bytes: number) => void
}

export class Reading {
  readonly #options: ReadingOptions
  readonly #lines: CatalogLines
  #blank: number
  #malformed: number
  #tail: CatalogLine | undefined
  #unfinished = false

  constructor(options: ReadingOptions) {
    const { from } = options.plan
    this.#options = options
    this.#lines = new CatalogLines(from)
    this.#blank = from.blank
    this.#malformed = from.malformed
  }

  async *records(source: AsyncIterable<Uint8Array>): AsyncGenerator<LineRecord> {
    const { bytes, progress, rested } = this.#options
    for await (const piece of source) {
      for (const line of this.#lines.push(piece)) {
        if (line.text === '') this.#blank += 1
        else yield* this.#recordsOf(line)
      }
      progress(this.#lines.bytes, bytes)
    }
    const last = this.#lines.end()
    if (last === undefined) return
    if (!rested) {
      this.#unfinished = true
      return
    }
    this.#tail = last
    if (last.text !== '') yield* this.#recordsOf(last)
  }

  /** Call it when all records were taken. */
  found(): Pick<CatalogState, 'generation' | 'prefix' | 'tail' | 'unfinished'> & { readonly tailMalformed: boolean } {
    const tailMalformed = this.#tail !== undefined && this.#tail.text !== '' && urlFault(this.#tail.text) !== undefined
    const malformed = this.#malformed - (tailMalformed ? 1 : 0)
    const prefix: CountedPrefix = { ...this.#lines.prefix, blank: this.#blank, malformed }
    const { generation } = this.#options.plan
    return { generation, prefix, tail: this.#tail?.text ?? null, unfinished: this.#unfinished, tailMalformed }
  }

  *#recordsOf({ number, text }: CatalogLine): Generator<LineRecord> {
    const { name, plan, refresh } = this.#options
    if (urlFault(text) !== undefined) this.#malformed += 1
    // The line that had no LF when it was received, and has not changed since.
    if (number === plan.from.lines + 1 && text === plan.tail) return
    yield { url: text, catalog: name, line: number, generation: plan.generation, refresh }
  }
}
