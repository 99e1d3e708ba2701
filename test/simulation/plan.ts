/**
 * What a simulation plays, drawn from a seed: workflows as the authors' functions would build them, how each attempt of each
 * task will end, and how much goes wrong on the way. It is plain data, so that it can be printed, replayed and made smaller.
 */
import type { ApprovalManifest, NodeManifest } from '../../src/core/manifest.ts'
import { type TriggerRule, triggerRules } from '../../src/core/trigger-rule.ts'
import type { Template } from '../../src/sdk/reference.ts'
import { Draw } from './draw.ts'
import { limited, type SimLimits } from './limited.ts'

/** What a failed attempt says. */
export type Failing = 'plain' | 'Busy' | 'TIMEOUT'

/** How the attempts of a task end, whatever the order of things: so many losses, waits, failures, then the last. */
export interface Fate {
  readonly losses: number
  readonly waits: number
  readonly failures: readonly Failing[]
  readonly last: 'success' | 'fatal' | 'cancelled' | 'skipped'
}

export interface SimNode {
  readonly manifest: NodeManifest
  /** Task i ends as `fates[i % length]`. */
  readonly fates: readonly Fate[]
  /** What its attempts give. */
  readonly value: unknown
  /** How its approval is answered. */
  readonly answer: 'approve' | 'refuse' | 'never'
}

export interface SimWorkflow {
  readonly name: string
  readonly nodes: readonly SimNode[]
  readonly output?: Template
  readonly timeoutMs?: number
  readonly workers?: number
  readonly maxActiveRuns?: number
}

/** How often what goes wrong. */
export interface Faults {
  readonly crashes: number
  /** Leases that lapse while their owner is alive. */
  readonly lapses: number
  /** Writes that are done, and whose answer is lost; and writes that never arrive. */
  readonly lostAnswers: number
  readonly cancels: number
  readonly pauses: number
  /** People who have tasks run again. */
  readonly clears: number
  /** Ends of attempts and messages that come again, late. */
  readonly repeats: boolean
}

export interface Case {
  /** Each runs only such as come after it; the first is started from outside. */
  readonly workflows: readonly SimWorkflow[]
  readonly runs: number
  readonly owners: number
  readonly faults: Faults
  /** Without them a runner is always free, and workers count for each run alone. */
  readonly limits?: SimLimits
  /** Draws the course of things. */
  readonly course: number
}

export const params = {
  lists: [[], [0], [0, 1], [0, 1, 2]],
  choices: { yes: true, no: false, a: 'a', ab: ['a', 'b'], nothing: null, wrong: 'zz' },
  none: { not: 'a list' },
}

const ref = (from: 'param' | 'item', ...path: string[]) => ({ $ref: { from, path } }) as unknown as Template
const nodeRef = (node: number, ...path: string[]) => ({ $ref: { from: 'node', node, path } }) as unknown as Template

/** Rules under which all before a node have ended when it starts, so that what it is given does not depend on order. */
export const patientRules: readonly TriggerRule[] = [
  'all_success',
  'all_done',
  'none_failed',
  'none_failed_min_one_success',
]

export function drawCase(seed: number): Case {
  return limited(drawPlain(seed), seed)
}

/** A case without limits. */
export function drawPlain(seed: number): Case {
  const draw = new Draw(seed)
  const depth = draw.chance(0.35) ? (draw.chance(0.3) ? 2 : 1) : 0
  const workflows = Array.from({ length: depth + 1 }, (_, level) =>
    new WorkflowDraw(draw, level, depth).workflow(level === 0 ? rootSize(draw) : 1 + draw.below(3)),
  )
  const rough = draw.chance(0.75)
  return {
    workflows,
    runs: draw.chance(0.15) ? 2 : 1,
    owners: draw.chance(0.5) ? 1 : 2,
    faults: {
      crashes: rough ? draw.below(3) : 0,
      lapses: rough ? draw.below(2) : 0,
      lostAnswers: rough ? draw.below(3) : 0,
      cancels: draw.chance(0.25) ? 1 + draw.below(2) : 0,
      pauses: draw.chance(0.1) ? 1 : 0,
      clears: draw.chance(0.25) ? 1 + draw.below(2) : 0,
      repeats: draw.chance(0.5),
    },
    course: draw.below(2 ** 31),
  }
}

const rootSize = (draw: Draw) => (draw.chance(0.85) ? 1 + draw.below(6) : 6 + draw.below(7))

/** Draws nodes one after another, as `define` would place them. */
class WorkflowDraw {
  readonly #draw: Draw
  readonly #level: number
  readonly #deepest: number
  readonly #nodes: SimNode[] = []
  #left = 0
  #stage: number | undefined
  readonly #arms: { branch: number; arm: string }[] = []
  readonly #after: number[] = []

