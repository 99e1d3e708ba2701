import { mkdirSync, writeFileSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cliSays } from '../../../test/test-cli.ts'
import { build } from '../../app/build/build.ts'
import { checkProjectName, makeProject } from './make-project.ts'

const repository = join(import.meta.dirname, '../../..')
const before = process.cwd()
let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'sluice-init-'))
  process.chdir(root)
})
afterAll(async () => {
  process.chdir(before)
  await rm(root, { recursive: true, force: true })
})

const sluice = (...argv: string[]) => cliSays(argv)

const files = [
  ...['package.json', 'tsconfig.json', '.gitignore', 'README.md', 'sluice.config.ts'],
  ...['workflows/hello.ts', 'test/hello.test.ts'],
]

describe('sluice init', () => {
  it('makes a project that names this version exactly, and says what comes next', async () => {
    const made = await sluice('init', 'first')
    expect(made).toMatchObject({ code: 0, err: '' })
    expect(made.out).toBe(
      `${join(process.cwd(), 'first')} is made. Now:\n  cd first\n  npm install\n  npm test\n  npm run dev\n`,
    )
    const text = async (folder: string) => JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
    const [own, project] = [await text(repository), await text(join(root, 'first'))]
    expect(project).toMatchObject({
      name: 'first',
      dependencies: { sluice: own.version },
      devDependencies: { typescript: own.devDependencies.typescript },
    })
    expect((await readdir(root)).filter((name) => name.startsWith('.'))).toEqual([])
  })

  it('tells all of that as JSON, too, in an empty folder', async () => {
    await mkdir(join(root, 'second'))
    const made = await sluice('init', 'second', '--json')
    expect(made).toMatchObject({ code: 0, err: '' })
    expect(JSON.parse(made.out)).toMatchObject({ name: 'second', folder: join(process.cwd(), 'second'), files })
  })

  it('its definitions are sound', async () => {
    const folder = join(root, 'whole')
    expect(await sluice('init', 'whole')).toMatchObject({ code: 0 })
    const { manifest } = await build({ projectDir: folder, home: join(folder, '.sluice') })
    expect(manifest.faults).toEqual([])
    expect(manifest.workflows).toMatchObject([{ name: 'hello', nodes: [{ id: 'greet' }, { id: 'measure' }] }])
  })

  it.each([
    ['My Project', 'my-project'],
    ['Ünïcode!', 'unicode'],
    ['1st', 'st'],
    ['../away', 'away'],
    ['.', 'my-project'],
    ['a'.repeat(101), 'a'.repeat(100)],
    ['sluice', 'my-sluice'],
  ])('refuses the name %j and says what would do', async (name, fit) => {
    const refused = await sluice('init', name)
    expect(refused).toMatchObject({ code: 2, out: '', err: expect.stringContaining(`such as ${fit}\n`) })
    expect(() => checkProjectName(fit)).not.toThrow()
  })

  it('refuses a folder with something in it, and a file', async () => {
    await mkdir(join(root, 'full'))
    for (const name of ['a', 'b', 'c', 'd']) await writeFile(join(root, 'full', name), '')
    expect(await sluice('init', 'full')).toMatchObject({
      code: 2,
      err: expect.stringContaining('is not empty: it has a, b, c and 1 more. Choose another name'),
    })
    expect(await readdir(join(root, 'full'))).toEqual(['a', 'b', 'c', 'd'])
    await writeFile(join(root, 'file'), '')
    expect(await sluice('init', 'file', '--json')).toMatchObject({
      code: 2,
      out: '',
      err: expect.stringContaining('is there and is no folder'),
    })
    expect(await sluice('init')).toMatchObject({
      code: 2,
      err: expect.stringContaining("missing required argument 'name'"),
    })
  })

  it('leaves nothing behind when somebody else was faster', async () => {
    const folder = join(root, 'raced')
    const text = new Map([
      ['a', ''],
      ['b/c', ''],
    ])
    const slow = makeProject(folder, text, () => {
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, 'theirs'), '')
    })
    await expect(slow).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('it has theirs.') })
    expect((await readdir(root)).filter((name) => name.startsWith('.'))).toEqual([])
    expect(await readdir(folder)).toEqual(['theirs'])
  })

  it('says so where it may not write', async () => {
    const closed = join(root, 'closed')
    await mkdir(closed)
    await chmod(root, 0o755)
    await chmod(closed, 0o555)
    const isRoot = process.geteuid?.() === 0
    // Root may write everywhere; anybody else will do.
    if (isRoot) process.seteuid?.(65_534)
    try {
      process.chdir(closed)
      expect(await sluice('init', 'mine')).toMatchObject({
        code: 2,
        out: '',
        err: expect.stringMatching(/^sluice: .*closed\/mine cannot be written: EACCES/),
      })
    } finally {
      if (isRoot) process.seteuid?.(0)
      process.chdir(root)
      await chmod(closed, 0o755)
    }
    expect(await readdir(closed)).toEqual([])
  })
})
