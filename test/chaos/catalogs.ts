/** Catalogs as strangers write them, and the oracle: how each of their lines must end, whatever was killed meanwhile. */
import type { HeldOrigin } from './held-origin.ts'
import type { Randomness } from './randomness.ts'

/** How the first line with this text ends; `good` ones end as pictures. */
type Kind = 'good' | 'malformed' | 'blocked by policy' | 'http error' | 'not an image' | 'corrupt'

export interface Catalog {
  readonly name: string
  /** The bytes that arrive. */
  readonly text: string
  /** Every line that is not blank, with its number. */
  readonly records: readonly { readonly line: number; readonly url: string; readonly kind: Kind }[]
}

/** They stand for the origin; each has a place of its own among those that are asked at once. */
export const hosts = ['one.test', 'two.test', 'three.test', 'four.test'] as const

/** Makes catalogs that share lines with each other. */
export class CatalogMaker {
  readonly #random: Randomness
  readonly #made: { readonly url: string; readonly kind: Kind }[] = []
  #count = 0

  constructor(random: Randomness) {
    this.#random = random
  }

  make(): Catalog {
    const random = this.#random
    const name = `catalog-${++this.#count}`
    const end = random.chance(0.5) ? '\n' : '\r\n'
    const lines: string[] = []
    const records: Catalog['records'][number][] = []
    const wanted = random.whole(20, 60)
    for (let at = 0; at < wanted; at += 1) {
      if (random.chance(0.05)) {
        lines.push('')
        continue
      }
      const made = random.chance(0.15) && this.#made.length > 0 ? random.pick(this.#made) : this.#fresh(`${name}-${at}`)
      this.#made.push(made)
      lines.push(made.url)
      records.push({ line: lines.length, ...made })
    }
    const mark = random.chance(0.3) ? '\uFEFF' : ''
    const last = random.chance(0.7) || lines.at(-1) === '' ? end : ''
    return { name, text: mark + lines.join(end) + last, records }
  }

  #fresh(seed: string): { url: string; kind: Kind } {
    const random = this.#random
    const at = (path: string) => `https://${random.pick(hosts)}${path}`
    const size = `/${random.whole(8, 40)}/${random.whole(8, 40)}`
    const dice = random.next()
    if (dice < 0.03) return { url: at(`/error/${seed}`), kind: 'http error' }
    if (dice < 0.05) return { url: at(`${size}?type=html&n=${seed}`), kind: 'not an image' }
    if (dice < 0.07) return { url: at(`/90/90?cut=30&n=${seed}`), kind: 'corrupt' }
    if (dice < 0.09) return { url: `no URL ${seed}`, kind: 'malformed' }
    if (dice < 0.11) return { url: `http://169.254.169.254/${seed}`, kind: 'blocked by policy' }
    if (dice < 0.15) return { url: at(`${size}?seed=${seed}&flaky=1`), kind: 'good' }
    // The same bytes under several names: all but one are duplicates.
    if (dice < 0.2) return { url: at(`/16/16?seed=same${random.whole(1, 40)}`), kind: 'good' }
    return { url: at(`${size}?seed=${seed}`), kind: 'good' }
  }
}

/** What the sum of all catalogs must be. */
export interface Expected {
  readonly received: number
  readonly written: number
  readonly duplicate: number
  readonly rejected: number
  readonly rejectedByReason: Readonly<Record<string, number>>
  /** By sha256 of its bytes: the lines of each picture, `catalog line url`, in order. */
  readonly pictures: ReadonlyMap<string, readonly string[]>
}

export async function expectedOf(catalogs: readonly Catalog[], origin: HeldOrigin): Promise<Expected> {
  const reasons = new Map<string, number>()
  const first = new Set<string>()
  const pictures = new Map<string, string[]>()
  let received = 0
  for (const { name, records } of catalogs) {
    for (const { line, url, kind } of records) {
      received += 1
      const again = first.has(url)
      first.add(url)
      if (kind === 'good') {
        // A URL that fails at first has the picture that it gives in the end.
        const sha256 = await origin.sha256Of(url.replace(/^https:\/\/[^/]+/, '').replace(/&flaky=1$/, ''))
        pictures.set(sha256, [...(pictures.get(sha256) ?? []), `${name} ${line} ${url}`])
      } else if (!again) reasons.set(kind, (reasons.get(kind) ?? 0) + 1)
    }
  }
  const rejected = [...reasons.values()].reduce((sum, count) => sum + count, 0)
  const rejectedByReason = Object.fromEntries([...reasons].sort(([a], [b]) => (a < b ? -1 : 1)))
  for (const lines of pictures.values()) lines.sort()
  const written = pictures.size
  return { received, written, duplicate: received - written - rejected, rejected, rejectedByReason, pictures }
}
