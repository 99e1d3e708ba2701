import { cp, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadVersion } from '../definitions.ts'
import { build, type Version } from './build.ts'
import { topics, writeFiles } from './projects.fixture.ts'

let root: string
let sound: Project
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'sluice-last-good-'))
  sound = new Project()
  await sound.write({
    'lib/topics.ts': topics,
    'lib/mark.ts': `export const mark = '!'\n`,
    'workflows/greet.ts': greet('one'),
    'workflows/follow.ts': follow,
    'workflows/other.ts': other('one'),
  })
  expect((await sound.deploy()).manifest.faults).toEqual([])
})
afterAll(() => rm(root, { recursive: true, force: true }))

const greet = (text: string) => `import { action, workflow } from 'sluice'
import { urls } from '../lib/topics.ts'
import { mark } from '../lib/mark.ts'
const hello = action('hello', { run: () => '${text}' + mark + urls.name })
export default workflow('greet', { define: () => { hello() } })
`
const follow = `import { documents, stream } from 'sluice'
import { urls } from '../lib/topics.ts'
export default stream('follow', {
  from: urls,
  id: (record) => record.url,
  steps: (records) => records.step(function clean(row) { return { url: row.url } }),
  to: documents('pages', { key: 'url' }),
})
`
const other = (text: string) => `import { action, command, endpoint, workflow } from 'sluice'
import { mark } from '../lib/mark.ts'
const say = action('say', { run: () => '${text}' + mark })
export default workflow('other', { define: () => { say() } })
export const read = endpoint('GET /api/v1/other', { summary: 'other', auth: 'open', handle: () => '${text}' })
export const shout = command('shout', { summary: 'shout', run: () => 0 })
`

class Project {
  static count = 0
  readonly projectDir: string
  readonly home: string
  deployed: Version | undefined

  constructor() {
    Project.count += 1
    this.projectDir = join(root, `project-${Project.count}`)
    this.home = join(root, `home-${Project.count}`)
  }

  /** A copy of one that is deployed: the same version, as if it were built there. */
  static async open(): Promise<Project> {
    const project = new Project()
    await cp(sound.projectDir, project.projectDir, { recursive: true })
    await cp(sound.home, project.home, { recursive: true, verbatimSymlinks: true })
    const { manifest, ...rest } = sound.deployed as Version
    project.deployed = { manifest, ...rest, folder: join(project.home, 'versions', manifest.hash) }
    return project
  }

  async write(files: Record<string, string>): Promise<void> {
    await writeFiles(this.projectDir, files)
  }

  /** Builds as a server does that has deployed something before. */
  async deploy(): Promise<Version> {
    const { projectDir, home } = this
    this.deployed = await build({ projectDir, home, lastGood: this.deployed?.manifest.hash, timeLimitMs: 20_000 })
    return this.deployed
  }

  /** What an action of the deployed version gives. */
  async says(workflow: string, node: string): Promise<unknown> {
    const definitions = await loadVersion(this.deployed?.folder as string)
    return definitions.actionOf(workflow, node).options.run({} as never)
  }
}

const names = ({ manifest }: Version) => ({
  workflows: manifest.workflows.map(({ name }) => name).sort(),
  streams: manifest.streams.map(({ name }) => name),
  topics: manifest.topics.map(({ name }) => name),
  endpoints: manifest.endpoints.map(({ path }) => path),
  commands: manifest.commands.map(({ name }) => name),
})
const everything = {
  workflows: ['greet', 'other'],
  streams: ['follow'],
  topics: ['urls'],
  endpoints: ['/api/v1/other'],
  commands: ['shout'],
}

