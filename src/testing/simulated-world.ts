/** The world of a simulation: its clock, its runs, and what a test does to them. See simulate.ts. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, matchesGlob, relative, resolve } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { CapabilityParts } from '../app/capabilities/capabilities.ts'
import { taskIdOf } from '../core/ids.ts'
import { type ApprovalAnswer, eventOf } from '../engine/inbox-events.ts'
import type { Later } from '../engine/owned-run.ts'
import { SluiceError } from '../errors.ts'
import type { Dataset, DatasetVersion } from '../sdk/dataset.ts'
import type { Workflow } from '../sdk/workflow.ts'
import { type Duration, parseDuration } from '../time.ts'
import { AttemptWorld, connectionsOver, type Published, secretsOver } from './attempt-world.ts'
import { AttemptsOfWorld } from './attempts-of-world.ts'
import { type DefinedWorld, defineWorld } from './defined-world.ts'
import { LimitsOfWorld } from './limits-of-world.ts'
import { PlansOfWorld, type SimulatedTick } from './plans-of-world.ts'
import { type ClearTasks, type Held, RunsOfWorld } from './runs-of-world.ts'
import type { SimulateOptions } from './simulate-options.ts'
import type { SimulatedRun } from './simulated-run.ts'
import { VirtualTime } from './virtual-time.ts'

/** More in one `advance` is taken for a plan or a retry that never rests. */
const manyEvents = 10_000_000
const eventsInTurn = 500

/** A workflow or topic, as it was defined. */
export interface Named {
  readonly name: string
}

/** An approval that nobody has answered yet. */
export interface WaitingApproval {
  /** The id of the run. */
  readonly run: string
  readonly workflow: string
  /** The id of the task, made of the title: `publish` for "publish?". */
  readonly task: string
  readonly title: string
  /** What `show` came to. */
  readonly shown: unknown
  readonly deadline: Date | null
}

/** The answer to an approval. */
export interface ApprovalReply {
  readonly approved: boolean
  /** What is filled in, where it is approved; checked by the schema of its form. */
  readonly form?: unknown
  /** Who answers. Default `test`. */
  readonly by?: string
  readonly note?: string
}

/** What attempts reach outside of the simulation. */
export interface Outside {
  readonly connections: CapabilityParts['connections']
  secretText(name: string): Promise<string>
}

export interface WorldOptions extends SimulateOptions {
  /** Default: the connections and secrets that were given. */
  readonly outside?: Outside
  /** False: no plan fires, so that runs start by hand alone. */
  readonly plans?: boolean
}

type Happening =
  | { readonly kind: 'later'; readonly run: Held; readonly what: Later }
  | { readonly kind: 'limit'; readonly limit: string }
  | { readonly kind: 'plans' }

const nameOf = (one: string | Named): string => (typeof one === 'string' ? one : one.name)

export class SimulatedWorld {
  readonly #defined: DefinedWorld
  readonly #time: VirtualTime<Happening>
  readonly #attempts: AttemptsOfWorld
  readonly #limits: LimitsOfWorld
  readonly #runs: RunsOfWorld
  readonly #memory: AttemptWorld
  readonly #plans: PlansOfWorld
  readonly #folder: string
  readonly #ownFolder: boolean
  #draw: number
  #closed = false

