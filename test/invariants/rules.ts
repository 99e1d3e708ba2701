/**
 * Whether each node started, or was left out, only when its rule said so: decided again from the manifest and the log.
 * The rules are told here as predicates over the ends of the nodes before; a node that is open has none.
 */
import { statement } from '../../src/ports/database.ts'
import type { Invariant, Snapshot } from './breach.ts'

type End = 'success' | 'failed' | 'skipped' | 'upstream_failed' | 'cancelled' | 'removed'
type Ends = readonly (End | undefined)[]

const isBad = (end: End | undefined) => end === 'failed' || end === 'cancelled' || end === 'upstream_failed'
const isGood = (end: End | undefined) => end === 'success' || end === 'skipped'
const all = (ends: Ends, holds: (end: End | undefined) => boolean) => ends.every(holds)
const some = (ends: Ends, holds: (end: End | undefined) => boolean) => ends.some(holds)
const known = (end: End | undefined) => end !== undefined
const only = (...wanted: readonly End[]) => {
  return (end: End | undefined) => end !== undefined && wanted.includes(end)
}

interface Rule {
  readonly starts: (ends: Ends) => boolean
  readonly skips: (ends: Ends) => boolean
  readonly blocks: (ends: Ends) => boolean
}

const never = () => false

/** What each rule may do by these ends. Where two are true, both were right at some moment: the first answer stays. */
const rules: Readonly<Record<string, Rule>> = {
  all_success: {
    starts: (ends) => all(ends, only('success')),
    skips: (ends) => some(ends, only('skipped')),
    blocks: (ends) => some(ends, isBad),
  },
  all_done: { starts: (ends) => all(ends, known), skips: never, blocks: never },
  all_failed: { starts: (ends) => all(ends, isBad), skips: (ends) => some(ends, isGood), blocks: never },
  one_success: {
    starts: (ends) => some(ends, only('success')),
    skips: (ends) => all(ends, only('skipped')),
    blocks: (ends) => all(ends, (end) => known(end) && end !== 'success') && some(ends, isBad),
  },
  one_failed: { starts: (ends) => some(ends, isBad), skips: (ends) => all(ends, isGood), blocks: never },
  one_done: {
    starts: (ends) => some(ends, only('success', 'failed', 'cancelled')),
    skips: (ends) => all(ends, only('skipped', 'upstream_failed')),
    blocks: never,
  },
  none_failed: { starts: (ends) => all(ends, isGood), skips: never, blocks: (ends) => some(ends, isBad) },
  none_failed_min_one_success: {
    starts: (ends) => all(ends, isGood) && some(ends, only('success')),
    skips: (ends) => all(ends, only('skipped')),
    blocks: (ends) => some(ends, isBad),
  },
  none_skipped: {
    starts: (ends) => all(ends, (end) => known(end) && end !== 'skipped'),
    skips: (ends) => some(ends, only('skipped')),
    blocks: never,
  },
  always: { starts: () => true, skips: never, blocks: never },
}

interface NodeOfManifest {
  readonly id: string
  readonly upstream: readonly number[]
  readonly stage?: number
  readonly rule: string
  readonly over?: unknown
}
interface ManifestOfVersion {
  readonly workflows: readonly { readonly name: string; readonly nodes: readonly NodeOfManifest[] }[]
}

/** Of one node of one run, as its log and its list say. */
interface NodeRow {
  readonly run_id: string
  readonly node: number
  /** The number in the log of its first start. */
  readonly started: number | null
  /** It ended without any start: how, and its number in the log. */
  readonly unstarted: End | null
  readonly unstarted_at: number | null
  readonly error: string | null
  readonly width: number | null
  readonly ended: number
  readonly ended_at: number | null
  readonly failed: number
  readonly succeeded: number
}

const versionsStatement = statement<{ hash: string; manifest: ManifestOfVersion }>(
  'invariant.rules.versions',
  'select hash, manifest from sluice.versions v where exists (select from sluice.runs r where r.version = v.hash)',
)

const runsStatement = statement<{
  id: string
  workflow: string
  version: string
  state: string
  error: string | null
  wished: boolean
}>(
  'invariant.rules.runs',
  `select r.id, r.workflow, r.version, r.state, r.error, exists (select from sluice.inbox i where i.run_id = r.id and i.kind = 'cancel') as wished
   from sluice.runs r
   where r.seq > 0 and exists (select from sluice.transitions t where t.run_id = r.id and t.seq = 1)`,
)

const nodesStatement = statement<NodeRow>(
  'invariant.rules.nodes',
  `with told as (
     select t.run_id, t.node, min(t.seq) filter (where t.from_state = 'none' and t.to_state = 'running') as started,
       min(t.to_state) filter (where t.attempt = 0) as unstarted,
       min(t.seq) filter (where t.attempt = 0) as unstarted_at, min(t.detail) filter (where t.attempt = 0) as error,
       count(*) filter (where t.attempt > 0 and t.to_state not in ('running', 'up_for_retry')) as ended,
       max(t.seq) filter (where t.attempt > 0 and t.to_state not in ('running', 'up_for_retry')) as ended_at,
       count(*) filter (where t.attempt > 0 and t.to_state = 'failed') as failed,
       count(*) filter (where t.attempt > 0 and t.to_state = 'success') as succeeded
     from sluice.transitions t where t.node >= 0 group by t.run_id, t.node
   )
   select coalesce(t.run_id, m.run_id) as run_id, coalesce(t.node, m.node) as node, t.started, t.unstarted, t.unstarted_at, t.error,
     m.width, coalesce(t.ended, 0) as ended, t.ended_at, coalesce(t.failed, 0) as failed, coalesce(t.succeeded, 0) as succeeded
   from told t full join sluice.map_ranges m on m.run_id = t.run_id and m.node = t.node`,
)

