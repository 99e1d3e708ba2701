/** Plays a case of plans: several engines, each at any of its statements, a clock that jumps, events, people, crashes. */
import { createHmac } from 'node:crypto'
import type { ApiContext } from '../../../src/api/context.ts'
import type { RouteOf } from '../../../src/api/route.ts'
import { hookRoutes } from '../../../src/api/routes/hooks.ts'
import type { Manifest, WorkflowManifest } from '../../../src/core/manifest.ts'
import { datasetPlans } from '../../../src/engine/dataset-plans.ts'
import type { EventEntry, EventKind } from '../../../src/engine/event-plans.ts'
import { type ClockEntry, clockEntries, fireTicks, waitFor } from '../../../src/engine/fire-plans.ts'
import { recordPlansWith } from '../../../src/engine/record-plans.ts'
import { SluiceError } from '../../../src/errors.ts'
import type { Database } from '../../../src/ports/database.ts'
import type { HttpReply } from '../../../src/sdk/endpoint.ts'
import type { Plan } from '../../../src/sdk/plan.ts'
import { beginPlans, planEntry } from '../../../src/store/plans.ts'
import { Draw } from '../draw.ts'
import { began, type PlanCase } from './case.ts'
import { type Delivery, judgePlans } from './judge.ts'
import { type Actor, Rows } from './rows.ts'
import { addStatements, type RecordRow, type VersionRow } from './statements.ts'

const secret = 'a secret of this simulation'
const toleranceMs = 300_000
/** As often as engines look without being told. */
const sweepMs = 30_000
const afterFailureMs = 1_000
/** More passes of gates than any case takes by far. */
const mostPasses = 20_000

class Crash extends Error {}

interface EventPlan {
  readonly entry: EventEntry<Plan>
  readonly kind: EventKind<Plan>
  next: number
}

interface Engine extends Actor {
  readonly db: Database
  readonly clocks: ClockEntry[]
  readonly events: EventPlan[]
  /** When it looks at its clocks next; never before it follows them. */
  wakeAt: number
  clocksBusy: boolean
  eventsBusy: boolean
  isGone: boolean
}

/** @throws when anything is not as it must be */
export function playPlans(plan: PlanCase): Promise<{ readonly passes: number }> {
  return new PlanWorld(plan).toEnd()
}

class PlanWorld {
  readonly #plan: PlanCase
  readonly #draw: Draw
  readonly #rows = new Rows(() => this.#now)
  readonly #manifest: Manifest
  readonly #engines: Engine[] = []
  readonly #deliveries: Delivery[] = []
  readonly #left: { crashes: number; cuts: number; pauses: number; outages: number; rivals: number }
  readonly #random = () => this.#draw.next()
  readonly #kinds: readonly EventKind<Plan>[]
  #now = began
  #named = 0
  #passes = 0
  #values = 0
  #isCalm = false
  /** From then on nothing goes wrong and everything is there in time. */
  #calmSince = Number.POSITIVE_INFINITY

