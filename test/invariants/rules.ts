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
export const rules: Readonly<Record<string, Rule>> = {
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
  readonly kind?: string
  readonly upstream: readonly number[]
  readonly stage?: number
  readonly rule: string
  readonly over?: unknown
  readonly arms?: readonly { readonly branch: number; readonly arm: string }[]
  readonly choices?: readonly string[]
  readonly teardownOf?: number
}
interface ManifestOfVersion {
  readonly workflows: readonly { readonly name: string; readonly nodes: readonly NodeOfManifest[] }[]
}

/** Of one node of one run, since it was last cleared, as its log and its list say. */
interface NodeRow {
  readonly run_id: string
  readonly node: number
  /** The number in the log of its first start. */
  readonly started: number | null
  /** It ended without any start: how, and its number in the log. */
  readonly unstarted: End | null
  readonly unstarted_at: number | null
  readonly error: string | null
  /** JSON text: what a branch chose. */
  readonly result: string | null
  readonly width: number | null
  readonly begun: number
  readonly ended: number
  readonly ended_at: number | null
  readonly failed: number
  readonly cancelled: number
  readonly succeeded: number
}

const versionsStatement = statement<{ hash: string; manifest: ManifestOfVersion }>(
  'invariant.rules.versions',
  'select hash, manifest from sluice.versions v where exists (select from sluice.runs r where r.version = v.hash)',
)

interface RunRow {
  readonly id: string
  readonly workflow: string
  readonly version: string
  readonly state: string
  readonly error: string | null
  /** Nothing of it was to start any more: somebody wished it, its time was over, or it may be over by now. */
  readonly stopped: boolean
}

const runsStatement = statement<RunRow>(
  'invariant.rules.runs',
  `select r.id, r.workflow, r.version, r.state, r.error,
     exists (select from sluice.inbox i where i.run_id = r.id and i.kind = 'cancel')
       or exists (select from sluice.transitions t where t.run_id = r.id and t.node = -1
         and (t.to_state = 'cancelled' or (t.to_state = 'failed' and t.detail like 'TIMEOUT: the run%')))
       or exists (select from sluice.versions v, json_array_elements(v.manifest -> 'workflows') w
         where v.hash = r.version and w.value ->> 'name' = r.workflow
           and r.started_at + (w.value ->> 'timeoutMs')::float8 * interval '1 ms' < sluice.sluice_now()) as stopped
   from sluice.runs r
   where r.seq > 0 and exists (select from sluice.transitions t where t.run_id = r.id and t.seq = 1)`,
)

const nodesStatement = statement<NodeRow>(
  'invariant.rules.nodes',
  `with log as (
     select t.*, max(t.seq) filter (where t.to_state = 'none') over (partition by t.run_id, t.node, t.map_index) as cleared
     from sluice.transitions t where t.node >= 0
   ), marked as (
     select *, from_state = 'none' and to_state in ('running', 'deferred') as begins,
       to_state in ('success', 'failed', 'skipped', 'upstream_failed', 'cancelled') as ends
     from log where cleared is null or seq > cleared
   ), told as (
     select t.run_id, t.node, min(t.seq) filter (where begins) as started,
       min(t.to_state) filter (where ends and from_state = 'none' and map_index = -1) as unstarted,
       min(t.seq) filter (where ends and from_state = 'none' and map_index = -1) as unstarted_at,
       min(t.detail) filter (where ends and from_state = 'none' and map_index = -1) as error,
       count(*) filter (where begins) as begun,
       count(*) filter (where ends and not (from_state = 'none' and map_index = -1)) as ended,
       max(t.seq) filter (where ends and not (from_state = 'none' and map_index = -1)) as ended_at,
       count(*) filter (where to_state = 'failed' and from_state <> 'none') as failed,
       count(*) filter (where to_state = 'cancelled' and not (from_state = 'none' and map_index = -1)) as cancelled,
       count(*) filter (where to_state = 'success' and from_state <> 'none') as succeeded
     from marked t group by t.run_id, t.node
   )
   select coalesce(t.run_id, m.run_id) as run_id, coalesce(t.node, m.node) as node, t.started, t.unstarted, t.unstarted_at, t.error,
     k.result, m.width, coalesce(t.begun, 0) as begun, coalesce(t.ended, 0) as ended, t.ended_at, coalesce(t.failed, 0) as failed,
     coalesce(t.cancelled, 0) as cancelled, coalesce(t.succeeded, 0) as succeeded
   from told t full join sluice.map_ranges m on m.run_id = t.run_id and m.node = t.node
   left join sluice.tasks k on k.run_id = t.run_id and k.node = t.node and k.map_index = -1 and t.unstarted = 'success'`,
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
    const judge = new RunJudge(workflow.nodes, nodes.get(run.id) ?? [], run.stopped)
    for (const what of judge.faults(run)) found.push(`run ${run.id} of ${run.workflow}: ${what}`)
  }
  return found
}

const forever = Number.POSITIVE_INFINITY

class RunJudge {
  readonly #nodes: readonly NodeOfManifest[]
  readonly #rows: ReadonlyMap<number, NodeRow>
  readonly #before: readonly (readonly number[])[]
  readonly #stopped: boolean

