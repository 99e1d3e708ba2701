/** A binary heap. The least item, by the order given, is the first. */
export class Heap<Item> {
  readonly #items: Item[] = []
  readonly #before: (one: Item, other: Item) => boolean

  /** `before` must be a total order; items must not change their place in it while they are here. */
  constructor(before: (one: Item, other: Item) => boolean) {
    this.#before = before
  }

  get size(): number {
    return this.#items.length
  }

  peek(): Item | undefined {
    return this.#items[0]
  }

  push(item: Item): void {
    const items = this.#items
    let child = items.push(item) - 1
    while (child > 0) {
      const parent = (child - 1) >> 1
      if (!this.#before(items[child]!, items[parent]!)) return
      this.#swap(parent, child)
      child = parent
    }
  }

  pop(): Item | undefined {
    const items = this.#items
    const first = items[0]
    const last = items.pop()
    if (first === undefined || items.length === 0) return first
    items[0] = last!
    let parent = 0
    for (;;) {
      const left = parent * 2 + 1
      let least = parent
      if (left < items.length && this.#before(items[left]!, items[least]!)) least = left
      if (left + 1 < items.length && this.#before(items[left + 1]!, items[least]!)) least = left + 1
      if (least === parent) return first
      this.#swap(parent, least)
      parent = least
    }
  }

  /** The items in order, without taking them. To look at the first n of many costs O(n log n), whatever is behind them. */
  *inOrder(): Generator<Item> {
    const items = this.#items
    const next = new Heap<number>((one, other) => this.#before(items[one]!, items[other]!))
    if (items.length > 0) next.push(0)
    for (let at = next.pop(); at !== undefined; at = next.pop()) {
      yield items[at]!
      for (const child of [at * 2 + 1, at * 2 + 2]) if (child < items.length) next.push(child)
    }
  }

  /** The items in no order. */
  [Symbol.iterator](): Iterator<Item> {
    return this.#items[Symbol.iterator]()
  }

  #swap(one: number, other: number): void {
    const kept = this.#items[one]!
    this.#items[one] = this.#items[other]!
    this.#items[other] = kept
  }
}