// Each builds several times, in processes of their own.
describe('a file that breaks', { timeout: 180_000 }, () => {
  it('stays as it was, the others change, the fault is told', async () => {
    const project = await Project.open()
    const first = project.deployed as Version
    await project.write({ 'workflows/greet.ts': 'const = 1\n', 'workflows/other.ts': other('two') })
    const broken = await project.deploy()
    expect(names(broken)).toEqual(everything)
    const fault = { where: 'workflows/greet.ts:1:7', message: expect.stringContaining('Expected') }
    expect(broken.manifest.faults).toEqual([fault])
    expect(broken.manifest.kept).toEqual([
      { file: 'workflows/greet.ts', version: first.manifest.hash, faults: [fault] },
    ])
    expect([await project.says('greet', 'hello'), await project.says('other', 'say')]).toEqual(['one!urls', 'two!'])
    const printOf = ({ manifest }: Version, name: string) =>
      manifest.workflows.find((workflow) => workflow.name === name)?.fingerprint
    expect(printOf(broken, 'greet')).toBe(printOf(first, 'greet'))
    expect(printOf(broken, 'other')).not.toBe(printOf(first, 'other'))
  })

  it('needs nothing of the version that it was good in', async () => {
    const project = await Project.open()
    const first = project.deployed as Version
    await project.write({ 'workflows/greet.ts': 'const = 1\n' })
    const broken = await project.deploy()
    await rm(first.folder, { recursive: true })
    expect(await project.says('greet', 'hello')).toBe('one!urls')
    // Nor does another change, or a start after that.
    await project.write({ 'workflows/other.ts': other('three') })
    const next = await project.deploy()
    expect(next.manifest.hash).not.toBe(broken.manifest.hash)
    expect(next.manifest.kept).toMatchObject([{ version: first.manifest.hash }])
    await rm(broken.folder, { recursive: true })
    expect([await project.says('greet', 'hello'), await project.says('other', 'say')]).toEqual(['one!urls', 'three!'])
  })

  it('is the same version while nothing but what is wrong with it changes', async () => {
    const project = await Project.open()
    const wrong = [
      `${greet('two')}const = 1\n`,
      'const = = 2\n',
      greet('x').replace('hello()', ''),
      `throw new Error()\n`,
    ]
    const hashes = new Set<string>()
    for (const text of wrong) {
      await project.write({ 'workflows/greet.ts': text })
      const { manifest } = await project.deploy()
      expect(manifest.faults).toHaveLength(1)
      hashes.add(manifest.hash)
    }
    expect(hashes.size).toBe(1)
    expect(await project.says('greet', 'hello')).toBe('one!urls')
  })

  it('is back when it is mended, in the version that it was before', async () => {
    const project = await Project.open()
    const { manifest: before } = project.deployed as Version
    await project.write({ 'workflows/greet.ts': 'const = 1\n' })
    await project.deploy()
    await project.write({ 'workflows/greet.ts': greet('one') })
    const { manifest } = await project.deploy()
    expect(manifest).toEqual(before)
    await project.write({ 'workflows/greet.ts': greet('two') })
    await project.deploy()
    expect(await project.says('greet', 'hello')).toBe('two!urls')
  })

  it('with a wrong definition stays whole, as it was', async () => {
    const project = await Project.open()
    const text = other('two').replace('GET /api/v1/other', 'GET /api/v1/runs')
    await project.write({ 'workflows/other.ts': text })
    const broken = await project.deploy()
    expect(names(broken)).toEqual(everything)
    expect(broken.manifest.faults).toMatchObject([{ message: expect.stringContaining('a path of Sluice itself') }])
    expect(await project.says('other', 'say')).toBe('one!')
  })

  it('by what it imports stays with what it imported, beside others that stay', async () => {
    const project = await Project.open()
    await project.write({ 'lib/mark.ts': 'export const mark = = 1\n', 'workflows/follow.ts': `${follow}// a note\n` })
    const broken = await project.deploy()
    expect(names(broken)).toEqual(everything)
    expect(broken.manifest.faults).toMatchObject([{ where: 'lib/mark.ts:1:21' }])
    expect(broken.manifest.kept?.map(({ file }) => file).sort()).toEqual(['workflows/greet.ts', 'workflows/other.ts'])
    expect([await project.says('greet', 'hello'), await project.says('other', 'say')]).toEqual(['one!urls', 'one!'])
  })

  it('does not take the topic that it shares away from others', async () => {
    const project = await Project.open()
    await project.write({ 'workflows/follow.ts': 'export default 1 +\n', 'lib/topics.ts': topics.replace('4', '5') })
    const broken = await project.deploy()
    expect(names(broken)).toMatchObject({ streams: ['follow'], topics: ['urls'] })
    const definitions = await loadVersion(broken.folder)
    expect(definitions.streams.get('follow')?.steps.map(({ name }) => name)).toEqual(['clean'])
    expect(definitions.refused).toEqual([])
  })

  it('all at once: everything stays', async () => {
    const project = await Project.open()
    for (const name of ['greet', 'follow', 'other']) await project.write({ [`workflows/${name}.ts`]: 'const = 1\n' })
    const broken = await project.deploy()
    expect(names(broken)).toEqual(everything)
    expect(broken.manifest.faults).toHaveLength(3)
    expect(await project.says('greet', 'hello')).toBe('one!urls')
  })

  it('at different times: each as it last was', async () => {
    const project = await Project.open()
    await project.write({ 'workflows/greet.ts': 'const = 1\n' })
    await project.deploy()
    await project.write({ 'lib/mark.ts': `export const mark = '?'\n` })
    await project.deploy()
    await project.write({ 'workflows/other.ts': 'const = 1\n' })
    const broken = await project.deploy()
    expect(new Set(broken.manifest.kept?.map(({ version }) => version)).size).toBe(2)
    expect([await project.says('greet', 'hello'), await project.says('other', 'say')]).toEqual(['one!urls', 'one?'])
    await project.write({ 'workflows/other.ts': other('two') })
    await project.deploy()
    expect([await project.says('greet', 'hello'), await project.says('other', 'say')]).toEqual(['one!urls', 'two?'])
  })

  it('and is removed takes its definitions with it', async () => {
    const project = await Project.open()
    await project.write({ 'workflows/other.ts': 'const = 1\n' })
    await project.deploy()
    await rm(join(project.projectDir, 'workflows/other.ts'))
    const { manifest } = await project.deploy()
    expect([manifest.faults, manifest.kept]).toEqual([[], undefined])
    expect(manifest.workflows.map(({ name }) => name)).toEqual(['greet'])
  })

  it('and is renamed goes on under its new name', async () => {
    const project = await Project.open()
    const place = (name: string) => join(project.projectDir, 'workflows', name)
    await rename(place('other.ts'), place('renamed.ts'))
    await writeFile(place('renamed.ts'), `${other('two')}const = 1\n`)
    const broken = await project.deploy()
    expect(broken.manifest.workflows).toContainEqual(
      expect.objectContaining({ name: 'other', file: 'workflows/renamed.ts' }),
    )
    await rename(place('renamed.ts'), place('again.ts'))
    await project.deploy()
    expect(await project.says('other', 'say')).toBe('one!')
    await rm(place('again.ts'))
    // A new file that is wrong and says nothing of what is gone is none of its heirs.
    await project.write({ 'workflows/fresh.ts': 'const = 1\n' })
    expect((await project.deploy()).manifest.workflows.map(({ name }) => name)).toEqual(['greet'])
  })

  it('gives way to what another file defines now', async () => {
    const project = await Project.open()
    await project.write({ 'workflows/other.ts': 'const = 1\n', 'workflows/moved.ts': other('moved') })
    const broken = await project.deploy()
    expect(names(broken)).toEqual(everything)
    expect(broken.manifest.faults).toMatchObject([{ where: 'workflows/other.ts:1:7' }])
    expect(await project.says('other', 'say')).toBe('moved!')
  })

  it('and never was good is left out but for what is right in it', async () => {
    const project = await Project.open()
    const half = other('new').replace("workflow('other'", "workflow('half'").replace('/other', '/half')
    await project.write({
      'workflows/half.ts': half.replace("command('shout'", "command('run'"),
      'workflows/no.ts': '1 +',
    })
    const broken = await project.deploy()
    expect(names(broken).workflows).toEqual(['greet', 'half', 'other'])
    expect(broken.manifest.faults).toHaveLength(2)
    expect(broken.manifest.kept).toBeUndefined()
  })

  it('in YAML stays as it was, with the actions of others as they are now', async () => {
    const yaml = (id: string) => `workflow: listed\nstages:\n  - all:\n      - action: say\n        id: ${id}\n`
    const project = await Project.open()
    await project.write({ 'workflows/listed.yaml': yaml('spoken') })
    await project.deploy()
    await project.write({ 'workflows/listed.yaml': 'workflow: [', 'workflows/other.ts': other('two') })
    const broken = await project.deploy()
    expect(broken.manifest.kept).toMatchObject([{ file: 'workflows/listed.yaml' }])
    expect(broken.manifest.faults).toMatchObject([{ where: expect.stringMatching(/^workflows\/listed\.yaml:/) }])
    expect(await project.says('listed', 'spoken')).toBe('two!')
    // And with those of a file that is wrong as that was.
    await project.write({ 'workflows/other.ts': 'const = 1\n', 'lib/mark.ts': `export const mark = '?'\n` })
    expect((await project.deploy()).manifest.kept).toHaveLength(2)
    expect(await project.says('listed', 'spoken')).toBe('two!')
    await project.write({ 'workflows/listed.yaml': yaml('said') })
    const mended = await project.deploy()
    expect(mended.manifest.kept?.map(({ file }) => file)).toContain('workflows/other.ts')
  })

  it('whose earlier code cannot be loaded any more leaves, and takes nothing else with it', async () => {
    const project = new Project()
    await project.write({
      'node_modules/gone/package.json': '{"name":"gone","version":"1.0.0","type":"module","main":"index.js"}',
      'node_modules/gone/index.js': `export const mark = 'there'\n`,
      'workflows/other.ts': other('one').replace('../lib/mark.ts', 'gone'),
      'workflows/greet.ts': greet('one'),
      'lib/topics.ts': topics,
      'lib/mark.ts': `export const mark = '!'\n`,
    })
    await symlink(join(import.meta.dirname, '../../..'), join(project.projectDir, 'node_modules/sluice'))
    expect((await project.deploy()).manifest.faults).toEqual([])
    expect(await project.says('other', 'say')).toBe('onethere')
    await rm(join(project.projectDir, 'node_modules/gone'), { recursive: true })
    await project.write({ 'workflows/greet.ts': 'const = 1\n' })
    const { manifest } = await project.deploy()
    expect(manifest.workflows.map(({ name }) => name)).toEqual(['greet'])
    expect(manifest.faults.map(({ message }) => message)).toEqual([
      expect.stringContaining('Expected'),
      'Cannot find the package gone; is it installed?',
      'as it was last good it cannot be loaded any more: Cannot find the package gone; is it installed?',
    ])
    expect(await project.says('greet', 'hello')).toBe('one!urls')
  })
})
