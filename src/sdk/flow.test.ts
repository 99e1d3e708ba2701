import { describe, expect, it } from 'vitest'
import {
  action,
  approve,
  branch,
  each,
  group,
  type Ref,
  run,
  shortCircuit,
  stage,
  using,
  wait,
  workflow,
  z,
} from './index.ts'
import { graphOf } from './workflow.ts'

const give = action('give', { input: z.object({ value: z.unknown() }), output: z.string(), run: () => 'x' })
const items = action('items', { output: z.array(z.string()), run: () => [] })
const isOpen = action('is-open', { output: z.boolean(), run: () => true })
const shape = (define: (params: Ref<{ a: string }>) => unknown) =>
  graphOf(
    workflow('flow', { params: z.object({ a: z.string() }), define: ({ params }) => define(params as never) }) as never,
  )
const nodes = (define: () => unknown) => shape(define).nodes
const refused = (define: (params: Ref<{ a: string }>) => unknown) => expect(() => shape(define))

describe('branch', () => {
  it('puts its arms behind it, nested ones behind both', () => {
    const [first, second, , inner] = nodes(() => {
      const open = isOpen()
      branch(open, { yes: () => branch(open, { yes: () => give({ value: 1 }), no: () => give({ value: 2 }) }) })
    })
    expect(first).toMatchObject({ id: 'is-open', arms: [] })
    expect(second).toMatchObject({ id: 'branch', kind: 'branch', choices: ['yes'], upstream: [0] })
    expect(inner).toMatchObject({
      upstream: [1, 2],
      arms: [
        { branch: 1, arm: 'yes' },
        { branch: 2, arm: 'yes' },
      ],
    })
  })

  it('names short circuits apart, and leaves no arm open when a body throws', () => {
    expect(
      nodes(() => [1, 2].map((n) => shortCircuit(isOpen(), () => give({ value: n })))).map(({ id }) => id),
    ).toEqual([...['is-open', 'short-circuit', 'give'], ...['is-open-2', 'short-circuit-2', 'give-2']])
    const later = nodes(() => {
      try {
        branch(isOpen(), {
          yes: () => {
            throw new Error('x')
          },
        })
      } catch {}
      give({ value: 1 })
    })
    expect(later.at(-1)).toMatchObject({ arms: [] })
  })

  it('refuses arms without names, and to stand outside of a workflow', () => {
    refused(() => branch(isOpen(), {})).toThrow('a branch needs arms')
    refused(() => branch(isOpen(), { 'Not a name': () => give({ value: 1 }) })).toThrow('is not a name for a arm')
    expect(() => branch('x' as never, { yes: () => 1 })).toThrow("branch stands outside of a workflow's define")
  })
})

describe('group', () => {
  it('names its tasks, and stands for its last ones', () => {
    const all = nodes(() => {
      const before = isOpen()
      const loaded = group(
        'load',
        () => {
          const first = give({ value: 1 })
          give({ value: first })
          group('more', () => give({ value: 3 }))
        },
        { after: before },
      )
      give({ value: 4 }, { after: loaded })
    })
    expect(all.map(({ id }) => id)).toEqual(['is-open', 'load.give', 'load.give-2', 'load.more.give', 'give'])
    expect(all.map(({ upstream }) => upstream)).toEqual([[], [0], [0, 1], [0], [2, 3]])
    expect(all.map(({ group: name }) => name)).toEqual([undefined, 'load', 'load', 'load.more', undefined])
  })

  it('refuses to be empty', () => {
    refused(() => group('load', () => {})).toThrow('group load calls no action')
  })
})

describe('using', () => {
  it('puts the work between set-up and teardown', () => {
    const all = nodes(() =>
      using(
        () => give({ value: 0 }, { id: 'up' }),
        (made) => {
          give({ value: made }, { id: 'a' })
          give({ value: 1 }, { id: 'b' })
        },
        (made) => give({ value: made }, { id: 'down' }),
      ),
    )
    expect(all.map(({ upstream }) => upstream)).toEqual([[], [0], [0], [0, 1, 2]])
    expect(all[3]).toMatchObject({ teardownOf: 0, rule: 'all_done' })
  })

  it('has the teardown wait for all of the work, also for what other work waits for', () => {
    const all = nodes(() =>
      using(
        () => give({ value: 0 }, { id: 'up' }),
        (made) => give({ value: give({ value: made }, { id: 'a' }) }, { id: 'b' }),
        () => give({ value: 1 }, { id: 'down' }),
      ),
    )
    expect(all[3]).toMatchObject({ id: 'down', upstream: [0, 1, 2] })
  })

  it('has nobody wait for the teardown who is after its group', () => {
    const all = nodes(() => {
      const inside = group('inside', () =>
        using(
          () => give({ value: 0 }, { id: 'up' }),
          () => give({ value: 1 }, { id: 'work' }),
          () => give({ value: 2 }, { id: 'down' }),
        ),
      )
      give({ value: 3 }, { id: 'next', after: inside })
    })
    expect(all.map(({ id, upstream }) => [id, upstream])).toEqual([
      ['inside.up', []],
      ['inside.work', [0]],
      ['inside.down', [0, 1]],
      ['next', [1]],
    ])
  })

  it('refuses work without a task, and a teardown that is not one call', () => {
    const one = () => give({ value: 0 })
    refused(() => using(one, () => {}, one)).toThrow('the work of using calls no action')
    refused((params) => using(one, one, () => params as never)).toThrow(
      'the teardown of using must give what calling an action gave',
    )
    const two = () => [one(), one()].at(-1)!
    refused(() => using(one, one, two)).toThrow('the teardown of using must be one call of an action')
  })
})

