/** The rows of limits in the simulation: the statements of `src/store` that read and write them, under the same guards. */
import type { Holding } from '../../src/core/limit-exchange.ts'
import type { DeclaredLimit, LimitKind } from '../../src/core/limit-names.ts'
import type { SimRun } from './store.ts'

interface LimitRow {
  readonly kind: LimitKind
  readonly name: string
  readonly declared: number | null
  readonly per_ms: number | null
  readonly burst: number | null
  /** What a person has set. */
  override: number | null
  level: number | null
  level_at: number | null
}

interface GrantRow {
  readonly kind: LimitKind
  readonly name: string
  readonly value: string
  readonly node_id: string
  readonly amount: number
  readonly used: number
  readonly line: Holding['line']
}

type Columns = readonly (readonly unknown[])[]

export class LimitRows {
  /** What was told on the channel of limits and nobody has heard yet. */
  readonly news: string[] = []
  /** Whether the lease of a node holds; set by the world. */
  isAlive: (nodeId: string) => boolean = () => true
  readonly #limits = new Map<string, LimitRow>()
  readonly #grants = new Map<string, GrantRow>()
  readonly #runs: ReadonlyMap<string, SimRun>
  readonly #now: () => number

  constructor(runs: ReadonlyMap<string, SimRun>, now: () => number) {
    this.#runs = runs
    this.#now = now
  }

  declare(limits: readonly DeclaredLimit[]): void {
    for (const { kind, name, slots, rate } of limits) {
      const given = { declared: slots, per_ms: rate?.perMs ?? null, burst: rate?.burst ?? null }
      this.#limits.set(`${kind}:${name}`, { kind, name, ...given, override: null, level: null, level_at: null })
    }
  }

  set(id: string, override: number | null): void {
    this.#limits.get(id)!.override = override
    this.news.push(`- ${id}`)
  }

  /** Whether a run of the workflow must be admitted before it is taken. */
  isLimited(workflow: string): boolean {
    return slotsOf(this.#limits.get(`runs:${workflow}`)) !== null
  }

  /** The rows of a statement, or undefined for one that is not of limits. */
  query(name: string, values: readonly unknown[]): unknown[] | undefined {
    const columns = values as Columns
    if (name === 'limits.lock') return this.#lock(columns)
    if (name === 'limits.read_grants') return this.#readGrants(columns)
    if (name === 'limits.write') return this.#write(columns)
    if (name === 'limits.find_runs' || name === 'limits.lock_runs') return this.#full()
    if (name === 'limits.admit_runs') return this.#admit(columns[0] as readonly string[])
    return undefined
  }

  execute(name: string, values: readonly unknown[]): number | undefined {
    if (name === 'limits.node_is_live') return this.isAlive(values[0] as string) ? 1 : 0
    if (name !== 'limits.make') return undefined
    const [kinds, names] = values as Columns
    for (const [at, kind] of kinds!.entries()) {
      const id = `${kind}:${names![at]}`
      const place = { kind: kind as LimitKind, name: names![at] as string }
      const nothing = { declared: null, per_ms: null, burst: null, override: null, level: null, level_at: null }
      if (!this.#limits.has(id)) this.#limits.set(id, { ...place, ...nothing })
    }
    return kinds!.length
  }

  #lock([kinds, names]: Columns): unknown[] {
    const ids = kinds!.map((kind, at) => `${kind}:${names![at]}`).sort()
    return ids.flatMap((id) => {
      const row = this.#limits.get(id)
      if (!row) return []
      const { kind, name, per_ms, burst, level, level_at } = row
      return [{ kind, name, slots: slotsOf(row), per_ms, burst, level, level_at, now: this.#now() }]
    })
  }

  #readGrants([kinds, names, values]: Columns): unknown[] {
    const wanted = new Set(kinds!.map((kind, at) => `${kind} ${names![at]} ${values![at]}`))
    return [...this.#grants.values()]
      .filter(({ kind, name, value }) => wanted.has(`${kind} ${name} ${value}`))
      .map((grant) => ({ ...grant, live: this.isAlive(grant.node_id) }))
  }

  #write(columns: Columns): unknown[] {
    const key = (at: number, [kinds, names, values, nodes]: Columns) =>
      `${kinds![at]} ${names![at]} ${values![at]} ${nodes![at]}`
    const put = columns.slice(0, 7)
    const gone = columns.slice(7, 11)
    // One statement sees the rows as they were: what it puts and what it removes are never the same row.
    for (const at of gone[0]!.keys()) this.#grants.delete(key(at, gone))
    for (const at of put[0]!.keys()) {
      const [kind, name, value, node_id, amount, used, line] = put.map((column) => column[at])
      const lines = JSON.parse(line as string)
      this.#grants.set(key(at, put), { kind, name, value, node_id, amount, used, line: lines } as GrantRow)
    }
    const [names, levels, times, news] = columns.slice(11) as [string[], number[], number[], string[]]
    for (const [at, name] of names.entries())
      Object.assign(this.#limits.get(`rate:${name}`)!, { level: levels[at], level_at: times[at] })
    this.news.push(...news)
    return []
  }

  #full(): { name: string }[] {
    const waits = (workflow: string) => [...this.#runs.values()].some((run) => isWaiting(run, workflow))
    return [...this.#limits.values()].filter((row) => row.kind === 'runs' && slotsOf(row) !== null && waits(row.name))
  }

  #admit(names: readonly string[]): unknown[] {
    for (const name of names) {
      const own = [...this.#runs.values()].filter(({ workflow }) => workflow === name)
      const active = own.filter(({ state, admitted }) => state === 'running' || (state === 'queued' && admitted))
      const free = Math.max(0, (slotsOf(this.#limits.get(`runs:${name}`)) ?? 0) - active.length)
      const next = own.filter((run) => isWaiting(run, name)).sort((one, other) => other.priority - one.priority)
      for (const run of next.slice(0, free)) run.admitted = true
    }
    return []
  }
}

const slotsOf = (row: LimitRow | undefined): number | null => row?.override ?? row?.declared ?? null

const isWaiting = ({ workflow, state, admitted }: SimRun, name: string): boolean =>
  workflow === name && state === 'queued' && !admitted
