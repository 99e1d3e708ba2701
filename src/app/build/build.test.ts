import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Manifest } from '../../core/manifest.ts'
import type { Fault } from '../../errors.ts'
import { loadDefinitions } from '../definitions.ts'
import { build } from './build.ts'

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'sluice-build-'))
})
afterAll(() => rm(root, { recursive: true, force: true }))

const topics = `import { topic, z } from 'sluice'
export const urls = topic('urls', { schema: z.object({ url: z.string() }), partitions: 4 })
`
const greet = `import { action, cron, workflow, z } from 'sluice'
import { urls } from './topics.ts'

const hello = action('hello', {
  input: z.object({ name: z.string() }),
  retry: { attempts: 3, base: '2s' },
  run: ({ input }) => input.name + urls.name,
})
export default workflow('greet', {
  params: z.object({ name: z.string().default('you') }),
  plans: [cron('*/5 * * * *')],
  define({ params }) {
    hello({ name: params.name })
  },
})
`
const follow = `import { documents, stream } from 'sluice'
import { urls } from './topics.ts'
export default stream('follow', {
  from: urls,
  id: (record) => record.url,
  steps: (records) => records.step(function clean(row) { return { url: row.url } }),
  to: documents('pages', { key: 'url' }),
})
`

let count = 0
async function project(files: Record<string, string>): Promise<{ projectDir: string; home: string }> {
  count += 1
  const projectDir = join(root, `project-${count}`)
  await mkdir(projectDir)
  await change(projectDir, files)
  return { projectDir, home: join(root, `home-${count}`) }
}

async function change(projectDir: string, files: Record<string, string>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(projectDir, path)), { recursive: true })
    await writeFile(join(projectDir, path), text)
  }
}

const sound = { 'workflows/topics.ts': topics, 'workflows/greet.ts': greet, 'workflows/follow.ts': follow }

