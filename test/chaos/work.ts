/** Gives a house work all the time, as clients do who try again until they are answered. */
import { randomUUID } from 'node:crypto'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Catalog, CatalogMaker } from './catalogs.ts'
import type { House } from './house.ts'
import type { Randomness } from './randomness.ts'

/** Records on their way, so that some are in flight whenever something is killed. */
const enough = 150

export class Work {
  /** Everything that was handed over: an API that has answered 202, a command that has ended, a file that is in its folder. */
  readonly catalogs: Catalog[] = []
  /** Runs of batch work that were acknowledged, with what they must give. */
  readonly runs: { readonly id: string; readonly sum: number }[] = []
  /** Every run that was acknowledged, those that read catalogs among them. */
  readonly acknowledged: string[] = []
  readonly #house: House
  readonly #random: Randomness
  readonly #maker: CatalogMaker
  readonly #waiting = new Set<() => void>()
  #held: PromiseWithResolvers<void> | undefined
  #stopping = false
  #abandoned = false
  #going: Promise<unknown> = Promise.resolve()

  constructor(house: House, random: Randomness) {
    this.#house = house
    this.#random = random
    this.#maker = new CatalogMaker(random.fork())
  }

  /** @param failed is told once when work cannot be handed over. */
  start(failed: (thrown: unknown) => void): void {
    this.#stopping = false
    this.#going = Promise.all([this.#feedCatalogs(), this.#feedRuns()]).catch(failed)
  }

  /** Hands over what it has in hand, and gives no more. */
  async stop(): Promise<void> {
    this.#stopping = true
    await this.#going
  }

  /** Gives no more until `goOn`. What was handed over is worked on meanwhile. */
  hold(): void {
    this.#held ??= Promise.withResolvers()
  }

  goOn(): void {
    this.#held?.resolve()
    this.#held = undefined
  }

  /** Stops at once, whatever it has in hand. */
  abandon(): void {
    this.#stopping = true
    this.#abandoned = true
  }

  /** The next moment at which the API has answered that it took a catalog or a run. */
  acknowledgement(): Promise<void> {
    return new Promise((resolve) => this.#waiting.add(resolve))
  }

  async #mayGive(): Promise<boolean> {
    await this.#held?.promise
    return !this.#stopping
  }

  async #feedCatalogs(): Promise<void> {
    while (await this.#mayGive()) {
      if ((await this.#underWay()) > enough) await delay(50)
      else await this.#handOver(this.#maker.make())
    }
  }

  /** Records that were handed over and have not been passed by the offset; too many where nothing answers. */
  async #underWay(): Promise<number> {
    interface Detail {
      readonly totals: { readonly received: number; readonly queued: number }
    }
    try {
      const { totals } = await this.#house.ask<Detail>('/api/v1/streams/images')
      return this.catalogs.reduce((sum, { records }) => sum + records.length, 0) - totals.received + totals.queued
    } catch {
      return Number.POSITIVE_INFINITY
    }
  }

  async #handOver(catalog: Catalog): Promise<void> {
    const dice = this.#random.next()
    if (dice < 0.15) await this.#byFolder(catalog)
    else if (dice < 0.25) await this.#byCommand(catalog)
    else await this.#byApi(catalog)
    this.catalogs.push(catalog)
  }

  async #byFolder({ name, text }: Catalog): Promise<void> {
    const file = join(this.#house.folder, `${name}.part`)
    await writeFile(file, text)
    await rename(file, join(this.#house.folder, 'catalogs', `${name}.txt`))
  }

  async #byCommand({ name, text }: Catalog): Promise<void> {
    const file = join(this.#house.folder, `${name}.upload`)
    await writeFile(file, text)
    await this.#untilDone(`catalog add ${name}`, () => this.#house.command('catalog', 'add', file, '--name', name))
  }

  async #byApi({ name, text }: Catalog): Promise<void> {
    const headers = { 'content-type': 'text/plain', 'idempotency-key': randomUUID() }
    const { runId } = await this.#untilDone(`POST catalog ${name}`, () =>
      this.#house.ask<{ runId: string }>(`/api/v1/catalogs?name=${name}`, { method: 'POST', headers, body: text }),
    )
    this.#tell(runId)
  }

  async #feedRuns(): Promise<void> {
    while (await this.#mayGive()) {
      const n = this.#random.whole(1, 8)
      const headers = { 'content-type': 'application/json', 'idempotency-key': randomUUID() }
      const body = JSON.stringify({ params: { n } })
      const { id } = await this.#untilDone('POST run', () =>
        this.#house.ask<{ id: string }>('/api/v1/workflows/sums/runs', { method: 'POST', headers, body }),
      )
      let sum = n ** 2
      for (let value = 1; value <= n; value += 1) sum += value ** 2
      this.runs.push({ id, sum })
      this.#tell(id)
      await delay(this.#random.whole(300, 1_500))
    }
  }

  #tell(runId: string): void {
    this.acknowledged.push(runId)
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }

  /** What is refused for its content would be refused for ever, and is told at once. */
  async #untilDone<Answer>(what: string, attempt: () => Promise<Answer>): Promise<Answer> {
    const giveUpAt = performance.now() + 120_000
    for (;;) {
      try {
        return await attempt()
      } catch (thrown) {
        const message = thrown instanceof Error ? thrown.message : String(thrown)
        if (this.#abandoned || performance.now() > giveUpAt || / (4\d\d) /.test(message))
          throw new Error(`${what}: ${message}`)
        await delay(100)
      }
    }
  }
}
