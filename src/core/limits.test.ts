import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type LimitSpec, LimitWorld, type Node, type Task } from '../../test/limit-world.ts'
import type { Need } from './limit-lines.ts'
import { LimitLines } from './limits.ts'

const runs = Number(process.env.LIMIT_RUNS ?? 300)

let numbers = 0
const task = (needs: readonly Need[], more: Partial<Task> = {}): Task => ({
  number: ++numbers,
  needs,
  priority: 0,
  lane: 'shared',
  ...more,
})
const limits: readonly LimitSpec[] = [
  { id: 'workers:w', capacity: 4 },
  { id: 'key:customer:1', capacity: 1 },
  { id: 'key:customer:2', capacity: 2 },
  { id: 'pool:etl', capacity: 3 },
  { id: 'pool:big', capacity: 7 },
  { id: 'rate:api', capacity: 3, perMs: 1_000 },
]

const needs: fc.Arbitrary<Need[]> = fc
  .subarray(
    limits.map(({ id }) => id),
    { minLength: 1, maxLength: 4 },
  )
  .chain((ids) =>
    fc.tuple(
      ...ids.map((limit) =>
        (limit.startsWith('pool') ? fc.integer({ min: 1, max: 3 }) : fc.constant(1)).map((amount) => ({
          limit,
          amount,
        })),
      ),
    ),
  )

type Step =
  | { kind: 'offer'; node: number; needs: Need[]; priority: number; lane: 'shared' | 'process' }
  | {
      kind: 'fill' | 'say' | 'hear' | 'forget' | 'lose word' | 'lose answer' | 'crash' | 'lapse' | 'sweep'
      node: number
    }
  | { kind: 'commit' | 'end'; which: number }
  | { kind: 'deliver' | 'lose message' | 'join' }
  | { kind: 'capacity'; limit: number; capacity: number }
  | { kind: 'time'; ms: number }

const nodeNumber = fc.nat(3)
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        kind: fc.constant('offer' as const),
        node: nodeNumber,
        needs,
        priority: fc.constantFrom(0, 0, 0, 5),
        lane: fc.constantFrom('shared' as const, 'shared' as const, 'process' as const),
      }),
    },
    {
      weight: 24,
      arbitrary: fc.record({
        kind: fc.constantFrom('fill' as const, 'say' as const, 'say' as const, 'hear' as const, 'hear' as const),
        node: nodeNumber,
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constantFrom(
          'forget' as const,
          'lose word' as const,
          'lose answer' as const,
          'sweep' as const,
          'lapse' as const,
        ),
        node: nodeNumber,
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash' as const), node: nodeNumber }) },
    {
      weight: 14,
      arbitrary: fc.record({ kind: fc.constantFrom('commit' as const, 'end' as const), which: fc.nat(20) }),
    },
    {
      weight: 8,
      arbitrary: fc.record({
        kind: fc.constantFrom('deliver' as const, 'deliver' as const, 'deliver' as const, 'lose message' as const),
      }),
    },
    { weight: 1, arbitrary: fc.constant({ kind: 'join' as const }) },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('capacity' as const),
        limit: fc.nat(4),
        capacity: fc.integer({ min: 0, max: 8 }),
      }),
    },
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.integer({ min: 1, max: 900 }) }) },
  ),
  { minLength: 1, maxLength: 120 },
)

