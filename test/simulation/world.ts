/**
 * Plays a case: owners, runners, people and the clock take turns as a seed draws them, until every run has ended. After each
 * commit the rows are looked at, and a run that is read from them must be the run that is in memory; at the end the log of
 * every run is judged by the reference (`judge.ts`).
 */
import type { WorkflowManifest } from '../../src/core/manifest.ts'
import type { Outcome } from '../../src/core/run-progress.ts'
import { isTerminal } from '../../src/core/run-state.ts'
import { isTerminal as hasEnded } from '../../src/core/task-state.ts'
import type { OwnedRun } from '../../src/engine/owned-run.ts'
import type { AttemptStart } from '../../src/executors/runner-protocol.ts'
import { Draw } from './draw.ts'
import { judge } from './judge.ts'
import { LimitedWorld } from './limited-world.ts'
import { answerKey, type Definition, definitionsOf, type Executing, Owner } from './owner.ts'
import { type Case, params, type SimWorkflow } from './plan.ts'
import { restoredFaults } from './restored.ts'
import { type SimRun, SimStore, taskKey } from './store.ts'

/** More steps than any case takes by far. */
const mostSteps = 200_000
/** From then on nothing goes wrong any more. */
const calmAfter = 400

export interface Played {
  readonly steps: number
  readonly attempts: number
}

/** Plays a case to its end. @throws when anything is not as it must be; the message says what. */
export function play(plan: Case): Promise<Played> {
  return new World(plan).toEnd()
}