describe('build', () => {
  it('says in the manifest what the files define, and the bundle is loadable', async () => {
    const { manifest, folder } = await build(await project(sound))
    expect(manifest.faults).toEqual([])
    expect(manifest.topics).toMatchObject([{ name: 'urls', partitions: 4 }])
    expect(manifest.streams).toMatchObject([{ name: 'follow', topic: 'urls', steps: ['clean'] }])
    const [workflow] = manifest.workflows
    expect(workflow?.plans).toMatchObject([{ name: 'cron:*/5 * * * *@UTC', kind: 'cron' }])
    expect(workflow?.nodes).toMatchObject([
      { id: 'hello', retry: { attempts: 3, baseMs: 2_000, maxMs: 300_000 }, timeoutMs: 3_600_000, isolation: 'shared' },
    ])
    const definitions = await loadDefinitions(folder, manifest)
    const run = definitions.actionOf('greet', 'hello').options.run
    expect(await run({ input: { name: 'a' } } as never)).toBe('aurls')
    expect(definitions.streams.get('follow')?.options.from).toBe(definitions.topics.get('urls'))
    expect(() => definitions.actionOf('gret', 'hello')).toThrow('did you mean greet?')
  })

  it('gives the same version wherever project and home lie, without any absolute path in it', async () => {
    const at = await project(sound)
    const elsewhere = join(root, 'some', 'where', 'else')
    await cp(at.projectDir, elsewhere, { recursive: true })
    const one = await build(at)
    const other = await build({ projectDir: elsewhere, home: join(elsewhere, '.sluice') })
    expect(other.manifest).toEqual(one.manifest)
    for (const { module } of one.manifest.entries) {
      const code = await readFile(join(one.folder, module), 'utf8')
      const map = await readFile(join(one.folder, `${module}.map`), 'utf8')
      expect(code + map).not.toContain(root)
      expect(await readFile(join(other.folder, `${module}.map`), 'utf8')).toBe(map)
    }
  })

  it('keeps what is imported when it is needed apart, under a name that the same code always gets', async () => {
    const { projectDir, home } = await project({
      'lib/heavy.ts': `export const heavy = () => 'heavy'`,
      'workflows/lazy.ts': `import { action, workflow } from 'sluice'
const { heavy } = await import('../lib/heavy.ts')
const load = action('load', { run: () => heavy() })
export default workflow('lazy', { define: () => { load() } })`,
    })
    const { manifest, folder } = await build({ projectDir, home })
    expect(manifest.faults).toEqual([])
    const definitions = await loadDefinitions(folder, manifest)
    expect(definitions.actionOf('lazy', 'load').options.run({} as never)).toBe('heavy')
  })

  it('is another version when code or lock file change, and the same when a comment does', async () => {
    const at = await project(sound)
    const first = (await build(at)).manifest.hash
    await change(at.projectDir, { 'workflows/topics.ts': `// a note\n${topics}` })
    expect((await build(at)).manifest.hash).toBe(first)
    await change(at.projectDir, { 'workflows/topics.ts': topics.replace('partitions: 4', 'partitions: 5') })
    const second = await build(at)
    expect(second.manifest.hash).not.toBe(first)
    expect(second.manifest.topics).toMatchObject([{ partitions: 5 }])
    await change(at.projectDir, { 'package-lock.json': '{}' })
    expect((await build(at)).manifest.hash).not.toBe(second.manifest.hash)
  })

  it('does nothing when nothing changed, and sees a new file', async () => {
    const at = await project(sound)
    const first = await build(at)
    // A mark in the manifest of the first build shows that the second reads it.
    const file = join(first.folder, 'manifest.json')
    await writeFile(file, JSON.stringify({ ...first.manifest, marked: true }))
    expect((await build(at)).manifest).toHaveProperty('marked')
    await change(at.projectDir, { 'workflows/more.ts': greet.replace("'greet'", "'more'") })
    const second = await build(at)
    expect(second.manifest.workflows.map(({ name }) => name)).toEqual(['greet', 'more'])
  })

  it('takes up what was written while it was at work', async () => {
    const { projectDir, home } = await project(sound)
    const late = JSON.stringify(greet.replace("workflow('greet'", "workflow('late'"))
    const file = JSON.stringify(join(projectDir, 'workflows/greet.ts'))
    // An author's file that writes another one when it is asked what it defines: after that one was read.
    await change(projectDir, {
      'workflows/writes.ts': `import { writeFileSync } from 'node:fs'\nwriteFileSync(${file}, ${late})\n`,
    })
    const first = await build({ projectDir, home })
    expect(first.manifest.workflows).toMatchObject([{ name: 'greet' }])
    expect((await build({ projectDir, home })).manifest.workflows).toMatchObject([{ name: 'late' }])
  })

  it('is another version when the same code says something else', async () => {
    const at = await project({ ...sound, 'limit.txt': '1' })
    const file = JSON.stringify(join(at.projectDir, 'limit.txt'))
    await change(at.projectDir, {
      'workflows/reads.ts': `import { readFileSync } from 'node:fs'
import { action, workflow } from 'sluice'
const one = action('one', { run: () => 1 })
export default workflow('reads', { workers: Number(readFileSync(${file}, 'utf8')), define: () => { one() } })
`,
    })
    const hashIn = async (home: string) => (await build({ ...at, home: at.home + home })).manifest.hash
    const first = await hashIn('a')
    expect(await hashIn('b')).toBe(first)
    await change(at.projectDir, { 'limit.txt': '2' })
    expect(await hashIn('c')).not.toBe(first)
  })

  it('mends a folder of which a part is gone', async () => {
    const at = await project(sound)
    const { folder, manifest } = await build(at)
    await rm(join(folder, 'workflows/greet.ts.js'))
    expect((await build(at)).manifest).toEqual(manifest)
    expect((await loadDefinitions(folder, manifest)).workflows.has('greet')).toBe(true)
  })

  it('reads sluice.config.ts, and refuses what it does not know', async () => {
    const config = (text: string) => `import { defineConfig } from 'sluice'\nexport default defineConfig(${text})\n`
    const at = await project({
      'flows/deep/greet.ts': greet.replace('./topics.ts', '../../lib/topics.ts'),
      'lib/topics.ts': topics,
      'sluice.config.ts': config(`{ definitions: ['flows/**/*.ts'], connections: { web: { kind: 'fetch' } } }`),
    })
    const built = await build(at)
    expect(built.manifest.entries).toMatchObject([{ file: 'flows/deep/greet.ts' }])
    expect(built.project.connections).toEqual({ web: { kind: 'fetch' } })
    await change(at.projectDir, { 'sluice.config.ts': config(`{ definition: [] }`) })
    await expect(build(at)).rejects.toMatchObject({
      code: 'CONFIGURATION',
      message: expect.stringContaining('definition'),
    })
    await change(at.projectDir, { 'sluice.config.ts': config(`{ definitions: ['../x.ts'] }`) })
    await expect(build(at)).rejects.toThrow('/definitions/0: a glob inside the project')
    await change(at.projectDir, { 'sluice.config.ts': 'export default {' })
    await expect(build(at)).rejects.toThrow('sluice.config.ts:1:17')
  })
})

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
  const at = await project({ ...sound, ...Object.fromEntries(files) })
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
    const at = await project(sound)
    const { manifest } = await build(at)
    await change(at.projectDir, { 'workflows/bad.ts': 'const = 1\n' })
    expect((await build(at)).manifest.faults).toHaveLength(1)
    await rm(join(at.projectDir, 'workflows/bad.ts'))
    expect((await build(at)).manifest).toEqual(manifest)
  })

  it('two of one name: the first file stands, the fault names both', async () => {
    const at = await project({ ...sound, 'workflows/zoo.ts': greet })
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