  constructor(draw: Draw, level: number, deepest: number) {
    this.#draw = draw
    this.#level = level
    this.#deepest = deepest
  }

  workflow(size: number): SimWorkflow {
    const draw = this.#draw
    this.#left = size
    if (draw.chance(0.25)) this.#stage = 0
    while (this.#left > 0) this.#place(0)
    const outputs = [{}, { output: nodeRef(draw.below(this.#nodes.length)) }, { output: { it: nodeRef(0, 'choice') } }]
    return {
      name: `w${this.#level}`,
      nodes: this.#nodes,
      ...(draw.pick(outputs) as { output?: Template }),
      ...(draw.chance(0.08) ? { timeoutMs: 20 + draw.below(4_000) } : {}),
      ...(draw.chance(0.1) ? { workers: 1 + draw.below(2) } : {}),
    }
  }

  #place(depth: number): void {
    const draw = this.#draw
    if (this.#stage !== undefined && depth === 0 && this.#nodes.length > 0 && draw.chance(0.3)) this.#stage += 1
    const kind = draw.next()
    if (kind < 0.1 && depth < 3) this.#branch(depth)
    else if (kind < 0.19 && depth < 3) this.#using(depth)
    else if (kind < 0.25) this.#wait()
    else if (kind < 0.32) this.#approval()
    else if (kind < 0.45 && this.#level < this.#deepest) this.#run()
    else this.#action()
  }

  /** Adds a node where the draw stands. */
  #add(more: Partial<NodeManifest>, sim: Partial<Omit<SimNode, 'manifest'>> = {}, rule = this.#rule()): number {
    const draw = this.#draw
    const index = this.#nodes.length
    const upstream = new Set([...this.#after, ...this.#arms.map(({ branch }) => branch), ...(more.upstream ?? [])])
    for (let edges = draw.below(3); edges > 0 && index > 0; edges -= 1) upstream.add(draw.below(index))
    this.#left -= 1
    this.#nodes.push({
      manifest: {
        ...{ id: `n${index}`, action: 'act', args: {}, rule, timeoutMs: 1_000, isolation: 'shared' },
        ...{ retry: { attempts: 1, baseMs: 10, maxMs: 1_000 } },
        ...(this.#stage === undefined ? {} : { stage: this.#stage }),
        ...(this.#arms.length > 0 ? { arms: [...this.#arms] } : {}),
        ...(draw.chance(0.1) ? { priority: draw.below(3) - 1 } : {}),
        ...more,
        upstream: [...upstream].sort((a, b) => a - b),
      },
      ...{ fates: [plainFate], value: null, answer: 'approve' },
      ...sim,
    })
    return index
  }

  #rule(): TriggerRule {
    return this.#draw.chance(0.6) ? 'all_success' : this.#draw.pick(triggerRules)
  }

  /** An earlier node, to take something of its result; nothing where there is none. */
  #source(): number | undefined {
    return this.#nodes.length > 0 && this.#draw.chance(0.5) ? this.#draw.below(this.#nodes.length) : undefined
  }

  #action(more: Partial<NodeManifest> = {}, rule?: TriggerRule): number {
    const draw = this.#draw
    const source = this.#source()
    const mapped = draw.chance(0.25)
    const patient = draw.pick(patientRules)
    const from = source !== undefined && !more.teardownOf ? source : undefined
    const list =
      from !== undefined && draw.chance(0.6)
        ? nodeRef(from, 'items')
        : draw.chance(0.1)
          ? ref('param', 'none')
          : ref('param', 'lists', String(draw.below(4)))
    const given = from === undefined ? {} : { given: nodeRef(from) }
    return this.#add(
      {
        ...(from === undefined ? {} : { upstream: [from] }),
        args: (mapped ? { ...given, item: ref('item') } : given) as Template,
        ...(mapped ? { over: list } : {}),
        retry: this.#retry(),
        ...(draw.chance(0.1) ? { withinMs: 5 + draw.below(2_000) } : {}),
        ...(draw.chance(0.1) ? { isolation: 'process' as const } : {}),
        ...more,
      },
      { fates: Array.from({ length: 1 + draw.below(mapped ? 3 : 1) }, () => this.#fate()), value: this.#value() },
      rule ?? (from === undefined ? this.#rule() : patient),
    )
  }

  #retry(): NodeManifest['retry'] {
    const draw = this.#draw
    const own = () => ({ attempts: 1 + draw.below(4), baseMs: 5, maxMs: 100 })
    return {
      ...{ attempts: 1 + draw.below(3), baseMs: 10, maxMs: 1_000 },
      ...(draw.chance(0.25) ? { errors: draw.chance(0.5) ? { Busy: own() } : { Busy: own(), TIMEOUT: own() } } : {}),
    }
  }

  #fate(): Fate {
    const draw = this.#draw
    if (draw.chance(0.45)) return plainFate
    return {
      losses: draw.chance(0.15) ? draw.pick([1, 2, 10]) : 0,
      waits: draw.chance(0.25) ? 1 + draw.below(3) : 0,
      failures: Array.from({ length: draw.chance(0.35) ? 1 + draw.below(3) : 0 }, () =>
        draw.pick<Failing>(['plain', 'plain', 'Busy', 'TIMEOUT']),
      ),
      last: draw.chance(0.7) ? 'success' : draw.pick(['fatal', 'cancelled', 'skipped', 'skipped']),
    }
  }

  #value(): unknown {
    const draw = this.#draw
    return {
      items: params.lists[draw.below(4)],
      choice: draw.pick(Object.values(params.choices)),
      at: 1_000 + draw.below(3_000),
    }
  }

  #branch(depth: number): void {
    const draw = this.#draw
    const source = this.#source()
    const args =
      source === undefined
        ? ref('param', 'choices', draw.pick(Object.keys(params.choices)))
        : nodeRef(source, draw.chance(0.9) ? 'choice' : 'none')
    const choices = draw.pick([['yes'], ['yes', 'no'], ['a', 'b'], ['a', 'b', 'yes']])
    const upstream = source === undefined ? [] : [source]
    const branch = this.#add({ kind: 'branch', action: 'branch', args, choices, upstream }, {}, draw.pick(patientRules))
    for (const arm of choices) {
      this.#arms.push({ branch, arm })
      for (let inside = draw.below(3); inside > 0 && this.#left > 0; inside -= 1) this.#place(depth + 1)
      this.#arms.pop()
    }
  }

  #using(depth: number): void {
    const draw = this.#draw
    const setup = this.#action()
    const first = this.#nodes.length
    this.#after.push(setup)
    for (let inside = 1 + draw.below(2); inside > 0; inside -= 1) this.#place(depth + 1)
    this.#after.pop()
    const work = Array.from({ length: this.#nodes.length - first }, (_, at) => first + at)
    const upstream = [setup, ...work]
    const index = this.#add(
      { teardownOf: setup, upstream, retry: this.#retry() },
      { fates: [this.#fate()] },
      'all_done',
    )
    // Only the work and what was set up is waited for.
    const { manifest } = this.#nodes[index]!
    const before = new Set([...upstream, ...this.#after, ...this.#arms.map(({ branch }) => branch)])
    const sorted = [...before].sort((a, b) => a - b)
    this.#nodes[index] = { ...this.#nodes[index]!, manifest: { ...manifest, upstream: sorted } }
  }

  #wait(): void {
    const draw = this.#draw
    const source = this.#source()
    const args = draw.chance(0.4)
      ? { forMs: draw.below(500) }
      : source === undefined
        ? { until: draw.pick<string | number>([1_500, 0, '1970-01-01T00:00:03Z', 'soon']) }
        : { until: nodeRef(source, 'at') }
    const upstream = source === undefined ? [] : [source]
    this.#add({ kind: 'wait', action: 'wait', args: args as Template, upstream }, {}, draw.pick(patientRules))
  }

  #approval(): void {
    const draw = this.#draw
    const answer = draw.pick(['approve', 'refuse', 'never'] as const)
    const approval: ApprovalManifest = {
      onDeadline: draw.pick(['fail', 'skip', 'approve']),
      onRefuse: draw.pick(['skip', 'fail']),
      ...(answer === 'never' || draw.chance(0.4) ? { deadlineMs: 1 + draw.below(2_000) } : {}),
    }
    this.#add(
      { kind: 'approval', action: 'approval', args: { title: 'go?', show: null } as Template, approval },
      { answer },
    )
  }

  #run(): void {
    const draw = this.#draw
    const mapped = draw.chance(0.3)
    const args = ref('param')
    this.#add({
      ...{ kind: 'workflow', action: `w${this.#level + 1}`, args, retry: this.#retry() },
      ...(mapped ? { over: ref('param', 'lists', String(draw.below(4))) } : {}),
      ...(draw.chance(0.1) ? { withinMs: 5 + draw.below(2_000) } : {}),
    })
  }
}

const plainFate: Fate = { losses: 0, waits: 0, failures: [], last: 'success' }