  constructor(plan: PlanCase) {
    this.#plan = plan
    this.#draw = new Draw(plan.course)
    this.#left = { ...plan.faults }
    this.#manifest = manifestOf(plan)
    this.#kinds = [recordPlansWith({ records: plan.most.records, bytes: 400 }), datasetPlans] as never
    addStatements(this.#rows, () => this.#now)
    for (let partition = 0; partition < (plan.topic?.partitions ?? 0); partition += 1)
      this.#rows.set('partitions', String(partition), { partition })
    for (let engine = 0; engine < plan.engines; engine += 1) this.#join()
  }

  async toEnd(): Promise<{ passes: number }> {
    for (let step = 0; step < this.#plan.steps; step += 1) await this.#step()
    await this.#settle()
    judgePlans({
      ...{ plan: this.#plan, rows: this.#rows, now: this.#now, calmSince: this.#calmSince },
      deliveries: this.#deliveries,
    })
    return { passes: this.#passes }
  }

  #join(): void {
    this.#named += 1
    const name = `engine-${this.#named}`
    const engine: Engine = {
      ...{ name, db: undefined as never, clocks: clockEntries(this.#manifest), events: [], isGone: false },
      ...{ wakeAt: Number.POSITIVE_INFINITY, clocksBusy: true, eventsBusy: true },
    }
    Object.assign(engine, { db: this.#rows.as(engine) })
    this.#engines.push(engine)
    void this.#follow(engine)
  }

  /** As `FirePlans` and `EventPlans` do it. */
  async #follow(engine: Engine): Promise<void> {
    const events = this.#kinds.map((kind) => ({ kind, entries: this.#entriesOf(kind) }))
    const begin = async () => {
      await beginPlans(engine.db, engine.clocks)
      for (const { kind, entries } of events) await kind.begin(engine.db, entries, this.#manifest, true)
    }
    while (!engine.isGone) {
      try {
        await begin()
        break
      } catch {
        // It is started again.
      }
    }
    for (const { kind, entries } of events) for (const entry of entries) engine.events.push({ kind, entry, next: 0 })
    engine.wakeAt = this.#now
    engine.clocksBusy = false
    engine.eventsBusy = false
  }

  #entriesOf({ kind }: EventKind<Plan>): EventEntry<Plan>[] {
    return this.#manifest.workflows.flatMap((workflow) =>
      workflow.plans.flatMap((plan) =>
        plan.kind === kind ? [{ ...planEntry(workflow, plan, 'v'), definition: workflow, by: plan as never }] : [],
      ),
    )
  }

  async #step(): Promise<void> {
    const draw = this.#draw
    if (this.#rows.gates.size > 0 && draw.chance(0.75)) return this.#pass()
    const chance = draw.next()
    if (chance < 0.3) this.#work(draw.pick(this.#engines))
    else if (chance < 0.4) this.#publish()
    else if (chance < 0.5) this.#write()
    else if (chance < 0.6) this.#deliver()
    else if (chance < 0.68) this.#fault()
    else this.#now += draw.pick([100, 1_000, 5_000, 20_000])
    await turn()
  }

  /** One of those who wait at gates goes on. */
  async #pass(): Promise<void> {
    const draw = this.#draw
    this.#passes += 1
    if (this.#passes > mostPasses) throw new Error('the plans never come to rest')
    const open = [...this.#rows.gates].filter((gate) => gate.isOpen())
    if (open.length === 0) throw new Error(`they wait for each other: ${[...this.#rows.gates].map((one) => one.what)}`)
    const gate = draw.pick(open)
    if (!this.#isCalm && this.#left.cuts > 0 && draw.chance(0.06)) {
      this.#left.cuts -= 1
      if (gate.what === 'commit' && draw.chance(0.6)) gate.pass('lost')
      else gate.fail(new Error('the connection is cut'))
    } else gate.pass('go')
    await turn()
  }

  #fault(): void {
    const draw = this.#draw
    const left = this.#left
    const kind = draw.pick(['crashes', 'pauses', 'outages', 'rivals'] as const)
    const workflow = draw.pick(this.#manifest.workflows).name
    if (kind === 'pauses' && draw.chance(0.5)) this.#rows.set('workflows', workflow, { paused: false })
    else if (left[kind] > 0) {
      left[kind] -= 1
      if (kind === 'crashes') this.#crash(draw.pick(this.#engines))
      else if (kind === 'pauses') this.#rows.set('workflows', workflow, { paused: true })
      else if (kind === 'rivals') this.#rival()
      else {
        for (const engine of [...this.#engines]) this.#crash(engine)
        this.#now += 1_000 * draw.pick([30, 90, 400, 5_000])
      }
    }
  }

  #crash(engine: Engine): void {
    engine.isGone = true
    this.#engines.splice(this.#engines.indexOf(engine), 1)
    for (const gate of [...this.#rows.gates]) if (gate.actor === engine) gate.fail(new Crash())
    this.#join()
  }

  /** Somebody started a run for the time of a tick that has not come. */
  #rival(): void {
    const [entry] = this.#engines[0]!.clocks
    const time = entry && this.#now + 60_000 - (this.#now % 60_000)
    if (entry) this.#rows.set('runs of ticks', `${entry.workflow} ${entry.plan} ${time}`, { id: 'of somebody' })
  }

  /** What an engine does by itself: each only while it is not at it. */
  #work(engine: Engine): boolean {
    if (!engine.clocksBusy && engine.wakeAt <= this.#now) {
      void this.#fire(engine)
      return true
    }
    if (engine.eventsBusy) return false
    const due = engine.events.find(({ next }) => next <= this.#now)
    if (due) void this.#take(engine, due)
    return due !== undefined
  }

  async #fire(engine: Engine): Promise<void> {
    engine.clocksBusy = true
    const now = this.#now
    const asked = engine.clocks.filter(({ next }) => next <= now)
    let held = false
    try {
      if (asked.length > 0) {
        const fired = await engine.db.transaction((session) =>
          fireTicks(session, asked, now, this.#random, this.#plan.most),
        )
        for (const [entry, next] of fired.seen) entry.next = next
        held = fired.held
      }
      engine.wakeAt = now + waitFor(engine.clocks, now, held)
    } catch (error) {
      this.#mayFail(error)
      engine.wakeAt = this.#now + afterFailureMs
    }
    engine.clocksBusy = false
  }

  async #take(engine: Engine, plan: EventPlan): Promise<void> {
    engine.eventsBusy = true
    plan.next = this.#now + sweepMs
    const parts = { db: engine.db, clock: { now: () => this.#now }, random: this.#random, note: () => {} }
    try {
      const { more, wakeAt } = await engine.db.transaction((session) => plan.kind.take(session, plan.entry, parts))
      if (more) plan.next = 0
      else if (wakeAt !== undefined) plan.next = Math.min(plan.next, wakeAt)
    } catch (error) {
      this.#mayFail(error)
      plan.next = this.#now + afterFailureMs
    }
    engine.eventsBusy = false
  }

  #mayFail(error: unknown): void {
    if (error instanceof Crash || (error as Error).message === 'the connection is cut') return
    this.#broken ??= error
  }

  #broken: unknown

  #tell(kind: Plan['kind']): void {
    for (const { events } of this.#engines)
      for (const plan of events)
        if (plan.kind.kind === kind && (this.#isCalm || !this.#plan.faults.deaf || this.#draw.chance(0.5)))
          plan.next = 0
  }

  #publish(): void {
    const { topic } = this.#plan
    if (!topic) return
    const draw = this.#draw
    const partition = draw.below(topic.partitions)
    for (let count = 1 + draw.below(4); count > 0; count -= 1) {
      const records = [...this.#rows.table<RecordRow>('records').values()]
      const offset = records.filter((record) => record.partition === partition).length
      this.#values += 1
      // A number fits the workflow, a text does not.
      const n = draw.chance(0.9) ? this.#values : `text ${this.#values}`
      const value = JSON.stringify({ n, good: draw.chance(0.6) })
      this.#rows.set('records', `${partition} ${offset}`, { partition, offset, value, publishedAt: this.#now })
    }
    this.#tell('topic-record')
  }

  #write(): void {
    const { datasets } = this.#plan
    if (!datasets) return
    const draw = this.#draw
    const dataset = draw.pick(datasets.names)
    const versions = [...this.#rows.table<VersionRow>('versions').values()]
    const version = 1 + versions.filter((row) => row.dataset === dataset).length
    const workflow = draw.pick(['events', 'other', 'other', null])
    this.#rows.set('versions', `${dataset} ${version}`, { dataset, version, at: this.#now, workflow })
    this.#tell('dataset-written')
  }

  /** Somebody sends something, or sends it again, or sends what another has sent. */
  #deliver(): void {
    if (!this.#plan.hook) return
    const draw = this.#draw
    const open = this.#deliveries.filter(({ busy }) => !busy)
    if (open.length > 0 && draw.chance(0.6)) {
      const again = draw.pick(open)
      // Whoever strips the id of what was never taken makes another delivery of it.
      if (draw.chance(0.3) && again.taken === again.signature) void this.#send(again, { replayed: true })
      else void this.#send(again)
      return
    }
    this.#values += 1
    const fits = draw.chance(0.85)
    const body = JSON.stringify({ n: fits ? this.#values : 'text' })
    const id = draw.chance(0.6) ? `d${this.#values}` : undefined
    const delivery: Delivery = { ...sign(body, this.#now), id, fits, forged: draw.chance(0.1), busy: false, runs: [] }
    this.#deliveries.push(delivery)
    void this.#send(delivery)
  }

  async #send(delivery: Delivery, { replayed = false } = {}): Promise<void> {
    delivery.busy = true
    this.#named += 1
    const actor = { name: `api-${this.#named}` }
    const id = replayed
      ? this.#draw.chance(0.5)
        ? undefined
        : `replay of ${delivery.signature.slice(0, 9)}`.replaceAll(' ', '-')
      : delivery.id
    const { body, signedAt, signature, forged } = delivery
    const headers = {
      'sluice-timestamp': String(signedAt),
      'sluice-signature': forged ? signature.replace(/^./, (digit) => (digit === '0' ? '1' : '0')) : signature,
      ...(id === undefined ? {} : { 'sluice-delivery': id }),
    }
    const upload = (async function* () {
      yield Buffer.from(body)
    })()
    try {
      const answer = await this.#hook(actor).handle({
        params: { workflow: 'events', hook: 'told' },
        upload,
        headers,
      } as never)
      delivery.runs.push(((answer as HttpReply).body as { id: string }).id)
      if (!replayed) delivery.taken = signature
    } catch (error) {
      this.#refused(delivery, error)
    }
    delivery.busy = false
  }

  #refused(delivery: Delivery, error: unknown): void {
    if (!(error instanceof SluiceError)) {
      this.#mayFail(error)
      return
    }
    const { code } = error
    const late = Math.abs(delivery.signedAt * 1_000 - this.#now) > toleranceMs - 60_000
    // Who knows an id may sign again: it is the same delivery.
    if (code === 'SIGNATURE_INVALID' && !delivery.forged && late) {
      if (delivery.id === undefined) delivery.expired = true
      else Object.assign(delivery, sign(delivery.body, this.#now))
    } else if (
      code === 'SIGNATURE_INVALID' ? !delivery.forged : code === 'INVALID_INPUT' ? delivery.fits : code !== 'CONFLICT'
    )
      this.#broken ??= error
  }

  #hook(actor: Actor): RouteOf<never, never, never> {
    const context = {
      ...{ db: this.#rows.as(actor), manifest: () => this.#manifest, clock: { now: () => this.#now } },
      ...{ random: this.#random, capabilities: () => ({ secret: async () => secret }), log: { warn: () => {} } },
    }
    return hookRoutes(context as unknown as ApiContext)[0]!
  }

  /** Nothing goes wrong any more: whatever is due is done, and is done in time. */
  async #settle(): Promise<void> {
    this.#isCalm = true
    for (const { name } of this.#manifest.workflows) this.#rows.set('workflows', name, { paused: false })
    await this.#comeToRest()
    // Whoever was not told looks by itself; an engine that failed tries again.
    for (let passed = 0; passed < 2 * sweepMs; ) passed += await this.#next()
    this.#calmSince = this.#now
    this.#publish()
    this.#write()
    for (let passed = 0; passed < 3 * 60_000; ) passed += await this.#next()
    for (const delivery of this.#deliveries)
      for (let tries = 0; tries < 3 && delivery.runs.length === 0 && delivery.fits && !delivery.forged; tries += 1) {
        void this.#send(delivery)
        await this.#comeToRest()
      }
    if (this.#broken !== undefined) throw this.#broken
  }

  /** Lets the time pass until somebody has something to do; gives how long that was. */
  async #next(): Promise<number> {
    const waits = this.#engines.flatMap(({ wakeAt, events }) => [wakeAt, ...events.map(({ next }) => next)])
    const wait = Math.max(1, Math.min(20_000, Math.min(...waits) - this.#now))
    this.#now += wait
    await this.#comeToRest()
    return wait
  }

  async #comeToRest(): Promise<void> {
    await turn()
    for (;;) {
      while (this.#rows.gates.size > 0) await this.#pass()
      let some = false
      for (const engine of this.#engines) some = this.#work(engine) || some
      await turn()
      if (!some && this.#rows.gates.size === 0) return
      this.#passes += 1
      if (this.#passes > mostPasses) throw new Error('the plans never come to rest')
    }
  }
}

/** Everybody comes to the next gate. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

function sign(body: string, now: number): Pick<Delivery, 'body' | 'signedAt' | 'signature'> {
  const signedAt = Math.floor(now / 1_000)
  return { body, signedAt, signature: createHmac('sha256', secret).update(`${signedAt}.${body}`).digest('hex') }
}

/** The same objects in all cases: what is made of a schema is kept. */
const schemas = {
  clocked: {
    ...{ type: 'object', properties: { at: { type: 'string' }, start: { type: 'string' } } },
    required: ['at', 'start'],
  },
  events: {
    ...{
      type: 'object',
      properties: { n: { type: 'integer' }, records: { type: 'array' }, versions: { type: 'object' } },
    },
  },
}

function manifestOf({ clocks, topic, datasets, hook }: PlanCase): Manifest {
  const workflow = (name: string, params: object, plans: readonly (Plan & { name: string })[]): WorkflowManifest => ({
    ...{ name, file: `${name}.ts`, params, plans, stages: [], nodes: [] },
  })
  const byClock = clocks.map(({ everyMs, startMs, pattern, zone, catchUp, unfit }, at) => ({
    ...{ name: `clock-${at}`, catchUp, params: { at: unfit ? 5 : { $tick: 'time' }, start: { $tick: 'start' } } },
    ...(everyMs === undefined
      ? { kind: 'cron', pattern, timezone: zone }
      : { kind: 'interval', every: 'so', everyMs, ...(startMs === undefined ? {} : { start: began + startMs }) }),
  }))
  const byEvent = [
    ...(topic
      ? [
          {
            ...{ kind: 'topic-record', name: 'records', topic: 't' },
            ...(topic.onlyGood ? { match: { good: [true] } } : {}),
            ...(topic.batch ? { batch: topic.batch } : { params: { n: { $event: ['record', 'n'] } } }),
          },
        ]
      : []),
    ...(datasets
      ? [
          {
            ...{ kind: 'dataset-written', name: 'datasets', datasets: datasets.names, when: datasets.when },
            params: { versions: { $event: ['datasets'] } },
          },
        ]
      : []),
    ...(hook ? [{ kind: 'webhook', name: 'told', hook: 'told', secret: 'key', toleranceMs, maxBytes: 10_000 }] : []),
  ]
  return {
    ...{ format: 1, hash: 'v', entries: [], topics: [], streams: [], endpoints: [], commands: [], faults: [] },
    workflows: [
      workflow('clocked', schemas.clocked, byClock as never),
      workflow('events', schemas.events, byEvent as never),
    ],
  } as Manifest
}
