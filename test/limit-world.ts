/** Several nodes over the rows of limits in memory: what is granted, started, ended, lost and told, in any order. */
import { type Answer, type Bucket, exchange, type Holding, type LimitState } from '../src/core/limit-exchange.ts'
import type { Candidate, Need, NodeWord } from '../src/core/limit-lines.ts'
import { LimitLines } from '../src/core/limits.ts'

export interface Task {
  readonly number: number
  readonly needs: readonly Need[]
  readonly priority: number
  readonly lane: 'shared' | 'process'
  readonly forgotten?: boolean
}

interface Attempt {
  readonly node: Node
  readonly task: Task
  committed: boolean
}

/** One engine: its lines, its runners, its word under way. */
export class Node {
  readonly name: string
  readonly lines: LimitLines<Node>
  readonly tasks: Task[] = []
  alive = true
  underWay: readonly NodeWord[] | undefined
  answers: { word: NodeWord; answer: Answer }[] = []

  constructor(name: string) {
    this.name = name
    this.lines = new LimitLines(name)
  }
}

const heldBy = ({ holdings }: LimitState) => holdings.reduce((sum: number, { amount }: Holding) => sum + amount, 0)

export interface LimitSpec {
  readonly id: string
  readonly capacity: number
  readonly perMs?: number
}

export class LimitWorld {
  now = 1_000
  readonly states = new Map<string, LimitState>()
  readonly nodes: Node[] = []
  readonly live = new Map<number, Attempt>()
  readonly starts: { task: Task; at: number; node: string }[] = []
  /** Per rate: when tokens were used. */
  readonly used = new Map<string, number[]>()
  readonly messages: { to: Node; limit: string }[] = []
  readonly #runners: number
  #tokens = 0
  #names = 0

  constructor(limits: readonly LimitSpec[], nodes: number, runners = 100) {
    this.#runners = runners
    for (const { id, capacity, perMs } of limits) {
      const bucket: Bucket | undefined =
        perMs === undefined ? undefined : { limit: capacity, perMs, burst: capacity, level: capacity, at: this.now }
      this.states.set(id, { capacity, bucket, holdings: [] })
    }
    for (let index = 0; index < nodes; index += 1) this.join()
  }

  join(): Node {
    const node = new Node(`n${this.#names++}`)
    this.nodes.push(node)
    return node
  }

  get aliveNodes(): Node[] {
    return this.nodes.filter(({ alive }) => alive)
  }

  offer(node: Node, task: Task): void {
    const index = node.tasks.push(task) - 1
    node.lines.offer(
      node,
      { node: index, first: -1, last: -1 },
      task.needs,
      { priority: task.priority, since: this.now },
      task.lane,
    )
  }

  /** What waits there is wanted no more. */
  forget(node: Node): void {
    node.lines.forget(node)
    const started = new Set(this.starts.map(({ task }) => task))
    for (const [index, task] of node.tasks.entries())
      if (!started.has(task)) node.tasks[index] = { ...task, forgotten: true }
  }

  /** Starts what may start; the starts are committed later. */
  fill(node: Node): number {
    let started = 0
    const busy = { shared: 0, process: 0 }
    for (const attempt of this.live.values()) if (attempt.node === node) busy[attempt.task.lane] += 1
    const free = () => (['shared', 'process'] as const).filter((lane) => busy[lane] < this.#runners)
    const start = ({ node: index }: Candidate<Node>) => {
      const task = node.tasks[index]!
      const token = ++this.#tokens
      this.live.set(token, { node, task, committed: false })
      this.#check(task)
      this.starts.push({ task, at: this.now, node: node.name })
      busy[task.lane] += 1
      return token
    }
    while (node.lines.next(free(), start)) started += 1
    if (started > 10_000) throw new Error('it starts without end')
    return started
  }

  /** What the limits allow is exceeded by this start. */
  #check(task: Task): void {
    for (const { limit, amount } of task.needs) {
      const { capacity, bucket } = this.states.get(limit)!
      if (bucket) {
        const used = this.used.get(limit) ?? []
        this.used.set(limit, used)
        used.push(this.now)
        for (const [index, from] of used.entries()) {
          const most = bucket.burst + ((this.now - from) * bucket.limit) / bucket.perMs
          const count = used.length - index
          if (count > most + 1e-6) throw new Error(`${limit}: ${count} tokens in ${this.now - from} ms`)
        }
        continue
      }
      let held = 0
      for (const other of this.live.values())
        for (const need of other.task.needs) if (need.limit === limit) held += need.amount
      if (held > capacity) throw new Error(`${limit}: ${held} of ${capacity} after a start of ${amount}`)
    }
  }

