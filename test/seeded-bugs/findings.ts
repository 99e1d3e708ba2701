/** What a scenario finds wrong, told as it is found. */
import type { Breach, CheckOptions } from '../invariants/check.ts'
import type { Gate } from './zombie.ts'

/** A world that can be asked what does not hold in it. */
interface World {
  breaches(options?: CheckOptions): Promise<readonly Breach[]>
}

/** Ends a scenario that has found what it was played for. */
class Enough extends Error {}

export class Findings {
  readonly #tell: (breach: Breach) => void
  readonly #told = new Set<string>()
  readonly #wanted: number | undefined
  readonly #gates: Gate[] = []
  #last: (() => Promise<void>) | undefined

  /** `wanted`: the scenario ends as soon as a breach of this invariant is found. */
  constructor(tell: (breach: Breach) => void, wanted?: number) {
    this.#tell = tell
    this.#wanted = wanted
  }

  /** Asks now, and once more if the scenario breaks down before it asks again. */
  async look(world: World, options: CheckOptions = {}): Promise<void> {
    this.#last = async () => {
      this.#add(await world.breaches({ ...options, atRest: false }))
    }
    this.#add(await world.breaches(options))
  }

  note(invariant: number, what: string): void {
    this.#add([{ invariant, what }])
  }

  /** What is broken stays broken: it is told once. */
  #add(breaches: readonly Breach[]): void {
    for (const breach of breaches) {
      if (this.#told.has(breach.what)) continue
      this.#told.add(breach.what)
      this.#tell(breach)
    }
    if (breaches.some(({ invariant }) => invariant === this.#wanted)) throw new Enough()
  }

  /** The gate is open when the scenario ends, wherever it ends: what waits there would wait for ever. */
  opened(gate: Gate): Gate {
    this.#gates.push(gate)
    return gate
  }

  /** Does what must succeed because an invariant says so. */
  async must<T>(invariant: number, what: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work()
    } catch (thrown) {
      if (isDeadline(thrown) || thrown instanceof Enough) throw thrown
      this.note(invariant, `${what}: ${thrown instanceof Error ? thrown.message : thrown}`)
      return undefined
    }
  }

  /** Runs the work of a scenario; when it does not end in time, asks what does not hold before the world is closed. */
  async within<W extends World & { close(): Promise<void> }>(world: W, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (thrown) {
      if (thrown instanceof Enough) return
      await this.#lookAgain(world)
      if (!isDeadline(thrown)) throw thrown
      this.#tell({ invariant: 9, what: (thrown as Error).message })
    } finally {
      for (const gate of this.#gates) gate.open()
      await world.close()
    }
  }

  async #lookAgain(world: World): Promise<void> {
    await (this.#last ?? (() => this.look(world)))().catch(() => {})
  }

  explain(thrown: unknown): string {
    return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)
  }
}

/** What `until` throws: something that had to end or to begin did not. */
const isDeadline = (thrown: unknown): boolean => thrown instanceof Error && thrown.message.startsWith('waited in vain')
