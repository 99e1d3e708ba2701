import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { withFingerprints } from './fingerprint.ts'
import type { NodeManifest, WorkflowManifest } from './manifest.ts'

const node = (id: string, upstream: readonly number[], more: Partial<NodeManifest> = {}): NodeManifest => ({
  id,
  action: id,
  args: upstream.map((at) => ({ $ref: { from: 'node', node: at, path: [] } })),
  upstream,
  rule: 'all_success',
  retry: { attempts: 1, baseMs: 1, maxMs: 1 },
  timeoutMs: 1,
  isolation: 'shared',
  ...more,
})
const workflow = (name: string, nodes: readonly NodeManifest[]): WorkflowManifest => ({
  name,
  file: `workflows/${name}.ts`,
  params: {},
  plans: [],
  stages: [],
  nodes,
})

interface World {
  readonly workflows: readonly WorkflowManifest[]
  /** The functions by workflow and node. */
  readonly functions: Readonly<Record<string, readonly string[]>>
  /** What a file says besides. */
  readonly rest: Readonly<Record<string, string>>
}

function printsOf({ workflows, functions, rest }: World) {
  const texts = workflows.map(
    ({ name, file }) => [file, `${rest[name]}\n${functions[name]?.filter(Boolean).join('\n')}`] as const,
  )
  const made = withFingerprints({
    workflows,
    codes: new Map(texts.map(([file, text]) => [file, { text, packages: [] }])),
    functions: new Map(Object.entries(functions).map(([name, all]) => [name, all.map((text) => [text])])),
  })
  return new Map(
    made.map(({ name, fingerprint, nodes }) => [name, { fingerprint, nodes: nodes.map((one) => one.fingerprint) }]),
  )
}

/** Up to three workflows of up to six tasks; each task has its own action, and some start another workflow. */
const worlds = fc
  .array(
    fc.array(fc.record({ upstream: fc.array(fc.nat(5), { maxLength: 3 }), starts: fc.option(fc.nat(2)) }), {
      minLength: 1,
      maxLength: 6,
    }),
    {
      minLength: 1,
      maxLength: 3,
    },
  )
  .map((all): World => {
    const name = (at: number) => `w${at}`
    const workflows = all.map((nodes, at) =>
      workflow(
        name(at),
        nodes.map(({ upstream, starts }, index) => {
          const before = [...new Set(upstream.filter((one) => one < index))].sort()
          const runs = starts !== null && starts < all.length
          return node(`n${index}`, before, runs ? { kind: 'workflow', action: name(starts) } : {})
        }),
      ),
    )
    return {
      workflows,
      functions: Object.fromEntries(
        workflows.map((one) => [one.name, one.nodes.map(({ id }) => `() => '${one.name} ${id}'`)]),
      ),
      rest: Object.fromEntries(workflows.map((one) => [one.name, `const here = '${one.name}'`])),
    }
  })

const startsOf = (one: WorkflowManifest) =>
  one.nodes.flatMap(({ kind, action }) => (kind === 'workflow' ? [action] : []))

/** The oracle: which tasks depend on a task whose action changed, said as the closure of one step. */
function touched({ workflows }: World, name: string, index: number): Set<string> {
  const found = new Set([`${name}/${index}`, name])
  for (let size = 0; size !== found.size; ) {
    size = found.size
    for (const one of workflows) {
      for (const [at, { upstream, kind, action }] of one.nodes.entries()) {
        const depends =
          upstream.some((up) => found.has(`${one.name}/${up}`)) || (kind === 'workflow' && found.has(action))
        if (depends) found.add(`${one.name}/${at}`).add(one.name)
      }
    }
  }
  return found
}