function play(world: LimitWorld, script: readonly Step[]): void {
  const nodeOf = (index: number): Node | undefined => world.aliveNodes[index % Math.max(1, world.aliveNodes.length)]
  const tokenOf = (index: number) => [...world.live.keys()][index % Math.max(1, world.live.size)]
  for (const step of script) {
    const node = 'node' in step ? nodeOf(step.node) : undefined
    const token = 'which' in step ? tokenOf(step.which) : undefined
    if (step.kind === 'offer' && node) world.offer(node, task(step.needs, step))
    if (step.kind === 'fill' && node) world.fill(node)
    if (step.kind === 'forget' && node) world.forget(node)
    if (step.kind === 'say' && node) world.say(node)
    if (step.kind === 'hear' && node) world.hear(node)
    if (step.kind === 'lose word' && node) world.loseWord(node)
    if (step.kind === 'lose answer' && node) world.hear(node, true)
    if (step.kind === 'sweep' && node) node.lines.look()
    if (step.kind === 'crash' && node) world.crash(node)
    if (step.kind === 'lapse') for (const dead of world.nodes) world.lapse(dead)
    if (step.kind === 'commit' && token !== undefined) world.commitStart(token)
    if (step.kind === 'end' && token !== undefined) world.end(token)
    if (step.kind === 'deliver') world.deliver()
    if (step.kind === 'lose message') world.deliver(true)
    if (step.kind === 'join') world.join()
    if (step.kind === 'capacity') world.setCapacity(limits[step.limit]!.id, step.capacity)
    if (step.kind === 'time') world.now += step.ms
  }
}

describe('limits over several nodes', () => {
  it('are not exceeded, and nobody who can start waits for ever, whatever the order of things', () => {
    fc.assert(
      fc.property(steps, (script) => {
        const world = new LimitWorld(limits, 2, 5)
        play(world, script)
        // All of them can be met in the end.
        for (const { id } of limits.slice(0, -1)) world.setCapacity(id, 8)
        world.settle()
        for (const { tasks, alive, name } of world.nodes) {
          if (!alive) continue
          const started = new Set(world.starts.filter((start) => start.node === name).map((start) => start.task.number))
          expect(tasks.filter(({ number, forgotten }) => !forgotten && !started.has(number))).toEqual([])
        }
        // Nothing is kept by anybody: one that needs all of it gets it.
        const all = task(limits.slice(0, -1).map(({ id }) => ({ limit: id, amount: 8 })))
        world.offer(world.aliveNodes[0] ?? world.join(), all)
        world.settle()
        expect(world.starts.at(-1)!.task).toBe(all)
      }),
      { numRuns: runs },
    )
  })
})

const etl = (amount = 1): Need => ({ limit: 'pool:etl', amount })
const big = (amount = 1): Need => ({ limit: 'pool:big', amount })
const startedBy = (world: LimitWorld) => world.starts.map((start) => start.task.number)
const tokens = (world: LimitWorld) => [...world.live.keys()]
const exchangeAll = (world: LimitWorld) => {
  for (let moved = true; moved; ) {
    moved = false
    for (let left = world.messages.length; left > 0; left -= 1) world.deliver()
    for (const node of world.aliveNodes) {
      const said = world.say(node)
      if (said) world.hear(node)
      moved ||= said
    }
  }
}
const endOf = (world: LimitWorld, node: Node) => {
  const [token] = [...world.live].find(([, attempt]) => attempt.node === node)!
  world.end(token)
}
const endFirst = (world: LimitWorld) => {
  const [token] = tokens(world)
  world.commitStart(token!)
  world.end(token!)
  for (const node of world.aliveNodes) world.fill(node)
}