/** 5. No task starts, and no node is left out, before its rule says so; a run is judged by the ends of its nodes. */
export const ruleInvariants: readonly Invariant[] = [{ number: 5, when: 'always', find: judgeRuns }]

async function judgeRuns({ session }: Snapshot): Promise<string[]> {
  const versions = new Map((await session.query(versionsStatement)).map((row) => [row.hash, row.manifest]))
  const nodes = Map.groupBy(await session.query(nodesStatement), (row) => row.run_id)
  const found: string[] = []
  for (const run of await session.query(runsStatement)) {
    const workflow = versions.get(run.version)?.workflows.find(({ name }) => name === run.workflow)
    if (workflow === undefined) {
      if (run.state !== 'failed')
        found.push(`run ${run.id} is ${run.state}; its version has no workflow ${run.workflow}`)
      continue
    }
    const judge = new RunJudge(workflow.nodes, nodes.get(run.id) ?? [])
    for (const what of judge.faults(run)) found.push(`run ${run.id} of ${run.workflow}: ${what}`)
  }
  return found
}

const forever = Number.POSITIVE_INFINITY

class RunJudge {
  readonly #nodes: readonly NodeOfManifest[]
  readonly #rows: ReadonlyMap<number, NodeRow>
  readonly #before: readonly (readonly number[])[]

  constructor(nodes: readonly NodeOfManifest[], rows: readonly NodeRow[]) {
    this.#nodes = nodes
    this.#rows = new Map(rows.map((row) => [row.node, row]))
    this.#before = nodes.map(({ upstream, stage }) => {
      const stageBefore = nodes.flatMap((node, index) =>
        stage !== undefined && node.stage === stage - 1 ? [index] : [],
      )
      return [...new Set([...upstream, ...stageBefore])]
    })
  }

  *faults(run: { state: string; error: string | null; wished: boolean }): Generator<string> {
    const cancelled = run.state === 'cancelled' || run.wished
    for (const [index, row] of this.#rows) {
      const node = this.#nodes[index]
      if (node === undefined) continue
      const rule = rules[node.rule]!
      if (row.started !== null && !this.#holds(index, row.started, rule.starts))
        yield `${node.id} started at number ${row.started}; ${node.rule} of ${this.#told(index, row.started)}`
      if (row.started !== null && node.over !== undefined && row.width === null)
        yield `${node.id} started without its list`
      if (row.unstarted === null) continue
      const at = row.unstarted_at ?? 0
      const right =
        row.unstarted === 'skipped'
          ? this.#holds(index, at, rule.skips)
          : row.unstarted === 'upstream_failed'
            ? this.#holds(index, at, row.error === null ? rule.blocks : rule.starts)
            : row.unstarted === 'cancelled' && cancelled
      if (!right) yield `${node.id} is ${row.unstarted} at number ${at}; ${node.rule} of ${this.#told(index, at)}`
    }
    yield* this.#verdict(run)
  }

  /** A run has succeeded when all nodes ended, and those that nothing waits for ended well. */
  *#verdict({ state, error }: { state: string; error: string | null }): Generator<string> {
    const judged = state === 'success' || (state === 'failed' && /^(failed|could not start): /.test(error ?? ''))
    if (!judged) return
    const awaited = new Set(this.#before.flat())
    let bad = false
    for (const [index, node] of this.#nodes.entries()) {
      const end = this.#endAt(index, forever)
      if (end === undefined) yield `it is ${state}, and ${node.id} has not ended`
      bad ||= !awaited.has(index) && !isGood(end)
    }
    if (bad !== (state === 'failed')) yield `it is ${state}, and ${bad ? 'a' : 'no'} last node ended badly`
  }

  /** Whether a predicate holds of the ends that were told before a number of the log. */
  #holds(index: number, at: number, predicate: (ends: Ends) => boolean): boolean {
    const before = this.#before[index]!
    if (before.length === 0) return predicate === rules[this.#nodes[index]!.rule]!.starts
    return predicate(before.map((up) => this.#endAt(up, at)).filter((end) => end !== 'removed'))
  }

  #endAt(index: number, at: number): End | undefined {
    const row = this.#rows.get(index)
    if (row === undefined) return undefined
    if (row.unstarted !== null) return (row.unstarted_at ?? forever) < at ? row.unstarted : undefined
    const width = this.#nodes[index]!.over === undefined ? 1 : row.width
    // An empty list has no rows: it is done as soon as its own rule holds.
    if (width === 0) return this.#holds(index, at, rules[this.#nodes[index]!.rule]!.starts) ? 'success' : undefined
    if (width === null || row.ended < width || row.ended_at === null || row.ended_at >= at) return undefined
    return row.failed > 0 ? 'failed' : row.succeeded === width ? 'success' : 'cancelled'
  }

  #told(index: number, at: number): string {
    return this.#before[index]!.map((up) => `${this.#nodes[up]!.id} ${this.#endAt(up, at) ?? 'open'}`).join(', ')
  }
}
