// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of YAML are written so
/** Limits, groups, bodies per item, set-ups and teardowns in YAML: what they become. */
import { expect, it, onTestFinished } from 'vitest'
import type { Manifest } from '../../../core/manifest.ts'
import { loadVersion } from '../../definitions.ts'
import { build } from '../build.ts'
import { Projects } from '../projects.fixture.ts'
import { calledActions as actions, manifestOf } from './wrong-project.fixture.ts'

const yaml = `workflow: all
params: { day: date, customer: { type: string, default: c } }
pools: { warehouse: 3, closed: 0 }
rates:
  api: { limit: 10, per: 1s, burst: 5 }
  slow: { limit: 1, per: 10m }
tasks:
  # Written from the end to the beginning: what tasks wait for is their order.
  last: { action: tell, after: reports, with: { rows: "\${{ tasks.reports.days.first.result.rows }}", ids: "\${{ tasks.bodies.result }}" } }
  reports:
    after: found
    group:
      days:
        group:
          second: { action: load, after: reports.days.first, with: { day: "\${{ params.day }}" } }
          first: { action: load, with: { day: "\${{ params.day }}" }, pool: warehouse, slots: 2, rate: slow }
      plain: { action: tell }
      choose: { branch: "\${{ tasks.found.result[0].host }}", arms: { a: reports.arm } }
      arm: { group: { one: { action: tell }, two: { action: tell, after: reports.arm.one } } }
  visits:
    action: tell
    map: "\${{ tasks.found.result }}"
    with: { host: "\${{ item.host }}" }
    key: [host, "\${{ item.host }}", "of \${{ params.customer }}", 7]
    keyLimit: 2
    rate: api
  bodies:
    each: "\${{ tasks.found.result }}"
    as: place
    tasks:
      note: { action: tell, with: { all: "\${{ tasks.lines.result }}", day: "\${{ params.day }}", rows: "\${{ tasks.reports.days.first.result.rows }}" } }
      lines:
        each: "\${{ item.lines }}"
        tasks:
          say: { action: tell, with: { sku: "\${{ item.sku }}", at: "\${{ place.id }}", cluster: "\${{ tasks.cluster.result.id }}" }, key: [sku, "\${{ item.sku }}"] }
        result: { sku: "\${{ tasks.say.result }}", of: "\${{ place.id }}" }
    result: "\${{ tasks.note.result }}"
  stop: { action: tell, teardownOf: cluster, with: { id: "\${{ tasks.cluster.result.id }}" } }
  jobs: { using: cluster, group: { a: { action: tell }, b: { action: tell, after: jobs.a } } }
  more: { action: tell, using: [cluster], with: { id: "\${{ tasks.cluster.result.id }}" } }
  cluster: { action: open }
  found: { action: find }
result: { told: "\${{ tasks.last.result }}" }
`

const typescript = `import { branch, each, group, pool, rate, text, using, workflow, z } from 'sluice'
import { find, load, open, tell } from './actions.ts'
const warehouse = pool('warehouse', 3)
export default workflow('all', {
  params: z.strictObject({ day: z.iso.date(), customer: z.string().default('c') }),
  define({ params }) {
    const found = find({}, { id: 'found' })
    let first: ReturnType<typeof load>
    const reports = group('reports', () => {
      group('days', () => {
        first = load({ day: params.day }, { id: 'first', pool: warehouse, slots: 2, rate: rate('slow', { limit: 1, per: '10m' }) })
        load({ day: params.day }, { id: 'second', after: first })
      })
      tell({}, { id: 'plain' })
      branch(found[0]!.host, {
        a: () => group('arm', () => {
          const one = tell({}, { id: 'one' })
          tell({}, { id: 'two', after: one })
        }),
      }, { id: 'choose' })
    }, { after: found })
    tell.map(found, (item) => ({ host: item.host }), {
      id: 'visits',
      key: (item) => ['host', item.host, text\`of \${params.customer}\`, 7],
      keyLimit: 2,
      rate: rate('api', { limit: 10, per: '1s', burst: 5 }),
    })
    const cluster = using(
      () => open({}, { id: 'cluster' }),
      (made) => {
        group('jobs', () => {
          const a = tell({}, { id: 'a' })
          tell({}, { id: 'b', after: a })
        })
        tell({ id: made.id }, { id: 'more' })
      },
      (made) => tell({ id: made.id }, { id: 'stop' }),
    )
    const bodies = each(found, (place) => {
      const lines = each(place.lines, (line) => ({
        sku: tell({ sku: line.sku, at: place.id, cluster: cluster.id }, { id: 'say', key: ['sku', line.sku] }),
        of: place.id,
      }), { id: 'lines' })
      return tell({ all: lines, day: params.day, rows: first.rows }, { id: 'note' })
    }, { id: 'bodies' })
    return { told: tell({ rows: first!.rows, ids: bodies }, { id: 'last', after: reports }) }
  },
})
`