describe('one node', () => {
  it('asks once for a pool that nobody else wants, and then needs no word more', () => {
    const world = new LimitWorld(limits, 1)
    const [node] = world.nodes as [Node]
    for (let index = 0; index < 20; index += 1) {
      world.now += 1
      world.offer(node, task([etl()]))
    }
    expect(world.fill(node)).toBe(0)
    expect(world.say(node)).toBe(true)
    world.hear(node)
    expect(world.live.size).toBe(3)
    for (let index = 0; index < 17; index += 1) {
      endFirst(world)
      expect(world.live.size).toBe(3)
      expect(world.say(node)).toBe(false)
    }
    expect(startedBy(world)).toEqual([...startedBy(world)].sort((a, b) => a - b))
    expect(world.starts).toHaveLength(20)
  })

  it('starts by priority, then in order', () => {
    const world = new LimitWorld(limits, 1)
    const [node] = world.nodes as [Node]
    const tasks = [0, 0, 5, 0, 9].map((priority) => task([{ limit: 'key:customer:1', amount: 1 }], { priority }))
    for (const one of tasks) world.offer(node, one)
    exchangeAll(world)
    while (world.live.size > 0) endFirst(world)
    expect(startedBy(world)).toEqual([4, 2, 0, 1, 3].map((index) => tasks[index]!.number))
  })

  it('lets no small request overtake a large one', () => {
    const world = new LimitWorld(limits, 1)
    const [node] = world.nodes as [Node]
    const tasks = [etl(1), etl(1), etl(3), etl(1), etl(1)].map((need) => task([need]))
    for (const one of tasks) {
      world.now += 1
      world.offer(node, one)
    }
    exchangeAll(world)
    expect(world.live.size).toBe(2)
    endFirst(world)
    expect(world.live.size).toBe(1)
    endFirst(world)
    expect(startedBy(world)).toEqual(tasks.slice(0, 3).map(({ number }) => number))
    endFirst(world)
    expect(startedBy(world)).toEqual(tasks.map(({ number }) => number))
  })

  it('passes over a request that is over the capacity, until that is raised', () => {
    const world = new LimitWorld(limits, 1)
    const [node] = world.nodes as [Node]
    const tasks = [etl(4), etl(1)].map((need) => task([need]))
    for (const one of tasks) world.offer(node, one)
    exchangeAll(world)
    expect(startedBy(world)).toEqual([tasks[1]!.number])
    world.setCapacity('pool:etl', 5)
    exchangeAll(world)
    expect(startedBy(world)).toEqual([tasks[1]!.number, tasks[0]!.number])
  })

  it('starts nothing while more is in use than a capacity that was lowered', () => {
    const world = new LimitWorld(limits, 1)
    const [node] = world.nodes as [Node]
    for (let index = 0; index < 6; index += 1) world.offer(node, task([etl()]))
    exchangeAll(world)
    expect(world.live.size).toBe(3)
    world.setCapacity('pool:etl', 1)
    exchangeAll(world)
    for (const left of [2, 1]) {
      endFirst(world)
      exchangeAll(world)
      expect(world.live.size).toBe(left)
    }
    endFirst(world)
    exchangeAll(world)
    expect(world.live.size).toBe(1)
    world.setCapacity('pool:etl', 0)
    exchangeAll(world)
    endFirst(world)
    exchangeAll(world)
    expect(world.live.size).toBe(0)
    world.setCapacity('pool:etl', 2)
    exchangeAll(world)
    expect(world.live.size).toBe(2)
  })

  it('starts nothing that comes between an end and the word, while more is in use than there may be', () => {
    const world = new LimitWorld(limits, 1)
    const [node] = world.nodes as [Node]
    for (let index = 0; index < 3; index += 1) world.offer(node, task([etl()]))
    exchangeAll(world)
    world.setCapacity('pool:etl', 1)
    exchangeAll(world)
    endFirst(world)
    world.offer(node, task([etl()], { priority: 5 }))
    expect(world.fill(node)).toBe(0)
  })

  /** A task that needs a key and a slot was turned away so often that it keeps the key and waits for the slot alone. */
  const collecting = () => {
    const specs = [
      { id: 'key:k:1', capacity: 1 },
      { id: 'pool:p', capacity: 1 },
    ]
    const world = new LimitWorld(specs, 1)
    const [node] = world.nodes as [Node]
    const [key, slot] = specs.map(({ id }) => ({ limit: id, amount: 1 })) as [Need, Need]
    const start = (need: Need) => {
      world.now += 1
      world.offer(node, task([need]))
      exchangeAll(world)
      return tokens(world).at(-1)!
    }
    const end = (token: number) => {
      world.end(token)
      exchangeAll(world)
    }
    let [keyHeld, slotHeld] = [start(key), start(slot)]
    const both = task([key, slot])
    world.offer(node, both)
    exchangeAll(world)
    for (let round = 0; round < 2; round += 1) {
      end(keyHeld)
      keyHeld = start(key)
      end(slotHeld)
      slotHeld = start(slot)
    }
    expect(world.live.size).toBe(2)
    end(keyHeld)
    return { world, node, both, startKey: () => start(key), endSlot: () => end(slotHeld) }
  }

  it('collects what it needs when it was turned away again and again, and keeps nothing when it is forgotten', () => {
    const { world, node, both, startKey } = collecting()
    const before = world.starts.length
    startKey()
    expect(world.starts).toHaveLength(before)
    node.lines.forget(node)
    startKey()
    expect(world.starts).toHaveLength(before + 1)
    expect(startedBy(world)).not.toContain(both.number)
  })

  it('gives back what it keeps when somebody sets less, and starts when there is enough again', () => {
    const { world, both, endSlot } = collecting()
    world.setCapacity('key:k:1', 0)
    exchangeAll(world)
    endSlot()
    expect(startedBy(world)).not.toContain(both.number)
    world.setCapacity('key:k:1', 1)
    exchangeAll(world)
    expect(startedBy(world)).toContain(both.number)
  })

  it('gives a key back of which the only task is given up as it was to start', () => {
    const world = new LimitWorld(limits, 1)
    const [node] = world.nodes as [Node]
    world.offer(node, task([{ limit: 'key:customer:1', amount: 1 }]))
    world.fill(node)
    const [asked] = node.lines.words(world.now, 100)
    const answer = { capacity: 1, amount: 1, held: 1, ahead: undefined, retryInMs: undefined, line: [] }
    node.lines.answered(asked!, answer)
    const start = () => {
      node.lines.forget(node)
      return 0
    }
    expect(node.lines.next(['shared', 'process'], start)).toBe(false)
    expect(node.lines.words(world.now, 100)).toMatchObject([{ limit: 'key:customer:1', keep: 0, line: [] }])
  })

  it('starts all lines that there is room for, when it is granted some', () => {
    const world = new LimitWorld(limits, 1)
    const [node] = world.nodes as [Node]
    for (const priority of [1, 2, 3]) world.offer(node, task([etl()], { priority }))
    world.say(node)
    world.hear(node)
    expect(world.live.size).toBe(3)
  })

  it('knows what it used while its word was under way', () => {
    const world = new LimitWorld([{ id: 'rate:api', capacity: 2, perMs: 60_000 }], 1)
    const [node] = world.nodes as [Node]
    const api = { limit: 'rate:api', amount: 1 }
    for (let index = 0; index < 2; index += 1) world.offer(node, task([api]))
    exchangeAll(world)
    node.lines.look()
    world.say(node)
    for (const token of tokens(world)) world.commitStart(token)
    world.hear(node)
    for (let index = 0; index < 2; index += 1) world.offer(node, task([api]))
    expect(world.fill(node)).toBe(0)
  })

  it('counts the tokens that it had as used when it may have been taken for dead', () => {
    const lines = new LimitLines<object>('n')
    const place = { priority: 0, since: 0 }
    lines.offer({}, { node: 0, first: 0, last: 4 }, [{ limit: 'rate:api', amount: 1 }], place, 'shared')
    const answer = { capacity: 3, amount: 3, held: 3, ahead: undefined, retryInMs: undefined, line: [] }
    expect(lines.next(['shared'], () => 1)).toBe(false)
    lines.answered(lines.words(0, 10)[0]!, answer)
    // Nobody knows of the first whether its start was committed, and none of the other two will be.
    expect(lines.next(['shared'], () => 1)).toBe(true)
    lines.reset(50)
    expect(lines.words(60, 10)).toEqual([{ limit: 'rate:api', node: 'n', keep: 0, used: 3, usedAgoMs: 10, line: [] }])
  })

  it('forgets a key that nobody needs any more', () => {
    const world = new LimitWorld(limits, 1)
    const [node] = world.nodes as [Node]
    world.offer(node, task([{ limit: 'key:customer:1', amount: 1 }]))
    exchangeAll(world)
    expect(world.states.get('key:customer:1')!.holdings[0]!.amount).toBe(1)
    endFirst(world)
    exchangeAll(world)
    expect(world.states.get('key:customer:1')!.holdings[0]!.amount).toBe(0)
    expect(node.lines.look('key:customer')).toBe(false)
  })

  it('lets nothing of a run wait that was forgotten, and holds what its attempts hold', () => {
    const world = new LimitWorld(limits, 1)
    const [node] = world.nodes as [Node]
    for (let index = 0; index < 5; index += 1) world.offer(node, task([etl()]))
    exchangeAll(world)
    node.lines.forget(node)
    exchangeAll(world)
    for (let index = 0; index < 3; index += 1) endFirst(world)
    expect(world.starts).toHaveLength(3)
    world.offer(node, task([etl(3)]))
    expect(world.fill(node)).toBe(1)
  })
})

