import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Manifest } from '../../core/manifest.ts'
import type { Fault } from '../../errors.ts'
import { build } from './build.ts'
import { greet, Projects, sound, writeFiles } from './projects.fixture.ts'

let projects: Projects
beforeAll(async () => {
  projects = await Projects.open()
})
afterAll(() => projects.close())

interface Wrong {
  readonly what: string
  readonly text: string
  /** Line and column. */
  readonly at: string
  readonly message: string
}

const late = 'it takes longer than 3 s to import; a definition file only defines'

const wrongFiles: readonly Wrong[] = [
  { what: 'a syntax error', text: 'const a = 1\nexport const b = = 2\n', at: '2:18', message: 'Unexpected "="' },
  {
    what: 'a missing file',
    text: `const ä = 'ü'; import { x } from './nowhere.ts'\nexport { x, ä }\n`,
    at: '1:34',
    message: 'Could not resolve "./nowhere.ts"',
  },
  {
    what: 'a missing package',
    text: `\n  import { x } from 'not-installed-anywhere'\nexport { x }\n`,
    at: '2:22',
    message: 'Cannot find the package not-installed-anywhere; is it installed?',
  },
  {
    what: 'an export that is not there',
    text: `import { z, worflow } from 'sluice'\nexport const w = worflow(z)\n`,
    at: '1:13',
    message: 'sluice does not export worflow',
  },
  {
    what: 'an error at import',
    text: 'interface Long { readonly a: string }\nexport const a = null as unknown as Long\nexport const b = a.a\n',
    at: '3:20',
    message: "Cannot read properties of null (reading 'a')",
  },
  {
    what: 'an error nobody awaits',
    text: `export const a = 1\nvoid Promise.reject(new Error('lost'))\n`,
    at: '2:21',
    message: 'lost',
  },
  {
    what: 'process.exit',
    text: 'export const a = 1\nprocess.exit(0)\n',
    at: '2:9',
    message: 'it calls process.exit; a definition file only defines',
  },
  {
    what: 'the end of the process',
    text: `process.kill(process.pid, 'SIGKILL')\nawait new Promise(() => setTimeout(() => {}, 10_000))\n`,
    at: '1:1',
    message: 'importing it ends the process (SIGKILL)',
  },
  {
    what: 'a promise that never settles',
    text: 'await new Promise(() => {})\n',
    at: '1:1',
    message: 'it awaits something at its top level that never comes',
  },
  { what: 'an endless loop', text: 'for (;;) {}\n', at: '1:1', message: late },
  {
    what: 'an endless loop in define',
    text: `import { workflow } from 'sluice'\nexport default workflow('endless', { define() { for (;;) {} } })\n`,
    at: '1:1',
    message: late,
  },
  {
    what: 'a look for secrets, which finds none',
    text: `throw new Error(Object.keys(process.env).filter((name) => name.startsWith('SLUICE')).join() + '.')\n`,
    at: '1:7',
    message: '.',
  },
]

const head = `import { action, cron, documents, endpoint, fileArrival, stage, stream, topic, workflow, z } from 'sluice'
const one = action('one', { run: () => 1 })
`

const wrongWorkflows = {
  'two tasks of one id': [
    `define() { one({}, { id: 'a' }); one({}, { id: 'a' }) }`,
    'there are two tasks with the id a',
  ],
  'no task': ['define() {}', 'calls no action'],
  'an async define': ['async define() { one() }', 'must not be async'],
  'an unknown rule': [`define() { one({}, { rule: 'sometimes' as never }) }`, '"sometimes" is not a trigger rule'],
  'workers out of range': ['workers: 0, define() { one() }', 'workers is 0; allowed are whole numbers from 1 to 10000'],
  'attempts out of range': ['define() { one({}, { retry: { attempts: 101 } }) }', 'from 1 to 100'],
  'a wrong pattern': [`plans: [cron('61 * * * *')], define() { one() }`, '61'],
  'a wrong zone': [`plans: [cron('0 1 * * *', { timezone: 'Europe/Lisbonn' })], define() { one() }`, 'Lisbonn'],
  'a plan twice': [
    `plans: [cron('0 1 * * *'), cron('0 1 * * *')], define() { one() }`,
    'plan cron:0 1 * * *@UTC twice',
  ],
  'a file nobody takes': [
    `plans: [fileArrival('in/*')], define() { one() }`,
    'the parameter file, which its params do not have',
  ],
  'a parameter without a value': [
    `params: z.object({ day: z.string() }), plans: [cron('0 1 * * *')], define() { one() }`,
    'day has no default',
  ],
  'a parameter that is none': [
    `params: z.object({ day: z.string() }), define({ params }) { one({ x: params['dya' as 'day'] } as never) }`,
    'the parameter dya; it has day',
  ],
  'a field that is none': [
    `define() { const of = action('of', { output: z.object({ a: z.number() }), run: () => ({ a: 1 }) }); const made = of(); one({ x: made['b' as 'a'] } as never) }`,
    "the field b of of's result; it has a",
  ],
  'a value that is none': [
    `params: z.object({ day: z.string() }), define({ params }) { one({ x: 'on ' + params.day } as never) }`,
    'the parameter day has no value',
  ],
} as const