describe('fingerprints', () => {
  it('of what depends on a changed action change, and no others', () => {
    fc.assert(
      fc.property(worlds, fc.nat(), fc.nat(), (world, some, other) => {
        const chosen = world.workflows[some % world.workflows.length] as WorkflowManifest
        const at = other % chosen.nodes.length
        const own = [...(world.functions[chosen.name] as readonly string[])]
        own[at] = `${own[at]} // changed`
        const [before, after] = [
          printsOf(world),
          printsOf({ ...world, functions: { ...world.functions, [chosen.name]: own } }),
        ]
        const expected = touched(world, chosen.name, at)
        const found = new Set<string>()
        for (const [name, { fingerprint, nodes }] of after) {
          if (fingerprint !== before.get(name)?.fingerprint) found.add(name)
          for (const [index, print] of nodes.entries())
            if (print !== before.get(name)?.nodes[index]) found.add(`${name}/${index}`)
        }
        expect([...found].sort()).toEqual([...expected].sort())
      }),
    )
  })

  it('of all tasks of a file change with what it says besides, and do not with policies or where a task stands', () => {
    fc.assert(
      fc.property(worlds, (world) => {
        const first = world.workflows[0] as WorkflowManifest
        const before = printsOf(world)
        const rest = printsOf({ ...world, rest: { ...world.rest, [first.name]: 'const here = 2' } }).get(first.name)
        expect(rest?.nodes.every((print, index) => print !== before.get(first.name)?.nodes[index])).toBe(true)
        // One more task in front: the others move by one.
        const moved = first.nodes.map((one) => ({
          ...node(
            one.id,
            one.upstream.map((up) => up + 1),
            one.kind === undefined ? {} : { kind: one.kind, action: one.action },
          ),
          retry: { attempts: 9, baseMs: 2, maxMs: 3 },
          timeoutMs: 7,
          priority: 3,
        }))
        const grown = workflow(first.name, [node('new', [], { kind: 'wait', action: 'wait' }), ...moved])
        const alone = startsOf(first).length === 0
        const prints = printsOf({
          workflows: [grown, ...world.workflows.slice(1)],
          functions: { ...world.functions, [first.name]: ['', ...(world.functions[first.name] ?? [])] },
          rest: world.rest,
        })
        if (alone) expect(prints.get(first.name)?.nodes.slice(1)).toEqual(before.get(first.name)?.nodes)
      }),
    )
  })

  it('a text that stands twice is nobody’s function: whoever else needs it sees it change', () => {
    const one = workflow('one', [node('a', []), node('b', [])])
    const printed = (helper: string, b: string) =>
      printsOf({
        workflows: [one],
        functions: { one: [`() => helper()`, b] },
        rest: { one: `const helper = ${helper}` },
      })
    const before = printed('() => 1', '() => 1').get('one')
    const after = printed('() => 2', '() => 2').get('one')
    expect(after?.nodes[0]).not.toBe(before?.nodes[0])
  })

  it('of workflows that start each other end, and see each other change', () => {
    const ring = ['x', 'y', 'z'].map((name, at) =>
      workflow(name, [node('go', [], { kind: 'workflow', action: ['y', 'z', 'x'][at] as string }), node('own', [])]),
    )
    const functions = { x: ['', '() => 1'], y: ['', '() => 1'], z: ['', '() => 1'] }
    const rest = { x: 'x', y: 'y', z: 'z' }
    const before = printsOf({ workflows: ring, functions, rest })
    const after = printsOf({ workflows: ring, functions: { ...functions, z: ['', '() => 2'] }, rest })
    for (const name of ['x', 'y', 'z']) {
      expect(after.get(name)?.nodes[0]).not.toBe(before.get(name)?.nodes[0])
      expect(after.get(name)?.nodes[1] === before.get(name)?.nodes[1]).toBe(name !== 'z')
    }
  })

  it('a workflow whose code is not known has none, and one whose functions are not has none of its own left out', () => {
    const one = workflow('one', [node('a', [])])
    const none = withFingerprints({ workflows: [one], codes: new Map(), functions: new Map() })
    expect(none).toEqual([one])
    const printed = (text: string) =>
      withFingerprints({ workflows: [one], codes: new Map([[one.file, { text, packages: [] }]]), functions: new Map() })
    expect(printed('() => 1')[0]?.fingerprint).not.toBe(printed('() => 2')[0]?.fingerprint)
  })
})
