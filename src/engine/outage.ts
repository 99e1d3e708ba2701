/**
 * Tells an outage once when it begins, and once when it ends: work that is tried again until it goes well would fill the
 * log with what its first line said.
 */
export interface OutageParts {
  /** What fails, as in "reading runs again failed". */
  readonly what: string
  /** What the ids name, to be counted; default: nothing is counted. */
  readonly counted?: string
  readonly note: (line: string) => void
  /** Milliseconds of any clock that nobody sets. */
  readonly now: () => number
}

export class Outage {
  private began: number | undefined
  /** What has failed and not gone well since; and all of this outage. */
  private readonly failing = new Set<string>()
  private readonly affected = new Set<string>()
  private readonly parts: OutageParts

  constructor(parts: OutageParts) {
    this.parts = parts
  }

  failed(ids: readonly string[], why: string): void {
    for (const id of ids) {
      this.failing.add(id)
      this.affected.add(id)
    }
    if (this.began !== undefined) return
    this.began = this.parts.now()
    this.parts.note(`${this.parts.what} failed, and is tried until it goes well: ${why}`)
  }

  /** It went well for these, or nobody tries any longer. The outage ends when nothing is left that has failed. */
  over(ids: readonly string[], how: 'goes well again' | 'is given up' = 'goes well again'): void {
    for (const id of ids) this.failing.delete(id)
    if (this.began === undefined || this.failing.size > 0) return
    const { what, counted, note, now } = this.parts
    const seconds = ((now() - this.began) / 1_000).toFixed(1)
    note(`${what} ${how} after ${seconds} s${counted === undefined ? '' : ` (${counted}: ${this.affected.size})`}`)
    this.began = undefined
    this.affected.clear()
  }
}
