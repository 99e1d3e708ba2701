/**
 * Who may hold how much of one limit: decided whenever a node asks, on the limit's rows, under the lock of the limit.
 *
 * A node holds a grant (of slots that it fills and frees as it likes, or of tokens that it uses once) and has a line of
 * wishes. Its word says what it keeps and what it wishes; both are absolute, so that saying the same again, since the
 * answer was lost, changes nothing.
 *
 * 1. The grants of live nodes are never more than the capacity, unless that was lowered: then nothing is granted until
 *    they are below it. The tokens of a bucket and those that are granted are never more than its burst, so that in any
 *    time T at most `burst + rate * T` are used, however long a node keeps them.
 * 2. Wishes are met in one order over all nodes: priority, then age, then node. The first that does not fit holds up all
 *    behind it, so that a large one is not starved by small ones. One that could never fit is passed over.
 * 3. Only the node itself makes its grant smaller; anybody's word may make it larger.
 * 4. What nobody waits for goes to who asked last, so that a node alone asks once.
 */

/** Where somebody stands in line. */
export interface Place {
  /** Higher ones first. */
  readonly priority: number
  /** Milliseconds since the epoch; earlier ones first. */
  readonly since: number
}

/** `count` wishes of `amount` each, from one place in line on. */
export interface Wish extends Place {
  readonly amount: number
  readonly count: number
}

export interface Holding {
  readonly node: string
  readonly amount: number
  /** Tokens it ever used; of slots 0. */
  readonly used: number
  /** In order, at most `longestLine`. */
  readonly line: readonly Wish[]
}

/** A token bucket: `limit` tokens per `perMs`, at most `burst` at once. */
export interface Bucket {
  readonly limit: number
  readonly perMs: number
  readonly burst: number
  readonly level: number
  /** When the level was so, in milliseconds since the epoch. */
  readonly at: number
}

export interface LimitState {
  /** Slots; of a bucket its burst. */
  readonly capacity: number
  readonly bucket: Bucket | undefined
  /** Of live nodes. */
  readonly holdings: readonly Holding[]
  /** Tokens of nodes that are found dead now: they count as used at this moment. Of slots nothing: their attempts are gone. */
  readonly lapsed?: number
}

/** A place in the line of another node. */
export interface Elsewhere extends Place {
  readonly node: string
}

/** The word of a node about one limit. */
export interface Word {
  readonly node: string
  /** What it keeps of what it knows to hold. What was granted meanwhile is taken back, and granted again if it is wished. */
  readonly keep: number
  /** Tokens that it ever used, and how many milliseconds ago the last of them was. */
  readonly used: number
  readonly usedAgoMs: number
  readonly line: readonly Wish[]
}

export interface Answer {
  readonly capacity: number
  /** The node's grant. */
  readonly amount: number
  /** How much of it is held by all. */
  readonly held: number
  /** The first wish of another node that is not met. */
  readonly ahead: Elsewhere | undefined
  /** Of a bucket: when there is a token for the node's first wish, if nobody else takes it. */
  readonly retryInMs: number | undefined
  /** What is left of the node's line. */
  readonly line: readonly Wish[]
}

export interface Exchanged {
  readonly state: LimitState
  readonly answer: Answer
  /** Whether other nodes have to look: something was granted to them, or they hold what is wished. */
  readonly tell: boolean
}

/** Most wishes that a node tells; it tells more when these were met. */
export const longestLine = 16

export function isBefore(one: Place, other: Place): boolean {
  return one.priority !== other.priority ? one.priority > other.priority : one.since < other.since
}

/** The one order of all nodes: of two places that are alike, that of the lesser node is the first. */
export function isFirst(one: Elsewhere, other: Elsewhere): boolean {
  return isBefore(one, other) || (!isBefore(other, one) && one.node < other.node)
}

export function exchange(before: LimitState, word: Word, now: number): Exchanged {
  const nobody: Holding = { node: word.node, amount: 0, used: 0, line: [] }
  const mine = before.holdings.find(({ node }) => node === word.node) ?? nobody
  const others = before.holdings.filter(({ node }) => node !== word.node)
  const keep = Math.max(0, Math.min(mine.amount, word.keep))
  const bucket = before.bucket && refilled(before.bucket, before, { mine, keep, word }, now)
  const table = new Table(before.capacity, bucket, [
    ...others,
    { node: word.node, amount: keep, used: Math.max(mine.used, word.used), line: word.line },
  ])
  table.grantInOrder()
  if (!bucket && word.line.length > 0) table.grantRest(word.node)
  const ahead = table.firstOpen((node) => node !== word.node)
  const wishes = table.firstOpen((node) => node === word.node) !== undefined
  const { amount, held } = table.heldWith(word.node)
  // Who holds all of it waits for nobody else: that its own line moves on is no news then.
  if (!bucket && held === amount && held >= before.capacity && ahead === undefined) table.forgetLine(word.node)
  const state = table.state()
  const { line } = state.holdings.find(({ node }) => node === word.node)!
  const granted = others.some((other) => table.heldWith(other.node).amount > other.amount)
  const retryInMs = wishes && state.bucket ? untilNext(state.bucket) : undefined
  return {
    state,
    answer: { capacity: before.capacity, amount, held, ahead, retryInMs, line },
    tell: granted || (wishes && held > amount && !sameLine(mine.line, line)),
  }
}