const wrongOthers = {
  'a topic': [`export const t = topic('bad', { schema: z.string(), partitions: 257 })`, 'partitions is 257'],
  'a stream': [
    `export const t = topic('good', { schema: z.object({ a: z.string() }) }), bad = stream('bad', { from: t, id: (r) => r.a, distinct: true, steps: (r) => r, to: documents('d', { key: 'a' }) })`,
    'distinct needs key',
  ],
  'an endpoint': [
    `export const e = endpoint('GET /api/v1/runs', { summary: 'x', handle: () => 1 })`,
    'a path of Sluice itself',
  ],
} as const

/** All of these beside the sound files, in one build. */
async function buildBeside(wrong: readonly string[]): Promise<Manifest> {
  const files = wrong.map((text, index) => [`workflows/wrong-${index}.ts`, text] as const)
  const at = await projects.write({ ...sound, ...Object.fromEntries(files) })
  return (await build({ ...at, timeLimitMs: 3_000 })).manifest
}

const faultsOf = ({ faults }: Manifest, index: number): readonly Fault[] =>
  faults.filter(({ where }) => where.startsWith(`workflows/wrong-${index}.ts:`))

describe('a wrong file takes no other down', () => {
  let manifest: Manifest
  beforeAll(async () => {
    process.env.SLUICE_SECRET_PLANTED = 'planted'
    process.env.SLUICE_DATABASE_URL = 'postgresql://planted@/x'
    try {
      manifest = await buildBeside(wrongFiles.map(({ text }) => text))
    } finally {
      delete process.env.SLUICE_SECRET_PLANTED
      delete process.env.SLUICE_DATABASE_URL
    }
  })

  it('the sound ones are all there, and each wrong one has its fault', () => {
    expect(manifest.entries.map(({ file }) => file)).toEqual(Object.keys(sound).sort())
    expect(manifest.workflows).toMatchObject([{ name: 'greet' }])
    expect(manifest.streams).toMatchObject([{ name: 'follow' }])
    expect(manifest.faults).toHaveLength(wrongFiles.length)
  })

  it.each(wrongFiles.map((wrong, index) => ({ ...wrong, index })))('$what', ({ index, at, message }) => {
    expect(faultsOf(manifest, index)).toEqual([{ where: `workflows/wrong-${index}.ts:${at}`, message }])
  })
})

describe('a wrong definition takes no other down', () => {
  const workflows = Object.entries(wrongWorkflows)
  const others = Object.entries(wrongOthers)
  let manifest: Manifest
  beforeAll(async () => {
    const texts = workflows.map(([, [options]], index) => `export default workflow('bad-${index}', { ${options} })`)
    manifest = await buildBeside([...texts, ...others.map(([, [text]]) => text)].map((text) => `${head}${text}\n`))
  })

  it('the sound ones are all there, and each wrong one has its fault', () => {
    expect(manifest.workflows).toMatchObject([{ name: 'greet' }])
    expect(manifest.streams).toMatchObject([{ name: 'follow' }])
    expect(manifest.topics.map(({ name }) => name).sort()).toEqual(['good', 'urls'])
    expect(manifest.faults).toHaveLength(workflows.length + others.length)
  })

  it.each([...workflows, ...others].map(([what, [, message]], index) => ({ what, message, index })))(
    '$what',
    ({ index, message }) => {
      expect(faultsOf(manifest, index)).toEqual([
        { where: expect.stringMatching(/\.ts:3:\d+$/), message: expect.stringContaining(message) },
      ])
    },
  )

  it('goes with its file, also when what is left was built before', async () => {
    const at = await projects.write(sound)
    const { manifest } = await build(at)
    await writeFiles(at.projectDir, { 'workflows/bad.ts': 'const = 1\n' })
    expect((await build(at)).manifest.faults).toHaveLength(1)
    await rm(join(at.projectDir, 'workflows/bad.ts'))
    expect((await build(at)).manifest).toEqual(manifest)
  })

  it('two of one name: the first file stands, the fault names both', async () => {
    const at = await projects.write({ ...sound, 'workflows/zoo.ts': greet })
    const built = await build(at)
    expect(built.manifest.workflows).toMatchObject([{ name: 'greet', file: 'workflows/greet.ts' }])
    expect(built.manifest.faults).toEqual([
      {
        where: 'workflows/zoo.ts:9:16',
        message:
          'the workflow greet is defined in workflows/greet.ts and again in workflows/zoo.ts; give one another name',
      },
    ])
  })
})