  constructor(nodes: readonly NodeOfManifest[], rows: readonly NodeRow[], stopped: boolean) {
    this.#nodes = nodes
    this.#stopped = stopped
    this.#rows = new Map(rows.map((row) => [row.node, row]))
    this.#before = nodes.map(({ upstream, stage }) => {
      const stageBefore = nodes.flatMap((node, index) =>
        stage !== undefined && node.stage === stage - 1 && node.teardownOf === undefined ? [index] : [],
      )
      return [...new Set([...upstream, ...stageBefore])]
    })
  }

  *faults(run: RunRow): Generator<string> {
    for (const [index, row] of this.#rows) {
      const node = this.#nodes[index]
      if (node === undefined) continue
      if (row.started !== null && !this.#may('run', index, row.started))
        yield `${node.id} started at number ${row.started}; ${this.#told(index, row.started)}`
      if (row.started !== null && node.over !== undefined && row.width === null)
        yield `${node.id} started without its list`
      if (row.unstarted === null) continue
      const at = row.unstarted_at ?? 0
      if (!this.#mayEndUnstarted(index, row, at))
        yield `${node.id} is ${row.unstarted} at number ${at}; ${this.#told(index, at)}`
    }
    yield* this.#verdict(run)
  }

  #mayEndUnstarted(index: number, { unstarted, error }: NodeRow, at: number): boolean {
    const { kind = 'action', teardownOf } = this.#nodes[index]!
    if (unstarted === 'skipped') return this.#may('skip', index, at)
    if (unstarted === 'upstream_failed') return this.#may(error === null ? 'block' : 'run', index, at)
    if (unstarted === 'cancelled') return this.#stopped && teardownOf === undefined
    return ['branch', 'wait', 'approval'].includes(kind) && this.#may('run', index, at)
  }

  /** A run has succeeded when all nodes ended, and those that nothing but teardowns waits for ended well. */
  *#verdict({ state, error }: RunRow): Generator<string> {
    const judged =
      state === 'success' || (state === 'failed' && /^(failed|cancelled|could not start): /.test(error ?? ''))
    if (!judged) return
    const awaited = new Set(this.#before.flatMap((ups, index) => (this.#isTeardown(index) ? [] : ups)))
    let bad = false
    for (const [index, node] of this.#nodes.entries()) {
      const end = this.#endAt(index, forever)
      if (end === undefined) yield `it is ${state}, and ${node.id} has not ended`
      bad ||= !awaited.has(index) && !this.#isTeardown(index) && !isGood(end)
    }
    if (bad !== (state === 'failed')) yield `it is ${state}, and ${bad ? 'a' : 'no'} last node ended badly`
  }

  #isTeardown(index: number): boolean {
    return this.#nodes[index]!.teardownOf !== undefined
  }

  /** Whether a node may run, be skipped or be blocked by the ends that were told before a number of the log. */
  #may(what: 'run' | 'skip' | 'block', index: number, at: number): boolean {
    const { arms = [], rule, teardownOf } = this.#nodes[index]!
    const branches = arms.map(({ branch }) => this.#endAt(branch, at))
    // A branch that has not ended before another of them says no: the first decides.
    for (const [nth, { branch, arm }] of arms.entries()) {
      const end = branches[nth]
      if (end === undefined) return false
      if (end === 'skipped' || (end === 'success' && !this.#chosen(branch).includes(arm))) return what === 'skip'
    }
    const ends = this.#before[index]!.map((up) => this.#endAt(up, at)).filter((end) => end !== 'removed')
    if (teardownOf !== undefined) {
      if (!ends.every(known)) return false
      const made = this.#endAt(teardownOf, at)
      return what === (made === 'success' ? 'run' : made === 'skipped' ? 'skip' : 'block')
    }
    if (ends.length === 0) return what === 'run'
    const { starts, skips, blocks } = rules[rule]!
    return what === 'run' ? starts(ends) : what === 'skip' ? skips(ends) : blocks(ends)
  }

  #chosen(branch: number): readonly string[] {
    return JSON.parse(this.#rows.get(branch)?.result ?? '[]') as string[]
  }

  #endAt(index: number, at: number): End | undefined {
    const row = this.#rows.get(index)
    if (row === undefined) return undefined
    if (row.unstarted !== null) return (row.unstarted_at ?? forever) < at ? row.unstarted : undefined
    const width = this.#nodes[index]!.over === undefined ? 1 : row.width
    // An empty list has no rows: it is done as soon as its own rule holds.
    if (width === 0) return this.#may('run', index, at) ? 'success' : undefined
    const all = row.ended === width || (this.#stopped && row.ended > 0 && row.begun <= row.ended)
    if (width === null || !all || row.ended_at === null || row.ended_at >= at) return undefined
    if (row.failed > 0) return 'failed'
    if (row.cancelled > 0 || row.ended < width) return 'cancelled'
    return row.succeeded > 0 ? 'success' : 'skipped'
  }

  #told(index: number, at: number): string {
    const { rule, arms = [], teardownOf } = this.#nodes[index]!
    const ends = this.#before[index]!.map((up) => `${this.#nodes[up]!.id} ${this.#endAt(up, at) ?? 'open'}`)
    const inside = arms.map(
      ({ branch, arm }) => `arm ${arm} of ${this.#nodes[branch]!.id}, which chose ${this.#chosen(branch)}`,
    )
    return [
      teardownOf === undefined ? `${rule} of` : `teardown of ${this.#nodes[teardownOf]!.id} behind`,
      ...ends,
      ...inside,
    ].join(', ')
  }
}
