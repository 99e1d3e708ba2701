import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadDefinitions } from '../definitions.ts'
import { build, projectSettings } from './build.ts'
import { greet, Projects, sound, topics, writeFiles } from './projects.fixture.ts'

let projects: Projects
beforeAll(async () => {
  projects = await Projects.open()
})
afterAll(() => projects.close())

describe('build', () => {
  it('says in the manifest what the files define, and the bundle is loadable', async () => {
    const { manifest, folder } = await build(await projects.write(sound))
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
    const at = await projects.write(sound)
    const elsewhere = join(projects.root, 'some', 'where', 'else')
    await cp(at.projectDir, elsewhere, { recursive: true })
    const one = await build(at)
    const other = await build({ projectDir: elsewhere, home: join(elsewhere, '.sluice') })
    expect(other.manifest).toEqual(one.manifest)
    for (const { module } of one.manifest.entries) {
      const code = await readFile(join(one.folder, module), 'utf8')
      const map = await readFile(join(one.folder, `${module}.map`), 'utf8')
      expect(code + map).not.toContain(projects.root)
      expect(await readFile(join(other.folder, `${module}.map`), 'utf8')).toBe(map)
    }
  })

  it('keeps what is imported when it is needed apart, under a name that the same code always gets', async () => {
    const { projectDir, home } = await projects.write({
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
    const at = await projects.write(sound)
    const first = (await build(at)).manifest.hash
    await writeFiles(at.projectDir, { 'workflows/topics.ts': `// a note\n${topics}` })
    expect((await build(at)).manifest.hash).toBe(first)
    await writeFiles(at.projectDir, { 'workflows/topics.ts': topics.replace('partitions: 4', 'partitions: 5') })
    const second = await build(at)
    expect(second.manifest.hash).not.toBe(first)
    expect(second.manifest.topics).toMatchObject([{ partitions: 5 }])
    await writeFiles(at.projectDir, { 'package-lock.json': '{}' })
    expect((await build(at)).manifest.hash).not.toBe(second.manifest.hash)
  })

  it('does nothing when nothing changed, and sees a new file', async () => {
    const at = await projects.write(sound)
    const first = await build(at)
    // A mark in the manifest of the first build shows that the second reads it.
    const file = join(first.folder, 'manifest.json')
    await writeFile(file, JSON.stringify({ ...first.manifest, marked: true }))
    expect((await build(at)).manifest).toHaveProperty('marked')
    await writeFiles(at.projectDir, { 'workflows/more.ts': greet.replace("'greet'", "'more'") })
    const second = await build(at)
    expect(second.manifest.workflows.map(({ name }) => name)).toEqual(['greet', 'more'])
  })

  it('takes up what was written while it was at work', async () => {
    const { projectDir, home } = await projects.write(sound)
    const late = JSON.stringify(greet.replace("workflow('greet'", "workflow('late'"))
    const file = JSON.stringify(join(projectDir, 'workflows/greet.ts'))
    // An author's file that writes another one when it is asked what it defines: after that one was read.
    await writeFiles(projectDir, {
      'workflows/writes.ts': `import { writeFileSync } from 'node:fs'\nwriteFileSync(${file}, ${late})\n`,
    })
    const first = await build({ projectDir, home })
    expect(first.manifest.workflows).toMatchObject([{ name: 'greet' }])
    expect((await build({ projectDir, home })).manifest.workflows).toMatchObject([{ name: 'late' }])
  })

  it('is another version when the same code says something else', async () => {
    const at = await projects.write({ ...sound, 'limit.txt': '1' })
    const file = JSON.stringify(join(at.projectDir, 'limit.txt'))
    await writeFiles(at.projectDir, {
      'workflows/reads.ts': `import { readFileSync } from 'node:fs'
import { action, workflow } from 'sluice'
const one = action('one', { run: () => 1 })
export default workflow('reads', { workers: Number(readFileSync(${file}, 'utf8')), define: () => { one() } })
`,
    })
    const hashIn = async (home: string) => (await build({ ...at, home: at.home + home })).manifest.hash
    const first = await hashIn('a')
    expect(await hashIn('b')).toBe(first)
    await writeFiles(at.projectDir, { 'limit.txt': '2' })
    expect(await hashIn('c')).not.toBe(first)
  })

  it('mends a folder of which a part is gone', async () => {
    const at = await projects.write(sound)
    const { folder, manifest } = await build(at)
    await rm(join(folder, 'workflows/greet.ts.js'))
    expect((await build(at)).manifest).toEqual(manifest)
    expect((await loadDefinitions(folder, manifest)).workflows.has('greet')).toBe(true)
  })

  it('reads sluice.config.ts, and refuses what it does not know', async () => {
    const config = (text: string) => `import { defineConfig } from 'sluice'\nexport default defineConfig(${text})\n`
    const at = await projects.write({
      'flows/deep/greet.ts': greet.replace('./topics.ts', '../../lib/topics.ts'),
      'lib/topics.ts': topics,
      'sluice.config.ts': config(`{ definitions: ['flows/**/*.ts'], connections: { web: { kind: 'fetch' } } }`),
    })
    const built = await build(at)
    expect(built.manifest.entries).toMatchObject([{ file: 'flows/deep/greet.ts' }])
    expect(built.project.connections).toEqual({ web: { kind: 'fetch' } })
    await writeFiles(at.projectDir, { 'sluice.config.ts': config(`{ definition: [] }`) })
    await expect(build(at)).rejects.toMatchObject({
      code: 'CONFIGURATION',
      message: expect.stringContaining('definition'),
    })
    await writeFiles(at.projectDir, { 'sluice.config.ts': config(`{ definitions: ['../x.ts'] }`) })
    await expect(build(at)).rejects.toThrow('/definitions/0: a glob inside the project')
    await writeFiles(at.projectDir, {
      'sluice.config.ts': config(`{ migrations: { shop: '/etc', stats: 'apps/stats' } }`),
    })
    await expect(build(at)).rejects.toThrow(/migrations\/shop: a folder inside the project/)
    await writeFiles(at.projectDir, { 'sluice.config.ts': config(`{ migrations: { sluice: 'a', 'A b': 'c' } }`) })
    await expect(build(at)).rejects.toThrow(
      /migrations\/sluice: sluice is the name of the platform.*migrations\/A b: the name of an app is/s,
    )
    await writeFiles(at.projectDir, { 'sluice.config.ts': config(`{ migrations: { stats: 'apps/stats' } }`) })
    expect(await projectSettings(at)).toMatchObject({ migrations: { stats: 'apps/stats' } })
    await writeFiles(at.projectDir, { 'sluice.config.ts': 'export default {' })
    await expect(build(at)).rejects.toThrow('sluice.config.ts:1:17')
  })
})