describe('each', () => {
  it('is a workflow of its own, which is handed what it uses from around it', () => {
    const { nodes: outer, inner } = shape((params) => {
      const opened = isOpen()
      return each(items(), (item) => {
        const one = give({ value: [item, opened, params] })
        return { one, again: each(items(), (deep) => give({ value: [deep, item, opened, one] })) }
      })
    })
    expect(outer.map(({ id, kind, target }) => [id, kind, target])).toEqual([
      ['is-open', 'action', 'is-open'],
      ['items', 'action', 'items'],
      ['each', 'workflow', 'flow.each'],
    ])
    expect(outer[2]).toMatchObject({
      upstream: [0, 1],
      over: { $ref: { from: 'node', node: 1, path: [] } },
      args: {
        item: { $ref: { from: 'item', path: [] } },
        captured: { c0: { $ref: { from: 'node', node: 0, path: [] } }, c1: { $ref: { from: 'param', path: [] } } },
      },
    })
    expect([...inner.keys()].sort()).toEqual(['flow.each', 'flow.each.each'])
    const ref = (...path: string[]) => ({ $ref: { from: 'param', path } })
    expect(inner.get('flow.each')!.nodes[0]!.args).toEqual({
      value: [ref('item'), ref('captured', 'c0'), ref('captured', 'c1')],
    })
    expect(inner.get('flow.each')!.nodes[2]!.args).toMatchObject({
      captured: { c0: ref(), c1: { $ref: { from: 'node', node: 0 } } },
    })
    expect(inner.get('flow.each.each')!.nodes[0]!.args).toEqual({
      value: [
        ref('item'),
        ref('captured', 'c0', 'item'),
        ref('captured', 'c0', 'captured', 'c0'),
        ref('captured', 'c1'),
      ],
    })
  })

  it('names several apart, in groups too', () => {
    const { inner } = shape(() => {
      const list = items()
      each(list, (item) => give({ value: item }))
      group('load', () => each(list, (item) => give({ value: item })))
      each(list, (item) => give({ value: item }), { id: 'named' })
      each(list, (item) => give({ value: item }))
    })
    expect([...inner.keys()]).toEqual(['flow.each', 'flow.load.each', 'flow.named', 'flow.each-2'])
  })

  it('refuses bodies without a task, and too deep ones', () => {
    refused(() => each(items(), () => {})).toThrow('flow.each calls no action')
    const deep = (left: number): unknown => (left === 0 ? give({ value: 1 }) : each(['x'], () => deep(left - 1)))
    expect(shape(() => deep(8)).inner.size).toBe(8)
    refused(() => deep(9)).toThrow('is nested deeper than 8 levels')
  })
})

describe('references', () => {
  it('of one workflow are refused in another', () => {
    let leaked: unknown
    shape(() => {
      leaked = isOpen()
    })
    refused(() => give({ value: leaked })).toThrow('a reference of one workflow is used in another')
    refused(() => give({ value: 1 }, { after: leaked as never })).toThrow(
      'a reference of one workflow is used in another',
    )
  })

  it('that define returns are what its runs result in', () => {
    expect(shape((params) => ({ one: give({ value: 1 }), a: params.a })).output).toEqual({
      one: { $ref: { from: 'node', node: 0, path: [] } },
      a: { $ref: { from: 'param', path: ['a'] } },
    })
    expect(shape(() => void give({ value: 1 })).output).toBeUndefined()
  })
})

describe('what waits', () => {
  it('is a node of its kind', () => {
    const other = workflow('other', { params: z.object({ n: z.number() }), define: () => isOpen() })
    const all = nodes(() => {
      wait.until('2026-01-01T00:00:00Z')
      wait.for('2h')
      approve('Publish now?', { form: z.object({ rows: z.number() }), deadline: '1d', onRefuse: 'fail' })
      run(other, { n: 1 })
      run.map(other, items(), () => ({ n: 2 }))
    })
    expect(all.map(({ id, kind, target }) => [id, kind, target])).toEqual([
      ['wait', 'wait', 'wait'],
      ['wait-2', 'wait', 'wait'],
      ['publish-now', 'approval', 'approval'],
      ['other', 'workflow', 'other'],
      ['items', 'action', 'items'],
      ['other-2', 'workflow', 'other'],
    ])
    expect(all[1]!.args).toEqual({ forMs: 7_200_000 })
    expect(all[2]!.approval).toMatchObject({ deadlineMs: 86_400_000, onDeadline: 'fail', onRefuse: 'fail' })
  })

  it('refuses what it cannot be', () => {
    refused(() => approve('')).toThrow('the title of an approval is a text of 1 to 200 characters')
    refused(() => approve('x', { form: z.string() as never })).toThrow('the form of approval "x" must be a z.object')
    refused(() => approve('x', { onDeadline: 'wait' as never })).toThrow(
      'onDeadline of approval "x" is "wait"; allowed are fail',
    )
    refused(() => run({} as never, {})).toThrow('run(...) takes what workflow(...) gave')
    refused(() => wait.for('soon' as never)).toThrow()
    refused(() => give({ value: 1 }, { priority: 1.5 })).toThrow(
      'the priority of action give is 1.5; allowed are whole numbers',
    )
    refused(() => stage('a', () => stage('b', () => give({ value: 1 })))).toThrow('stage b stands inside stage a')
  })
})
