// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of YAML are written so
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadVersion } from '../../definitions.ts'
import { build } from '../build.ts'
import { Projects } from '../projects.fixture.ts'

let projects: Projects
beforeAll(async () => {
  projects = await Projects.open()
})
afterAll(() => projects.close())

async function built(files: Readonly<Record<string, string | Uint8Array>>) {
  const at = await projects.write(files)
  return { ...(await build(at)), ...at }
}

const actions = `import { action, workflow, z } from 'sluice'
export const load = action('load', {
  input: z.object({ day: z.string(), limit: z.number().optional(), fresh: z.boolean().optional(), where: z.object({ shop: z.string(), tags: z.array(z.string()) }).optional() }),
  output: z.object({ rows: z.number(), urls: z.array(z.object({ url: z.string() })) }),
  retry: { attempts: 3 },
  run: ({ input }) => ({ rows: input.limit ?? 1, urls: [] }),
})
const visit = action('visit', { input: z.object({ url: z.string(), note: z.string() }), run: ({ input }) => input.url })
export const tell = action('tell', { run: ({ input }) => input })
export default workflow('typed', { params: z.object({ url: z.string() }), define: ({ params }) => { visit({ url: params.url, note: '' }) } })
`

const orders = `# A comment.
workflow: orders
description: All of the form.
tags: [daily, orders]
params:
  day: { type: date, description: Which one }
  shop: { type: string, enum: [lyon, porto], default: lyon }
  limit: { type: integer, min: 1, max: 100, required: false }
plans:
  - { cron: "*/15 * * * *", timezone: Europe/Paris, catchUp: none, params: { day: "\${{ tick.date }}" } }
  - fileArrival: in/*.csv
    rest: 5s
    params: { day: "2026-01-01" }
  - { every: 6h, params: { day: "\${{ tick.startDate }}" } }
workers: 4
timeout: 2h
tasks:
  say:
    action: tell
    rule: all_done
    after: [visits, load]
    with: { urls: "\${{ tasks.visits.result }}", first: "\${{ tasks.visits.result[0] }}", text: "$\${{ kept }}" }
  visits:
    action: visit
    map: \${{ tasks.load.result.urls }}
    with:
      url: \${{ item.url }}
      note: "\${{ params.shop }}/\${{ params.day }}: \${{ tasks.load.result.rows }} rows"
  load:
    action: load
    with: { day: "\${{ params.day }}", limit: "\${{ params.limit }}", where: { shop: "\${{ params.shop }}", tags: [a, "no"] } }
    retry: { attempts: 5, base: 2s, errors: { TIMEOUT: { attempts: 2 } } }
    timeout: 10m
    within: 1h
    priority: 3
result: { rows: "\${{ tasks.load.result.rows }}" }
`

const twin = `import { cron, every, fileArrival, text, tick, workflow, z } from 'sluice'
import { load, tell } from './actions.ts'
import { visit } from '../lib/visit.ts'
export default workflow('orders', {
  description: 'All of the form.',
  tags: ['daily', 'orders'],
  params: z.strictObject({ day: z.iso.date().describe('Which one'), shop: z.literal(['lyon', 'porto']).default('lyon'), limit: z.int().min(1).max(100).optional() }),
  plans: [
    cron('*/15 * * * *', { timezone: 'Europe/Paris', catchUp: 'none', params: { day: tick.date } }),
    fileArrival('in/*.csv', { rest: '5s', params: { day: '2026-01-01' } }),
    every('6h', { params: { day: tick.startDate } }),
  ],
  workers: 4,
  timeout: '2h',
  define({ params }) {
    const loaded = load(
      { day: params.day, limit: params.limit, where: { shop: params.shop, tags: ['a', 'no'] } } as never,
      { retry: { attempts: 5, base: '2s', errors: { TIMEOUT: { attempts: 2 } } }, timeout: '10m', within: '1h', priority: 3 },
    )
    const visits = visit.map(loaded.urls, (item) => ({ url: item.url, note: text\`\${params.shop}/\${params.day}: \${loaded.rows} rows\` }), { id: 'visits' })
    tell({ urls: visits, first: (visits as never)[0], text: '\${{ kept }}' } as never, { id: 'say', rule: 'all_done', after: [visits, loaded] })
    return { rows: loaded.rows }
  },
})
`
const visit = `import { action, z } from 'sluice'
export const visit = action('visit', { input: z.object({ url: z.string(), note: z.string() }), run: ({ input }) => input.url })
`