function manifestOf({ name, nodes, output, timeoutMs, workers, maxActiveRuns }: SimWorkflow): WorkflowManifest {
  return {
    ...{ name, file: `${name}.ts`, params: {}, plans: [], stages: [], nodes: nodes.map(({ manifest }) => manifest) },
    ...(output === undefined ? {} : { output }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(workers === undefined ? {} : { workers }),
    ...(maxActiveRuns === undefined ? {} : { maxActiveRuns }),
  }
}

class World {
  readonly #plan: Case
  readonly #draw: Draw
  readonly #store = new SimStore(() => this.#now)
  readonly #definitions: ReadonlyMap<string, Definition>
  readonly #workflows: ReadonlyMap<string, SimWorkflow>
  readonly #owners: Owner[] = []
  readonly #limited: LimitedWorld | undefined
  readonly #past: { start: AttemptStart; outcome: Outcome }[] = []
  readonly #answered = new Set<string>()
  readonly #paused = new Set<string>()
  readonly #left: Record<'crashes' | 'lapses' | 'lostAnswers' | 'cancels' | 'pauses' | 'clears', number>
  #now = 1_000
  #tokens = 0
  #named = 0
  #steps = 0

  constructor(plan: Case) {
    this.#plan = plan
    this.#draw = new Draw(plan.course)
    this.#left = { ...plan.faults }
    this.#workflows = new Map(plan.workflows.map((workflow) => [workflow.name, workflow]))
    this.#definitions = definitionsOf(plan.workflows.map(manifestOf))
    const { limits } = plan
    const workflows = plan.workflows.map(manifestOf)
    this.#limited =
      limits &&
      new LimitedWorld({
        ...{ plan: { ...plan, limits }, workflows, store: this.#store, draw: this.#draw, owners: this.#owners },
        now: () => this.#now,
        isCalm: () => this.#steps >= calmAfter,
      })
    const root = { workflow: plan.workflows[0]!.name, params: JSON.stringify(params), parent: undefined }
    const { priorities = [0] } = limits ?? {}
    for (let run = 0; run < plan.runs; run += 1)
      this.#store.insertRun({ id: `root-${run}`, ...root, priority: priorities[run % priorities.length]! })
    for (let owner = 0; owner < plan.owners; owner += 1) this.#newOwner()
  }

  async toEnd(): Promise<Played> {
    for (;;) {
      this.#steps += 1
      if (this.#steps > mostSteps) throw new Error(`the runs do not end: ${this.#standing()}`)
      if (!this.#isOpen() && this.#owners.every((owner) => owner.groups.length === 0) && !this.#clearAtEnd()) break
      await this.#step()
    }
    await this.#limited?.end()
    const faults = [...this.#store.runs.values()].flatMap((run) =>
      judge(run, this.#workflows.get(run.workflow)!, {
        plan: this.#plan,
        childrenOf: (parent, node, mapIndex) => this.#childrenOf(parent, node, mapIndex),
        wished: this.#store.wished,
        answered: this.#answered,
      }),
    )
    if (faults.length > 0) throw new Error(faults.slice(0, 5).join('\n'))
    return { steps: this.#steps, attempts: this.#tokens }
  }

  #isOpen(): boolean {
    for (const run of this.#store.runs.values()) if (!isTerminal(run.state)) return true
    return false
  }

  #standing(): string {
    return JSON.stringify(
      [...this.#store.runs.values()]
        .filter(({ state }) => !isTerminal(state))
        .map(({ id, state, nodeId, tasks }) => [
          id,
          state,
          nodeId,
          [...tasks.values()].map((task) => [task.node, task.mapIndex, task.state]),
        ]),
    ).slice(0, 2_000)
  }

  get #isCalm(): boolean {
    const { crashes, lapses, lostAnswers, clears } = this.#plan.faults
    return crashes + lapses + lostAnswers + clears === 0
  }

  #newOwner(): void {
    this.#named += 1
    const owner: Owner = new Owner(`owner-${this.#named}`, {
      store: this.#store,
      definitions: this.#definitions,
      draw: this.#draw,
      isCalm: this.#isCalm,
      limits: this.#limited && { of: this.#plan.limits!, judge: this.#limited.judge },
      now: () => this.#now,
      token: () => ++this.#tokens,
      isAlive: (nodeId) =>
        this.#limited?.isAlive(nodeId) ?? this.#owners.some(({ id, leased }) => id === nodeId && leased),
      isPaused: (workflow) => this.#paused.has(workflow),
      committed: (by, runs) => this.#committed(by, runs),
    })
    this.#owners.push(owner)
  }

  /** Something happens: a kind of thing is drawn until one can happen. */
  async #step(): Promise<void> {
    const draw = this.#draw
    const owner = draw.pick(this.#owners)
    if (this.#steps < calmAfter && draw.chance(0.06) && this.#fault(owner)) return
    if (this.#limited && draw.chance(0.25) && (await this.#limited.step(owner))) return
    const busy = owner.groups.length > 0 || owner.executing.size > 0 || owner.canWrite
    const chance = busy && draw.chance(0.85) ? draw.next() * 0.7 : 0.7 + draw.next() * 0.3
    if (chance < 0.25 && owner.canWrite) owner.write()
    else if (chance < 0.5 && owner.groups.length > 0) await this.#goOnWriting(owner)
    else if (chance < 0.7 && owner.executing.size > 0) this.#endOne(owner)
    else if (chance < 0.75 && owner.again.size > 0) owner.readAgain()
    else if (chance < 0.78 && owner.leased) await owner.claim(1 + draw.below(3))
    else if (chance < 0.82) owner.drain()
    else if (chance < 0.86) this.#answer()
    else if (chance < 0.88) this.#repeat(owner)
    else if (chance < 0.89) owner.readPaused()
    else if (!owner.comeDue()) {
      if (this.#limited && draw.chance(0.15)) await this.#limited.rest()
      this.#passTime()
    }
  }

  async #goOnWriting(owner: Owner): Promise<void> {
    const group = this.#draw.pick(owner.groups)
    const lose = this.#steps < calmAfter && this.#left.lostAnswers > 0 && this.#draw.chance(0.15)
    if (lose) this.#left.lostAnswers -= 1
    if (group.answer === 'none') await owner.land(group, !lose)
    else owner.answer(group, lose)
  }

  #fault(owner: Owner): boolean {
    const draw = this.#draw
    const kind = draw.pick(['crashes', 'lapses', 'cancels', 'pauses', 'clears'] as const)
    if (kind === 'pauses' && this.#paused.size > 0 && draw.chance(0.5)) {
      this.#paused.clear()
      return true
    }
    if (this.#left[kind] === 0) return false
    this.#left[kind] -= 1
    if (kind === 'crashes') this.#crash(owner)
    else if (kind === 'lapses' && this.#limited) this.#limited.lapse(owner)
    else if (kind === 'lapses') owner.leased = false
    else if (kind === 'cancels') this.#cancelOne()
    else if (kind === 'clears') this.#clearOne()
    else this.#paused.add(draw.pick(this.#plan.workflows).name)
    return true
  }

  #crash(owner: Owner): void {
    this.#owners.splice(this.#owners.indexOf(owner), 1)
    this.#limited?.die(owner)
    for (const { start } of owner.executing.values()) this.#past.push({ start, outcome: lateSuccess })
    this.#newOwner()
  }

  #cancelOne(): void {
    const open = [...this.#store.runs.values()].filter(({ state }) => !isTerminal(state))
    if (open.length === 0) return
    const { id } = this.#draw.pick(open)
    this.#store.put(id, 'cancel', `cancel ${id}`)
  }

  /** Everything has ended; some of it may be cleared then. */
  #clearAtEnd(): boolean {
    if (this.#left.clears === 0) return false
    this.#left.clears -= 1
    this.#clearOne()
    return this.#isOpen()
  }

  /** Somebody has tasks of a run that nobody waits for run again. */
  #clearOne(): void {
    const draw = this.#draw
    const run = draw.pick([...this.#store.runs.values()].filter(({ parent }) => parent === undefined))
    const { graph } = this.#definitions.get(run.workflow)!
    const node = draw.below(graph.nodes.length)
    const width = run.widths.get(node)
    const mapIndex = width !== undefined && width > 0 && draw.chance(0.5) ? draw.below(width) : undefined
    const failed = draw.chance(0.4)
    const name = `${graph.nodes[node]!.id}${mapIndex === undefined ? '' : `[${mapIndex}]`}`
    const clear = () => this.#store.clear(run, graph, { tasks: failed ? [] : [name], failed })
    if (isTerminal(run.state)) {
      clear()
      return
    }
    if (this.#store.inbox.some(({ runId, kind }) => runId === run.id && kind === 'cancel')) return
    const owner = this.#owners.find(({ id }) => id === run.nodeId)
    const held = owner?.runs.get(run.id)
    if (held && held.row.epoch === run.epoch) owner!.clear(held, clear)
  }

  #passTime(): void {
    // A lease that lapsed is renewed, or its owner ends what it holds.
    for (const owner of this.#owners) {
      owner.checkStopped()
      if (!owner.leased && this.#draw.chance(0.2)) {
        if (this.#limited) {
          this.#limited.regain(owner)
          continue
        }
        if (this.#draw.chance(0.7)) owner.suspend()
        owner.leased = true
      }
    }
    if (this.#steps >= calmAfter) this.#paused.clear()
    this.#limited?.passTime()
    if (this.#draw.chance(0.5)) this.#now += 1 + this.#draw.below(5)
    else {
      const next = this.#owners.reduce((least, owner) => Math.min(least, owner.nextTimer()), Number.POSITIVE_INFINITY)
      if (Number.isFinite(next)) this.#now = Math.max(this.#now + 1, Math.min(next, this.#now + 60_000))
    }
  }

  #endOne(owner: Owner): void {
    const executing = this.#draw.pick([...owner.executing.values()])
    const outcome = this.#outcomeOf(executing)
    this.#past.push({ start: executing.start, outcome: lateSuccess })
    owner.ended(executing.start, outcome)
  }

  #outcomeOf({ start, killed }: Executing): Outcome {
    if (killed && this.#draw.chance(0.7)) return { kind: 'cancelled' }
    const { fates, value } = this.#workflows.get(start.workflow)!.nodes[start.node]!
    const fate = fates[Math.max(0, start.mapIndex) % fates.length]!
    const task = this.#store.runs.get(start.runId)!.tasks.get(taskKey(start.node, start.mapIndex))!
    const { losses, waits } = task
    if (losses < fate.losses) return { kind: 'lost', reason: 'it was told so' }
    if (waits < fate.waits)
      return { kind: 'deferred', until: this.#now + this.#draw.below(300), wait: '{"kind":"sensor"}' }
    const failing = fate.failures[start.attempt - 1 - task.base - losses - waits]
    const error = { message: 'no "luck" \\ today', retryable: true } as const
    if (failing === 'TIMEOUT') return { kind: 'failure', error: { ...error, code: 'TIMEOUT' } }
    if (failing !== undefined) {
      const name = failing === 'plain' ? 'Error' : failing
      return { kind: 'failure', error: { ...error, code: 'ACTION_FAILED', name } }
    }
    if (fate.last === 'fatal') return { kind: 'failure', error: { ...error, code: 'ACTION_FAILED', retryable: false } }
    if (fate.last === 'cancelled') return { kind: 'cancelled' }
    if (fate.last === 'skipped') return { kind: 'skipped', reason: 'nothing to do' }
    return { kind: 'success', result: JSON.stringify(value) }
  }

  /** Somebody answers an approval that waits; sometimes one that does no longer. */
  #answer(): void {
    const draw = this.#draw
    for (const run of this.#store.runs.values()) {
      if (isTerminal(run.state)) continue
      for (const task of run.tasks.values()) {
        const { manifest, answer } = this.#workflows.get(run.workflow)!.nodes[task.node]!
        if (manifest.kind !== 'approval' || task.state !== 'deferred' || answer === 'never' || draw.chance(0.5))
          continue
        const { onRefuse } = manifest.approval!
        const body = JSON.stringify({
          approved: answer === 'approve',
          by: 'ann',
          note: null,
          at: 'now',
          form: null,
          onRefuse,
        })
        const place = { node: task.node, mapIndex: task.mapIndex, attempt: task.attempt }
        const stale = this.#plan.faults.repeats && draw.chance(0.2)
        if (stale)
          this.#store.put(run.id, 'resume', `stale ${run.id} ${task.node}`, {
            ...place,
            attempt: task.attempt + 1,
            body,
          })
        else {
          if (this.#store.put(run.id, 'resume', answerKey(run.id, task.node, task.attempt), { ...place, body }))
            this.#answered.add(`${run.id} ${task.node}`)
        }
        return
      }
    }
  }

  /** An end that was told comes again, or comes from an attempt whose owner is gone. */
  #repeat(owner: Owner): void {
    if (!this.#plan.faults.repeats || this.#past.length === 0) return
    const { start, outcome } = this.#draw.pick(this.#past)
    if (this.#owners.some(({ executing }) => executing.has(start.token))) return
    const run = owner.runs.get(start.runId)
    const live = run?.progress.nodes[start.node]?.live.get(start.mapIndex)
    if (!run || live?.token === start.token) return
    const before = run.hasChange
    const { node, mapIndex, token } = start
    owner.take(run, { kind: 'ended', node, mapIndex, token, outcome })
    if (!before && run.hasChange) throw new Error(`an end of attempt ${start.attempt} of n${node} counted twice`)
  }

  #childrenOf(run: SimRun, node: number, mapIndex: number): SimRun[] {
    return this.#store
      .childrenOf(run.id)
      .filter(({ parent }) => parent!.node === node && parent!.mapIndex === mapIndex)
      .sort((one, other) => one.parent!.attempt - other.parent!.attempt)
  }

  #committed(owner: Owner, runs: readonly OwnedRun[]): void {
    this.#limited?.committed()
    for (const run of runs) {
      const row = this.#store.runs.get(run.row.id)!
      this.#look(row)
      if (owner.runs.get(run.row.id) !== run || run.hasChange || isTerminal(row.state)) continue
      const faults = restoredFaults(run, row, this.#now)
      if (faults.length > 0) throw new Error(`run ${row.id} read from its rows is another: ${faults.join('; ')}`)
    }
  }

  /** What must hold of the rows at every instant. */
  #look(run: SimRun): void {
    const over = isTerminal(run.state)
    const workflow = this.#workflows.get(run.workflow)!
    let live = 0
    for (const task of run.tasks.values()) {
      const name = `task ${task.node}/${task.mapIndex} of ${run.id}`
      if ((task.token !== null) !== (task.state === 'running'))
        throw new Error(`${name} is ${task.state} with token ${task.token}`)
      if (over && !hasEnded(task.state)) throw new Error(`${run.id} is ${run.state}, and ${name} is ${task.state}`)
      if ((task.finishedAt !== null) !== hasEnded(task.state))
        throw new Error(`${name} is ${task.state}, finished at ${task.finishedAt}`)
      if (task.attempt > task.base !== (task.startedAt !== null))
        throw new Error(`${name} has attempt ${task.attempt} after ${task.base}, started at ${task.startedAt}`)
      if (task.losses + task.waits > task.attempt - task.base)
        throw new Error(`${name} lost and waited more often than it began`)
      if (task.state === 'running') live += 1
    }
    // With limits they count over all runs.
    if (this.#limited === undefined && workflow.workers !== undefined && live > workflow.workers)
      throw new Error(`${run.id} has ${live} attempts at once`)
    if (!over) return
    const open = this.#store.childrenOf(run.id).find(({ state }) => !isTerminal(state))
    if (open) throw new Error(`${run.id} is ${run.state}, and its child ${open.id} is ${open.state}`)
  }
}

const lateSuccess: Outcome = { kind: 'success', result: '"late"' }
