/**
 * Searches of all sites of a process. A pattern that took longer than `quickMs` goes to a thread for those from then on: it waits
 * for others of its kind, and no other for it.
 */
import { type Page, type Searched, SearchThread } from './search-thread.ts'

/** A page of 1 MiB takes 10 ms with a pattern that means well. */
const quickMs = 100
const slowMs = 1_000
/** Searches that wait for a turn; with more the rest are over their limit. */
const mostQuick = 10_000
const mostSlow = 10
/** Patterns that are remembered as slow; the one that was seen longest ago is forgotten first. */
const slowPatterns = 1_000

export class Searches {
  private readonly quick: SearchThread
  private readonly slow: SearchThread
  private readonly known = new Set<string>()

  constructor(limits: { readonly quickMs?: number; readonly slowMs?: number } = {}) {
    this.quick = new SearchThread(limits.quickMs ?? quickMs, mostQuick)
    this.slow = new SearchThread(limits.slowMs ?? slowMs, mostSlow)
  }

  /** @throws Error where no thread can start. */
  async search(pattern: string, page: Page): Promise<Searched> {
    if (!this.known.has(pattern)) {
      const searched = await this.quick.search(pattern, page)
      if (searched !== 'over') return searched
    }
    this.known.delete(pattern)
    this.known.add(pattern)
    for (const oldest of this.known) if (this.known.size > slowPatterns) this.known.delete(oldest)
    return this.slow.search(pattern, page)
  }

  async close(): Promise<void> {
    await Promise.all([this.quick.close(), this.slow.close()])
  }
}
