import { FetchFailure } from './fetch-failure.ts'

/** Where a fetch has been: it goes nowhere twice, and not on for ever. */
export class Redirects {
  readonly #been: string[]
  readonly #most: number

  constructor(first: URL, most: number) {
    this.#been = [first.href]
    this.#most = most
  }

  get followed(): number {
    return this.#been.length - 1
  }

  /** @throws FetchFailure `redirect-loop` */
  follow({ href }: URL): void {
    if (this.#been.includes(href)) {
      throw new FetchFailure('redirect-loop', `a redirect back to ${href.slice(0, 200)}`)
    }
    if (this.#been.length > this.#most) {
      throw new FetchFailure('redirect-loop', `more than ${this.#most} redirects, the last to ${href.slice(0, 200)}`)
    }
    this.#been.push(href)
  }
}