  private constructor(defined: DefinedWorld, folder: string, ownFolder: boolean, options: WorldOptions) {
    const { start = '2026-01-01T00:00:00Z', seed = 1, secrets = {}, connections = {}, programs = {} } = options
    const outside = options.outside ?? { connections: connectionsOver(connections), secretText: secretsOver(secrets) }
    const at = Date.parse(start)
    if (Number.isNaN(at))
      throw new SluiceError('USAGE', `start is ${JSON.stringify(start)}; write 2026-01-01T00:00:00Z`)
    this.#defined = defined
    this.#folder = folder
    this.#ownFolder = ownFolder
    this.#draw = seed >>> 0
    this.#time = new VirtualTime(at)
    const now = () => this.#time.now()
    this.#memory = new AttemptWorld({
      secretText: (name) => outside.secretText(name),
      published: (topic, records) => this.#plans.published(topic, records),
    })
    this.#attempts = new AttemptsOfWorld({
      ...{ defined, clock: this.#time, memory: this.#memory, programs, folder },
      connections: outside.connections,
      limitMs: options.attemptLimitMs ?? 10_000,
    })
    this.#limits = new LimitsOfWorld(defined.workflows, {
      now,
      wakeAt: (time, limit) => this.#time.add(time, { kind: 'limit', limit }),
    })
    this.#runs = new RunsOfWorld({
      ...{ defined, now, attempts: this.#attempts, limits: this.#limits, random: this.#random },
      later: (time, run, what) => this.#time.add(time, { kind: 'later', run, what }),
      succeeded: (attempt, workflow) => {
        for (const dataset of this.#memory.commitDatasets(attempt))
          this.#plans.wrote(dataset, this.#memory.dataset(dataset).length, workflow, now())
      },
    })
    this.#plans = new PlansOfWorld(options.plans === false ? [] : defined.workflows, at, {
      now,
      isPaused: (workflow) => this.#runs.isPaused(workflow),
      start: (start) => this.#runs.begin(start).id,
      wakeAt: (time) => this.#time.add(time, { kind: 'plans' }),
    })
  }

  /** See `simulate`. */
  static async open(definitions: readonly unknown[], options: SimulateOptions): Promise<SimulatedWorld> {
    const { folder = '.' } = options
    return SimulatedWorld.over(await defineWorld(definitions, folder), options)
  }

  /** Of definitions that were judged before. */
  static async over(defined: DefinedWorld, options: WorldOptions): Promise<SimulatedWorld> {
    const { folder } = options
    const made = folder === undefined ? await mkdtemp(join(tmpdir(), 'sluice-simulated-')) : resolve(folder)
    try {
      return new SimulatedWorld(defined, made, folder === undefined, options)
    } catch (thrown) {
      if (folder === undefined) await rm(made, { recursive: true, force: true })
      throw thrown
    }
  }

  /** Stops what is under way, and removes the folder in which dropped files lie. Nothing can be done with it any more. */
  async close(): Promise<void> {
    this.#closed = true
    this.#attempts.killOf()
    if (this.#ownFolder) await rm(this.#folder, { recursive: true, force: true })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** The virtual time. */
  get now(): Date {
    return new Date(this.#time.now())
  }

  /** All runs, in the order of their start; those of one workflow when it is named. */
  runs(workflow?: string | Named): SimulatedRun[] {
    const name = workflow === undefined ? undefined : nameOf(workflow)
    return [...this.#runs.all].filter((run) => name === undefined || run.workflow === name)
  }

  /** What became of each tick and event of all plans. */
  get ticks(): readonly SimulatedTick[] {
    return this.#plans.ticks
  }

  /** The records of a topic, in the order of their publication. */
  published(topic: string | Named): Published[] {
    return this.#memory.topic(nameOf(topic))
  }

  /** The documents of a collection, in the order of their insertion, byte fields included. */
  documents(collection: string): Record<string, unknown>[] {
    return this.#memory.documents.all(collection)
  }

  /** Puts a document where attempts find it, as if it had been written before. */
  put(collection: string, key: string, document: Readonly<Record<string, unknown>>): void {
    this.#memory.documents.put(collection, key, document)
  }

  /** The versions of a dataset, the oldest first. */
  dataset(dataset: string | Dataset): DatasetVersion[] {
    return this.#memory.dataset(nameOf(dataset)).map(({ hash, rows, metadata, version, objects }) => ({
      ...{ version, objects },
      ...(hash === null ? {} : { sha256: hash }),
      ...(rows === null ? {} : { rows }),
      ...(metadata === null ? {} : { metadata }),
    }))
  }

  /** Starts a run by hand, and goes on until nothing more happens at this time. @throws SluiceError NOT_FOUND, INVALID_INPUT */
  async start<Params>(
    workflow: Workflow<Params, unknown> | string,
    params?: Params | Record<string, unknown>,
  ): Promise<SimulatedRun> {
    this.#check()
    const name = nameOf(workflow)
    const run = this.#runs.begin({
      ...{ workflow: name, plan: 'manual', logicalTime: null },
      params: this.#defined.fit(name, params ?? {}),
    })
    await this.settle()
    return run
  }

  /** Until nothing happens any more at this time: what is left waits for time, or for somebody. */
  async settle(): Promise<void> {
    await this.advanceTo(this.#time.now())
  }

  /** Lets so much time pass, such as `90s`, `1d` or `1y`, and all that happens in it happen. */
  async advance(duration: Duration): Promise<void> {
    await this.advanceTo(this.#time.now() + parseDuration(duration))
  }

  /** Lets time pass until then: milliseconds since the epoch, RFC 3339, or a date. @throws SluiceError USAGE for a time that has passed */
  async advanceTo(time: number | string | Date): Promise<void> {
    this.#check()
    const to = typeof time === 'number' ? time : new Date(time).getTime()
    if (!(to >= this.#time.now()))
      throw new SluiceError('USAGE', `${String(time)} is no time from now (${this.now.toISOString()}) on`)
    for (let events = 0; events < manyEvents; events += 1) {
      await this.#attempts.rest()
      // Timers and signals of the test get their turn, and so does what only a turn of the event loop frees.
      if (events % eventsInTurn === eventsInTurn - 1) await nextTurn()
      this.#check()
      const next = this.#time.next(to)
      if (next === undefined) return
      this.#happen(next)
    }
    throw new SluiceError(
      'USAGE',
      `more than ${manyEvents} things happen up to ${new Date(to).toISOString()}; advance in smaller steps`,
    )
  }

  /**
   * When something goes on by itself next: a plan, a wait, a retry, a token of a rate. Undefined when all that is open waits
   * for somebody; that its time limit or deadline comes is not counted.
   */
  get nextAt(): Date | undefined {
    const at = this.#time.firstOf((what) => {
      if (what.kind !== 'later') return true
      if (!this.#runs.held(what.run.told.id)) return false
      if (what.what.kind === 'ready') return true
      return what.what.kind === 'due' && what.run.owned.workflow.nodes[what.what.node]?.kind !== 'approval'
    })
    return at === undefined ? undefined : new Date(at)
  }

  /** A file appears, or changes, in the folder of the project; plans for its arrival fire when it has rested. */
  async drop(path: string, content: string | Uint8Array | readonly string[]): Promise<void> {
    this.#check()
    if (!this.#ownFolder)
      throw new SluiceError('USAGE', 'drop writes into a folder of the simulation; leave out folder of simulate(...)')
    const file = resolve(this.#folder, path)
    const name = relative(this.#folder, file)
    if (name.startsWith('..')) throw new SluiceError('USAGE', `${path} lies outside of the project`)
    await mkdir(dirname(file), { recursive: true })
    const bytes = typeof content === 'string' || content instanceof Uint8Array ? content : `${content.join('\n')}\n`
    await writeFile(file, bytes)
    this.#plans.arrived(name.replaceAll('\\', '/'), this.#time.now(), matchesGlob)
  }

  /** A delivery to a webhook, whose signature was good. */
  async deliver(workflow: string | Named, hook: string, body: unknown): Promise<void> {
    this.#check()
    this.#plans.delivered(nameOf(workflow), hook, body, this.#time.now())
    await this.settle()
  }

  /** Approvals that wait for an answer. */
  get approvals(): WaitingApproval[] {
    return [...this.#runs.open].flatMap(({ told }) =>
      told.tasks.flatMap(({ id, state, wait }) => {
        const asked = wait as { kind?: string; shown: { title: string; show: unknown }; deadline: string | null } | null
        if (state !== 'deferred' || asked?.kind !== 'approval') return []
        const { title, show } = asked.shown
        const deadline = asked.deadline === null ? null : new Date(asked.deadline)
        return [{ run: told.id, workflow: told.workflow, task: id, title, shown: show, deadline }]
      }),
    )
  }

  /** Answers an approval. @throws SluiceError NOT_FOUND, INVALID_INPUT when `form` does not fit. */
  async answer(approval: Pick<WaitingApproval, 'run' | 'task'>, reply: ApprovalReply): Promise<void> {
    this.#check()
    const held = this.#runs.held(approval.run)
    const task = held?.told.task(approval.task)
    const node = held?.owned.workflow.nodes.findIndex(({ id }) => id === approval.task) ?? -1
    const asked = held?.owned.workflow.nodes[node]?.approval
    if (!held || !asked || task?.state !== 'deferred') {
      const waiting = this.approvals.map((one) => `${one.task} of run ${one.run}`).join(', ') || 'none'
      throw new SluiceError(
        'NOT_FOUND',
        `no approval ${approval.task} waits in run ${approval.run}; there are ${waiting}`,
      )
    }
    const body: ApprovalAnswer = {
      approved: reply.approved,
      by: reply.by ?? 'test',
      note: reply.note ?? null,
      at: this.now.toISOString(),
      form: reply.approved && asked.form ? this.#defined.fitForm(asked.form, reply.form) : null,
      onRefuse: asked.onRefuse,
    }
    const { attempt } = task
    const message = { id: 0, runId: approval.run, kind: 'resume', node, mapIndex: -1, attempt } as const
    this.#runs.tell(held, eventOf({ ...message, body: JSON.stringify(body) })!)
    await this.settle()
  }

  /** Cancels a run, and all that it runs. */
  async cancel(run: Pick<SimulatedRun, 'id'>): Promise<void> {
    this.#check()
    this.#runs.cancel(run.id)
    await this.settle()
  }

  /**
   * Tasks of a run that has ended run again, and all that is behind them; without `tasks` those that did not succeed.
   * @throws SluiceError NOT_FOUND, CONFLICT, INVALID_INPUT
   */
  async clear(run: Pick<SimulatedRun, 'id'>, wish: ClearTasks = {}): Promise<void> {
    this.#check()
    this.#runs.clear(run.id, wish, (cleared) => {
      for (const { node, task } of cleared) {
        if (wish.fresh || task.state === 'success') this.#memory.forgetSteps(taskIdOf(run.id, node, task.mapIndex))
      }
    })
    await this.settle()
  }

  /** Ticks of it are skipped, its runs do not begin, and nothing of those that have starts, until `resume`. */
  pause(workflow: string | Named): void {
    this.#runs.pause(this.#defined.workflow(nameOf(workflow)).manifest.name, true)
  }

  async resume(workflow: string | Named): Promise<void> {
    this.#check()
    this.#runs.pause(this.#defined.workflow(nameOf(workflow)).manifest.name, false)
    await this.settle()
  }

  #happen(next: Happening): void {
    if (next.kind === 'plans') this.#plans.fire(this.#time.now())
    else if (next.kind === 'later') this.#runs.come(next.run, next.what)
    else {
      this.#limits.look(next.limit)
      this.#runs.pump()
    }
  }

  #check(): void {
    if (this.#closed) throw new SluiceError('USAGE', 'this simulated world is closed')
  }

  /** Numbers in [0, 1) by a linear congruence (Numerical Recipes). */
  readonly #random = (): number => {
    this.#draw = (Math.imul(this.#draw, 1_664_525) + 1_013_904_223) >>> 0
    return this.#draw / 2 ** 32
  }
}