describe('several nodes', () => {
  it('serve in one order: who came first starts first, wherever it waits', () => {
    const world = new LimitWorld(limits, 3)
    for (let index = 0; index < 3; index += 1) world.offer(world.nodes[0]!, task([etl()]))
    exchangeAll(world)
    const tasks = Array.from({ length: 30 }, (_, index) => task([etl()], { priority: index === 20 ? 1 : 0 }))
    for (const [index, one] of tasks.entries()) {
      world.now += 1
      world.offer(world.nodes[index % 3]!, one)
    }
    exchangeAll(world)
    while (world.live.size > 0) {
      endFirst(world)
      exchangeAll(world)
    }
    const inOrder = [tasks[20]!, ...tasks.filter((_, index) => index !== 20)]
    expect(startedBy(world).slice(3)).toEqual(inOrder.map(({ number }) => number))
  })

  it('gives a large request on one node its turn while others ask for small ones without end', () => {
    const world = new LimitWorld(limits, 2)
    const [one, other] = world.nodes as [Node, Node]
    for (let index = 0; index < 4; index += 1) world.offer(one, task([etl()]))
    exchangeAll(world)
    world.now += 1
    const large = task([etl(3)])
    world.offer(other, large)
    exchangeAll(world)
    for (let ends = 0; ends < 20 && !startedBy(world).includes(large.number); ends += 1) {
      world.now += 1
      world.offer(one, task([etl()]))
      endFirst(world)
      exchangeAll(world)
      expect(ends).toBeLessThan(6)
    }
    expect(startedBy(world)).toContain(large.number)
  })

  it('use nothing that they are giving back, and let nobody pass who came later than others elsewhere', () => {
    const world = new LimitWorld(limits, 2)
    const [one, other] = world.nodes as [Node, Node]
    for (let index = 0; index < 3; index += 1) world.offer(one, task([etl()]))
    exchangeAll(world)
    world.now += 1
    const waiting = task([etl()])
    world.offer(other, waiting)
    exchangeAll(world)
    // Nothing waits here, and somebody does there: who comes now comes later.
    endOf(world, one)
    world.now += 1
    world.offer(one, task([etl()]))
    expect(world.fill(one)).toBe(0)
    world.say(one)
    world.offer(one, task([etl()], { priority: 9 }))
    expect(world.fill(one)).toBe(0)
    exchangeAll(world)
    expect(startedBy(world)).toContain(waiting.number)
  })

  it('give back tokens for which nobody waits any more', () => {
    const world = new LimitWorld([{ id: 'rate:api', capacity: 1, perMs: 60_000 }], 2)
    const [one, other] = world.nodes as [Node, Node]
    for (const node of [one, other]) world.offer(node, task([{ limit: 'rate:api', amount: 1 }]))
    world.say(one)
    world.forget(one)
    world.hear(one)
    exchangeAll(world)
    expect(world.starts.map(({ node }) => node)).toEqual([other.name])
  })

  it('say again what was not heard', () => {
    const world = new LimitWorld(limits, 2)
    const [one, other] = world.nodes as [Node, Node]
    for (let index = 0; index < 3; index += 1) world.offer(one, task([etl()]))
    exchangeAll(world)
    const waiting = task([etl()])
    world.offer(other, waiting)
    exchangeAll(world)
    endOf(world, one)
    world.loseWord(one)
    exchangeAll(world)
    expect(startedBy(world)).toContain(waiting.number)
  })

  it('need two limits each in the other order, and all start', () => {
    const world = new LimitWorld(limits, 2)
    const both = [etl(3), big(7)]
    for (let index = 0; index < 12; index += 1) {
      world.now += 1
      world.offer(world.nodes[index % 2]!, task(index % 3 === 0 ? [etl(1)] : index % 3 === 1 ? [big(7)] : both))
    }
    world.settle()
    expect(world.starts).toHaveLength(12)
  })

  it('need several limits each, from the same moment on, and nobody stands in the way of all for ever', () => {
    const needsOf = (index: number): Need[] =>
      [
        { limit: 'workers:w', amount: 1 },
        { limit: `key:customer:${1 + (index % 2)}`, amount: 1 },
        etl(1 + (index % 3)),
      ].slice(index % 3 === 2 ? 1 : 0)
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat(3)), (turns) => {
        const world = new LimitWorld(limits, 4)
        for (const node of world.nodes)
          for (let index = 0; index < 15; index += 1) world.offer(node, task(needsOf(index)))
        for (let turn = 0; world.starts.length < 60; turn += 1) {
          if (turn > 20_000) throw new Error(`${world.starts.length} of 60 have started`)
          const node = world.nodes[turns.next().value]!
          if (node.underWay) {
            world.hear(node)
            const [token] = [...world.live].find(([, attempt]) => attempt.node === node) ?? []
            if (token !== undefined) world.end(token)
          } else {
            node.lines.look()
            world.say(node)
          }
          world.messages.length = 0
        }
      }),
      { numRuns: 10 },
    )
  })

  it('let who waits have what a dead node held, when its lease has lapsed and not before', () => {
    const world = new LimitWorld(limits, 2)
    const [one, other] = world.nodes as [Node, Node]
    for (let index = 0; index < 3; index += 1) world.offer(one, task([etl()]))
    exchangeAll(world)
    const waiting = task([etl()])
    world.offer(other, waiting)
    exchangeAll(world)
    world.crash(one)
    other.lines.look()
    exchangeAll(world)
    expect(startedBy(world)).not.toContain(waiting.number)
    world.lapse(one)
    other.lines.look()
    exchangeAll(world)
    expect(startedBy(world)).toContain(waiting.number)
  })

  it('use tokens at the rate, after the burst', () => {
    const world = new LimitWorld([{ id: 'rate:api', capacity: 2, perMs: 1_000 }], 2)
    for (let index = 0; index < 10; index += 1)
      world.offer(world.nodes[index % 2]!, task([{ limit: 'rate:api', amount: 1 }]))
    const from = world.now
    for (let step = 0; step < 600; step += 1) {
      for (const node of world.aliveNodes) node.lines.look()
      exchangeAll(world)
      for (const token of tokens(world)) {
        world.commitStart(token)
        world.end(token)
      }
      world.now += 10
    }
    const at = world.starts.map((start) => start.at - from)
    expect(at.slice(0, 2)).toEqual([0, 0])
    expect(at).toHaveLength(10)
    // 8 tokens after the burst need 4 s; looking every 10 ms loses at most that at each.
    expect(at.at(-1)).toBeGreaterThanOrEqual(4_000)
    expect(at.at(-1)).toBeLessThanOrEqual(4_200)
  })
})