describe('a YAML workflow', () => {
  it('is the same in the manifest as its twin in TypeScript', async () => {
    const yaml = await built({ 'workflows/actions.ts': actions, 'workflows/orders.yaml': orders })
    const typed = await built({ 'workflows/actions.ts': actions, 'lib/visit.ts': visit, 'workflows/orders.ts': twin })
    expect(yaml.manifest.faults).toEqual([])
    expect(typed.manifest.faults).toEqual([])
    const [one, other] = [yaml, typed].map(({ manifest }) => {
      const { file, fingerprint, nodes, ...rest } = manifest.workflows.find(({ name }) => name === 'orders')!
      return { ...rest, nodes: nodes.map(({ fingerprint: _, ...node }) => node) }
    })
    expect(one).toEqual(other)
    expect(one?.nodes.map(({ id }) => id)).toEqual(['load', 'visits', 'say'])
  })

  it('runs the actions of the project from its version alone', async () => {
    const { folder } = await built({ 'workflows/actions.ts': actions, 'workflows/orders.yml': orders })
    const definitions = await loadVersion(folder)
    expect(definitions.actionOf('orders', 'load').options.run({ input: { limit: 7 } } as never)).toMatchObject({
      rows: 7,
    })
    expect(definitions.actionOf('orders', 'visits').name).toBe('visit')
  })
})

const kinds = `workflow: kinds
params: { publish_at: { type: string, default: "2030-01-01T00:00:00Z" }, files: { type: list, default: [] } }
stages:
  - look:
      - { action: load, with: { day: today } }
      - { action: load, with: { day: yesterday } }
      - { id: choose, branch: "\${{ tasks.load.result.kind }}", arms: { small: one, large: [many, inner] } }
      - { id: one, action: tell }
      - { id: inner, branch: "\${{ tasks.load-2.result.kind }}", arms: { deep: [most] } }
      - { id: most, action: tell }
      - { id: many, action: tell, map: [1, 2], with: { n: "\${{ item }}" } }
      - { id: joined, action: tell, after: [one, many], rule: none_failed_min_one_success }
  - decide:
      ask: { approve: "publish?", form: { note: { type: string, required: false } }, show: { rows: "\${{ tasks.load.result.rows }}" }, deadline: 2d, onDeadline: skip }
      pause: { wait: 30m, after: ask }
      until: { wait: { until: "\${{ params.publish_at }}" } }
  - publish:
      - { run: other, with: { file: a.csv } }
      - { id: each, run: other, map: "\${{ params.files }}", with: { file: "in/\${{ item }}" } }
      - id: shell
        action: program
        with:
          command: [sh, -c, 'echo "$1"', sh]
          args: ["\${{ params.publish_at }}", 5]
          env: { DAY: "on \${{ params.publish_at }}" }
          secrets: { TOKEN: api-token }
          input: { files: "\${{ params.files }}" }
          cwd: scripts
          exitCodes: { skip: [99], final: [2] }
`