  commitStart(token: number): void {
    const attempt = this.live.get(token)
    if (!attempt || attempt.committed) return
    attempt.committed = true
    attempt.node.lines.startTold(token, this.now)
  }

  end(token: number): void {
    const attempt = this.live.get(token)
    if (!attempt) return
    this.live.delete(token)
    attempt.node.lines.release(token, this.now)
  }

  /** The node's word reaches the rows; the answer may get lost. */
  say(node: Node): boolean {
    if (node.underWay || !node.alive) return false
    this.fill(node)
    const words = node.lines.words(this.now, 100)
    if (words.length === 0) return false
    node.underWay = words
    for (const word of words) {
      const before = this.states.get(word.limit)!
      const { state, answer, tell } = exchange(before, word, this.now)
      this.states.set(word.limit, state)
      this.#checkState(word.limit, heldBy(before))
      node.answers.push({ word, answer })
      if (tell)
        for (const other of this.aliveNodes) if (other !== node) this.messages.push({ to: other, limit: word.limit })
    }
    return true
  }

  /** A word may be lost on the way there, too. */
  loseWord(node: Node): void {
    if (node.underWay || !node.alive) return
    for (const { limit } of node.lines.words(this.now, 100)) node.lines.unanswered(limit)
  }

  hear(node: Node, lost = false): void {
    for (const { word, answer } of node.answers.splice(0)) {
      if (lost) node.lines.unanswered(word.limit)
      else node.lines.answered(word, answer)
    }
    node.underWay = undefined
    this.fill(node)
  }

  deliver(lost = false): void {
    const message = this.messages.shift()
    if (message && !lost && message.to.alive) message.to.lines.look(message.limit)
  }

  /** The process is gone, its runners too; its rows stay until its lease has lapsed. */
  crash(node: Node): void {
    node.alive = false
    for (const [token, attempt] of [...this.live]) if (attempt.node === node) this.live.delete(token)
  }

  /** The lease of a dead node has lapsed, and somebody finds it. */
  lapse(node: Node): void {
    if (node.alive) return
    for (const [id, state] of this.states) {
      const gone = state.holdings.find((holding) => holding.node === node.name)
      if (!gone) continue
      const lapsed = (state.lapsed ?? 0) + (state.bucket ? gone.amount : 0)
      this.states.set(id, { ...state, lapsed, holdings: state.holdings.filter((holding) => holding !== gone) })
    }
  }

  setCapacity(id: string, capacity: number): void {
    const state = this.states.get(id)!
    const { bucket } = state
    this.states.set(id, { ...state, capacity, bucket: bucket && { ...bucket, burst: capacity } })
    for (const node of this.aliveNodes) this.messages.push({ to: node, limit: id })
  }

  #checkState(id: string, before: number): void {
    const { capacity, bucket, holdings } = this.states.get(id)!
    const held = heldBy(this.states.get(id)!)
    if (holdings.some(({ amount }) => amount < 0)) throw new Error(`${id}: a grant below zero`)
    if (bucket && bucket.level + held > bucket.burst + 1e-6 && held > 0 && bucket.level >= 1)
      throw new Error(`${id}: ${bucket.level} tokens and ${held} granted; its burst is ${bucket.burst}`)
    if (!bucket && held > Math.max(capacity, before)) throw new Error(`${id}: ${held} of ${capacity} are granted`)
  }

  /** Everything that is under way arrives, every attempt ends, dead nodes are found: until nothing moves any more. */
  settle(): void {
    for (const node of this.nodes) this.lapse(node)
    for (let idle = 0, rounds = 0; idle < 20; rounds += 1) {
      if (rounds > 1_000) throw new Error('it does not come to rest')
      let moved = false
      for (const node of this.aliveNodes) if (node.answers.length > 0) this.hear(node)
      for (let left = this.messages.length; left > 0; left -= 1) {
        this.deliver()
        moved = true
      }
      for (const node of this.aliveNodes) {
        const said = this.say(node)
        if (said) this.hear(node)
        moved ||= said
      }
      for (const token of [...this.live.keys()]) {
        this.commitStart(token)
        this.end(token)
        moved = true
      }
      if (moved) idle = 0
      else {
        idle += 1
        this.now += 100_000
        for (const node of this.aliveNodes) node.lines.look()
        // Looking is a move only when it lets something start.
        const before = this.starts.length
        for (const node of this.aliveNodes) if (this.say(node)) this.hear(node)
        if (this.starts.length > before) idle = 0
      }
    }
  }
}
