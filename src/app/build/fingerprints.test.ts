import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import type { Manifest } from '../../core/manifest.ts'
import { build } from './build.ts'
import { writeFiles } from './projects.fixture.ts'

const lib = `export const shared = (text: string) => text + '!'\nexport const unused = () => 0\n`
const uses = (name: string, extra = '') => `import { action, workflow } from 'sluice'
import { shared } from '../lib/shared.ts'
const first = action('first', { run: () => shared('first') })
const second = action('second', { run: () => shared('second') })
const third = action('third', { run: () => shared('third') })
export default workflow('${name}', {
define: () => {
  const got = first()
  second({}, { after: got })
  third()
},
})
${extra}`
const printsOf = ({ workflows }: Manifest, name: string) => {
  const found = workflows.find((workflow) => workflow.name === name)
  return [found?.fingerprint, ...(found?.nodes.map(({ fingerprint }) => fingerprint) ?? [])]
}

it('fingerprints tell what changed from what did not, file by file and action by action', async () => {
  const projectDir = await mkdtemp(join(tmpdir(), 'sluice-prints-'))
  onTestFinished(() => rm(projectDir, { recursive: true, force: true }))
  const changed = async (files: Record<string, string>) => {
    await writeFiles(projectDir, files)
    return (await build({ projectDir, home: join(projectDir, '.sluice') })).manifest
  }
  const before = await changed({ 'lib/shared.ts': lib, 'workflows/a.ts': uses('a'), 'workflows/b.ts': uses('b') })
  const a = printsOf(before, 'a')
  expect(new Set(a).size).toBe(4)
  for (const print of a) expect(print).toMatch(/^[0-9a-f]{64}$/)
  // Another file, comments, a new name of the file, code that it imports and does not use: nothing changed.
  await rm(join(projectDir, 'workflows/b.ts'))
  await rm(join(projectDir, 'workflows/a.ts'))
  const unchanged = await changed({
    'workflows/renamed.ts': uses('a', '// a note'),
    'workflows/c.ts': uses('c').replace("'first'", "'other'"),
    'lib/shared.ts': lib.replace('=> 0', '=> 1'),
  })
  expect(printsOf(unchanged, 'a')).toEqual(a)
  // One action: it, what comes after it, and the workflow.
  const action = printsOf(
    await changed({ 'workflows/renamed.ts': uses('a').replace("shared('first')", "shared('1st')") }),
    'a',
  )
  expect(action.map((print, index) => print === a[index])).toEqual([false, false, false, true])
  // What all import: everything, in both files.
  const shared = await changed({ 'workflows/renamed.ts': uses('a'), 'lib/shared.ts': lib.replace("'!'", "'?'") })
  expect(printsOf(shared, 'a').every((print, index) => print !== a[index])).toBe(true)
  expect(printsOf(shared, 'c')).not.toEqual(printsOf(unchanged, 'c'))
})