interface Ref {
  readonly from: string
  readonly node?: number
  readonly path: readonly string[]
}

/**
 * The graphs of a manifest by the ids of their tasks, whatever their order. What a body is handed of what stands around it has
 * a number there, in the order in which it is used; here it has its name.
 */
function graphs({ workflows }: Manifest): Record<string, object> {
  const found = new Map(workflows.map((workflow) => [workflow.name, workflow]))
  const nameOf = (workflow: string, { from, node, path }: Ref): string => {
    const [first, captured = '', ...rest] = path
    if (from === 'node') return [`result of ${found.get(workflow)?.nodes[node as number]?.id}`, ...path].join('.')
    if (from !== 'param' || first !== 'captured') return [from, ...path].join('.')
    const outer = workflow.slice(0, workflow.lastIndexOf('.'))
    const each = found.get(outer)!.nodes.find(({ action }) => action === workflow)!
    const handed = (each.args as { captured: Record<string, { $ref: Ref }> }).captured[captured] as { $ref: Ref }
    return `outer ${nameOf(outer, { ...handed.$ref, path: [...handed.$ref.path, ...rest] })}`
  }
  return Object.fromEntries(
    workflows.map(({ name, nodes, output }) => {
      const named = (key: string, value: unknown) => {
        if (key === 'captured')
          return Object.values(value as Record<string, { $ref: Ref }>)
            .map(({ $ref }) => nameOf(name, $ref))
            .sort()
        return typeof value === 'object' && value !== null && '$ref' in value ? nameOf(name, value.$ref as Ref) : value
      }
      const idOf = (at: number) => nodes[at]?.id as string
      const tasks = nodes.map(({ id, upstream, arms, teardownOf, fingerprint: _, ...node }) => [
        id,
        {
          ...{ ...node, upstream: upstream.map(idOf).sort() },
          arms: arms?.map(({ branch, arm }) => [idOf(branch), arm]),
          teardownOf: teardownOf === undefined ? undefined : idOf(teardownOf),
        },
      ])
      return [name, JSON.parse(JSON.stringify({ tasks: Object.fromEntries(tasks), output }, named))]
    }),
  )
}

it('are the same in the manifest as their twin in TypeScript', async () => {
  const [written, typed] = await Promise.all([
    manifestOf({ 'actions.ts': actions, 'all.yaml': yaml }),
    manifestOf({ 'actions.ts': actions, 'all.ts': typescript }),
  ])
  expect(written.faults).toEqual([])
  expect(typed.faults).toEqual([])
  const found = graphs(written)
  expect(found).toEqual(graphs(typed))
  expect(Object.keys(found)).toEqual(['all', 'all.bodies.lines', 'all.bodies'])
  expect(found['all.bodies.lines']).toMatchObject({
    tasks: { say: { args: { at: 'outer param.item.id', cluster: 'outer outer result of cluster.id' } } },
  })
})

it('run the actions of the project from the version alone, in bodies too', async () => {
  const projects = await Projects.open()
  onTestFinished(() => projects.close())
  const at = await projects.write({ 'workflows/actions.ts': actions, 'workflows/all.yaml': yaml })
  const { folder } = await build(at)
  const definitions = await loadVersion(folder)
  const given = (workflow: string, task: string) =>
    definitions.actionOf(workflow, task).options.run({ input: task } as never)
  expect(given('all.bodies.lines', 'say')).toBe('say')
  expect(given('all.bodies', 'note')).toBe('note')
  expect(given('all', 'reports.arm.two')).toBe('reports.arm.two')
})