const heldBy = (holdings: readonly Holding[]) => holdings.reduce((sum, { amount }) => sum + amount, 0)

function sameLine(one: readonly Wish[], other: readonly Wish[]): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}

/**
 * The bucket as it is now: it fills up to what its burst leaves beside the tokens granted. Those that were used made room
 * when the last of them was used, not when that was told; those that were given back go back into it.
 */
function refilled(
  bucket: Bucket,
  { holdings, lapsed = 0 }: LimitState,
  { mine, keep, word }: { readonly mine: Holding; readonly keep: number; readonly word: Word },
  now: number,
): Bucket {
  const held = heldBy(holdings) + lapsed
  const used = Math.max(0, Math.min(mine.amount - keep, word.used - mine.used))
  const present = Math.max(now, bucket.at)
  const usedAt = used > 0 ? Math.min(present, Math.max(bucket.at, now - word.usedAgoMs)) : present
  const full = filled(filled(bucket, bucket.burst - held, usedAt), bucket.burst - held + used, present)
  return { ...full, level: full.level + mine.amount - keep - used }
}

function filled(bucket: Bucket, most: number, at: number): Bucket {
  const gained = ((at - bucket.at) * bucket.limit) / bucket.perMs
  return { ...bucket, level: Math.min(most, bucket.level + gained), at }
}

/** Rounded up, so that who comes back then finds it; undefined of a bucket that does not fill. */
function untilNext({ level, limit, perMs }: Bucket): number | undefined {
  return limit > 0 ? Math.max(1, Math.ceil(((1 - level) * perMs) / limit)) : undefined
}

interface Seat {
  readonly node: string
  amount: number
  readonly used: number
  readonly line: Wish[]
}

/** One limit while wishes are met. */
class Table {
  readonly #capacity: number
  readonly #bucket: Bucket | undefined
  readonly #seats: readonly Seat[]
  #free: number

  constructor(capacity: number, bucket: Bucket | undefined, holdings: readonly Holding[]) {
    this.#capacity = capacity
    this.#bucket = bucket
    this.#seats = holdings
      .map((holding) => ({ ...holding, line: [...holding.line] }))
      .sort((one, other) => (one.node < other.node ? -1 : 1))
    this.#free = bucket ? Math.floor(bucket.level + 1e-9) : capacity - heldBy(holdings)
  }

  grantInOrder(): void {
    for (let seat = this.#next(); seat; seat = this.#next()) {
      const [wish] = seat.line as [Wish]
      const fitting = Math.min(wish.count, Math.floor(this.#free / wish.amount))
      if (fitting <= 0) return
      this.#give(seat, fitting * wish.amount)
      if (fitting < wish.count) {
        seat.line[0] = { ...wish, count: wish.count - fitting }
        return
      }
      seat.line.shift()
    }
  }

  /** When nobody else wishes anything that could be met. */
  grantRest(node: string): void {
    if (this.#free > 0 && this.#next((other) => other !== node) === undefined)
      this.#give(this.#seatOf(node), this.#free)
  }

  /** The first wish of these nodes that could be met and is not. */
  firstOpen(of: (node: string) => boolean): Elsewhere | undefined {
    const seat = this.#next(of)
    const wish = seat?.line[0]
    return wish && { node: seat.node, priority: wish.priority, since: wish.since }
  }

  heldWith(node: string): { amount: number; held: number } {
    return { amount: this.#seatOf(node).amount, held: heldBy(this.#seats) }
  }

  forgetLine(node: string): void {
    this.#seatOf(node).line.length = 0
  }

  state(): LimitState {
    const spent = this.#bucket ? Math.floor(this.#bucket.level + 1e-9) - this.#free : 0
    return {
      capacity: this.#capacity,
      bucket: this.#bucket && { ...this.#bucket, level: Math.max(0, this.#bucket.level - spent) },
      holdings: this.#seats,
    }
  }

  #seatOf(node: string): Seat {
    return this.#seats.find((seat) => seat.node === node)!
  }

  #give(seat: Seat, amount: number): void {
    seat.amount += amount
    this.#free -= amount
  }

  /** Whose turn it is. */
  #next(of: (node: string) => boolean = () => true): Seat | undefined {
    let first: Seat | undefined
    for (const seat of this.#seats) {
      if (!of(seat.node)) continue
      while (seat.line[0] && seat.line[0].amount > this.#capacity) seat.line.shift()
      if (seat.line[0] && (!first || isBefore(seat.line[0], first.line[0]!))) first = seat
    }
    return first
  }
}
