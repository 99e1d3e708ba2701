import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { action, z } from '../sdk/index.ts'
import { simulate } from './index.ts'

const ran: string[] = []
const noting = (name: string, input: z.ZodObject, output: unknown) =>
  action(name, {
    input,
    run: (given) => {
      ran.push(`${name} ${JSON.stringify(given.input)}`)
      return typeof output === 'function' ? output(given.input) : output
    },
  })
const id = z.object({ id: z.string() })
const actions = [
  noting('open-cluster', z.object({}), { id: 'k1' }),
  noting('copy-in', z.object({}), null),
  noting('count-rows', z.object({}), { orders: [{ id: 'a' }, { id: 'b' }] }),
  noting('close-cluster', id, null),
  noting('fetch-order', id, ({ id }: { id: string }) => ({ total: `total of ${id}`, lines: [1, 2] })),
  noting('keep-line', z.object({ order: z.string(), line: z.number() }), null),
]

it('the example of docs/yaml.md with limits, a group, a set-up and a body per item runs', async () => {
  const page = await readFile(join(import.meta.dirname, '../../docs/yaml.md'), 'utf8')
  const example = page.split('```yaml\n').find((part) => part.startsWith('# workflows/clusters.yaml'))!
  const folder = await mkdtemp(join(tmpdir(), 'sluice-yaml-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'clusters.yaml'), example.split('```')[0]!)
  await using world = await simulate(['clusters.yaml', ...actions], { folder })
  const run = await world.start('clusters', { customer: 'c1' })
  expect(run).toMatchObject({ state: 'success', result: ['total of a', 'total of b'] })
  const places = ['open-cluster {}', 'copy-in {}', 'count-rows {}', 'close-cluster {"id":"k1"}'].map((call) =>
    ran.indexOf(call),
  )
  expect(places).toEqual([0, 1, 2, expect.any(Number)])
  expect(places[3]).toBeGreaterThan(2)
  const calls = ran.filter((call) => /order|line/.test(call)).sort()
  expect(calls).toEqual([
    'fetch-order {"id":"a"}',
    'fetch-order {"id":"b"}',
    ...['a', 'b'].flatMap((order) => [1, 2].map((line) => `keep-line {"order":"${order}","line":${line}}`)),
  ])
})