describe('everything that stands in a graph', () => {
  it('can be written', async () => {
    const other =
      'workflow: other\nparams: { file: string }\ntasks:\n  a: { action: tell, with: { file: "${{ params.file }}" } }\n'
    const { manifest, folder } = await built({
      'workflows/actions.ts': actions.replace('rows: z.number(),', 'rows: z.number(), kind: z.string(),'),
      'workflows/kinds.yaml': kinds,
      'workflows/other.yml': other,
    })
    expect(manifest.faults).toEqual([])
    const { stages, nodes } = manifest.workflows.find(({ name }) => name === 'kinds')!
    expect(stages).toEqual(['look', 'decide', 'publish'])
    const node = Object.fromEntries(nodes.map((one) => [one.id, one]))
    const index = (id: string) => nodes.findIndex((one) => one.id === id)
    expect(Object.keys(node).sort()).toEqual(
      [
        'load',
        'load-2',
        'choose',
        'one',
        'inner',
        'most',
        'many',
        'joined',
        'ask',
        'pause',
        'until',
        'other',
        'each',
        'shell',
      ].sort(),
    )
    expect(node.choose).toMatchObject({ kind: 'branch', args: { $ref: { node: index('load'), path: ['kind'] } } })
    expect(node.most).toMatchObject({
      arms: [
        { branch: index('choose'), arm: 'large' },
        { branch: index('inner'), arm: 'deep' },
      ],
    })
    expect(node.many).toMatchObject({ over: [1, 2], args: { n: { $ref: { from: 'item', path: [] } } } })
    expect(node.joined).toMatchObject({ rule: 'none_failed_min_one_success' })
    expect(node.ask).toMatchObject({ kind: 'approval', approval: { deadlineMs: 172_800_000, onDeadline: 'skip' } })
    expect(node.pause).toMatchObject({ kind: 'wait', args: { forMs: 1_800_000 }, upstream: [index('ask')] })
    expect(node.until).toMatchObject({ args: { until: { $ref: { from: 'param', path: ['publish_at'] } } } })
    expect(node.other).toMatchObject({ kind: 'workflow', action: 'other', args: { file: 'a.csv' } })
    expect(node.each).toMatchObject({ args: { file: { $text: ['in/', { $ref: { from: 'item', path: [] } }] } } })
    expect(node.shell).toMatchObject({
      args: { args: [{ $ref: {} }, 5], env: { DAY: { $text: ['on ', { $ref: {} }] } } },
    })
    expect(typeof (await loadVersion(folder)).actionOf('kinds', 'shell').options.run).toBe('function')
  })
})

describe('a version', () => {
  const small = 'workflow: small\ntasks:\n  a: { action: tell, with: { n: 1 } }\n'
  const files = { 'workflows/actions.ts': actions, 'workflows/small.yaml': small }

  it('is the same when a comment or the format changes, and another when more does', async () => {
    const hash = async (text: string) => (await built({ ...files, 'workflows/small.yaml': text })).manifest.hash
    const first = await hash(small)
    expect(await hash(`# Small.\n${small.replace('{ n: 1 }', '{ "n":   1 }')}`)).toBe(first)
    expect(await hash(small.replace('n: 1', 'n: 2'))).not.toBe(first)
  })

  it('of a changed file is seen in the same project, and so is a file that is new', async () => {
    const { projectDir, home, manifest } = await built(files)
    await writeFile(join(projectDir, 'workflows/small.yaml'), small.replace('n: 1', 'n: 3'))
    const second = await build({ projectDir, home })
    expect(second.manifest.hash).not.toBe(manifest.hash)
    expect(second.manifest.workflows.find(({ name }) => name === 'small')?.nodes[0]?.args).toEqual({ n: 3 })
    await writeFile(join(projectDir, 'workflows/more.yml'), small.replace('small', 'more'))
    expect((await build({ projectDir, home })).manifest.workflows.map(({ name }) => name)).toContain('more')
  })

  it('that was good is kept while the file is wrong, with the actions as they are now', async () => {
    const { projectDir, home, manifest } = await built(files)
    await writeFile(join(projectDir, 'workflows/small.yaml'), small.replace('tell', 'tel'))
    const second = await build({ projectDir, home, lastGood: manifest.hash })
    expect(second.manifest.faults).toEqual([
      { where: 'workflows/small.yaml:3:16', message: 'there is no action "tel"; did you mean tell?' },
    ])
    expect(second.manifest.kept).toMatchObject([{ file: 'workflows/small.yaml' }])
    expect(second.manifest.workflows.map(({ name }) => name)).toContain('small')
    expect((await loadVersion(second.folder)).actionOf('small', 'a').name).toBe('tell')
  })

  it('tells of code that changed in the file of an action', async () => {
    const print = (manifest: { workflows: readonly { name: string; fingerprint?: string }[] }) =>
      manifest.workflows.find(({ name }) => name === 'small')?.fingerprint
    const before = await built(files)
    const after = await built({
      ...files,
      'workflows/actions.ts': actions.replace('run: ({ input }) => input }', 'run: ({ input }) => [input] }'),
    })
    expect(print(before.manifest)).toBeDefined()
    expect(print(after.manifest)).not.toBe(print(before.manifest))
  })
})
