import { describe, expect, it } from 'vitest'
import { LimitWorld, type Node } from '../../test/limit-world.ts'
import type { Need } from './limit-lines.ts'

it('tokens go back when there is no runner, and are not asked for again until one was there', () => {
  const pools = ['pool:a', 'pool:b', 'pool:c'].map((id) => ({ id, capacity: 9 }))
  const world = new LimitWorld([...pools, { id: 'rate:api', capacity: 2, perMs: 1_000 }], 1, 1)
  const [node] = world.nodes as [Node]
  const [a, b, c, api] = ['pool:a', 'pool:b', 'pool:c', 'rate:api'].map((limit) => ({ limit, amount: 1 }))
  const offer = (number: number, ...needs: (typeof api)[]) =>
    world.offer(node, { number, needs: needs.flatMap((need) => need ?? []), priority: 0, lane: 'shared' })
  const exchange = () => {
    let words = 0
    for (; words < 50 && world.say(node); words += 1) world.hear(node)
    return words
  }
  const end = () => {
    const [token] = world.live.keys()
    world.commitStart(token!)
    world.end(token!)
  }
  // The tokens are used up; two lines wait for the next, and then a long task takes the only runner.
  for (const number of [0, 1]) {
    offer(number, api)
    exchange()
    end()
  }
  offer(2, a, api)
  offer(3, b, api)
  exchange()
  offer(4, c)
  exchange()
  expect(world.live.size).toBe(1)
  world.now += 5_000
  node.lines.look()
  expect(exchange()).toBeLessThan(5)
  end()
  world.settle()
  expect(world.starts.map(({ task }) => task.number)).toEqual([0, 1, 4, 2, 3])
})

it('those behind one that waited for a runner ask for tokens when it turns out to lack something else', () => {
  const pools = ['pool:a', 'pool:b'].map((id) => ({ id, capacity: 9 }))
  const world = new LimitWorld([...pools, { id: 'rate:api', capacity: 1, perMs: 1_000 }], 1, 1)
  const [node] = world.nodes as [Node]
  const [a, b, api] = ['pool:a', 'pool:b', 'rate:api'].map((limit) => ({ limit, amount: 1 })) as [Need, Need, Need]
  const offer = (number: number, ...needs: Need[]) => {
    world.now += 1
    world.offer(node, { number, needs, priority: 0, lane: 'shared' })
  }
  const exchange = () => {
    for (let words = 0; words < 50 && world.say(node); words += 1) world.hear(node)
  }
  const end = () => {
    const [token] = world.live.keys()
    world.commitStart(token!)
    world.end(token!)
  }
  offer(0, api)
  exchange()
  end()
  offer(1, b, api)
  offer(2, api)
  exchange()
  offer(3, a)
  exchange()
  world.now += 5_000
  node.lines.look('rate:api')
  exchange()
  world.setCapacity('pool:b', 0)
  world.deliver()
  exchange()
  end()
  exchange()
  expect(world.starts.map(({ task }) => task.number)).toEqual([0, 3, 2])
})

it('tokens are told to be used once that is committed, when somebody on another node waits for them', () => {
  const world = new LimitWorld([{ id: 'rate:api', capacity: 2, perMs: 400 }], 2)
  const [one, other] = world.nodes as [Node, Node]
  const offer = (node: Node, number: number) =>
    world.offer(node, { number, needs: [{ limit: 'rate:api', amount: 1 }], priority: 0, lane: 'shared' })
  const exchange = () => {
    for (let moved = true; moved; ) {
      moved = world.messages.length > 0
      for (let left = world.messages.length; left > 0; left -= 1) world.deliver()
      for (const node of world.nodes) {
        if (!world.say(node)) continue
        world.hear(node)
        moved = true
      }
    }
  }
  offer(one, 0)
  offer(one, 1)
  offer(other, 2)
  exchange()
  // The starts take their time to be committed, and the other node hears of it in between.
  expect(world.starts).toHaveLength(2)
  for (const token of [...world.live.keys()]) {
    world.commitStart(token)
    world.end(token)
  }
  exchange()
  for (let ms = 0; ms < 5; ms += 1) {
    world.now += 200
    // As its timer does: nobody else looks by itself.
    other.lines.look('rate:api')
    exchange()
  }
  expect(world.starts.map(({ task }) => task.number)).toEqual([0, 1, 2])
})

describe('runners of two sorts', () => {
  const wide = (amount: number) => [{ limit: 'pool:wide', amount }]

  it('a small request of one sort, behind a large one of the other, is not looked at again and again', () => {
    const world = new LimitWorld([{ id: 'pool:wide', capacity: 3 }], 1)
    const [node] = world.nodes as [Node]
    const offer = (number: number, amount: number, lane: 'shared' | 'process') => {
      world.now += 1
      world.offer(node, { number, needs: wide(amount), priority: 0, lane })
    }
    offer(0, 2, 'shared')
    offer(1, 2, 'process')
    offer(2, 1, 'shared')
    for (let words = 0; words < 10 && world.say(node); words += 1) world.hear(node)
    expect(world.starts.map(({ task }) => task.number)).toEqual([0])
    world.settle()
    expect(world.starts.map(({ task }) => task.number)).toEqual([0, 1, 2])
  })

  it('who waits for a runner of one sort holds up nobody for whom there is one of the other', () => {
    const world = new LimitWorld([{ id: 'pool:wide', capacity: 3 }], 1, 1)
    const [node] = world.nodes as [Node]
    for (const [number, lane] of (['process', 'process', 'process', 'shared'] as const).entries()) {
      world.now += 1
      world.offer(node, { number, needs: wide(1), priority: number, lane })
    }
    for (let words = 0; words < 10 && world.say(node); words += 1) world.hear(node)
    expect(world.starts.map(({ task }) => task.number).sort()).toEqual([2, 3])
  })
})
