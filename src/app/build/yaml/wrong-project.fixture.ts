/** Projects with wrong definitions, for tests of what is said of them. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Manifest } from '../../../core/manifest.ts'
import { build } from '../build.ts'
import { writeFiles } from '../projects.fixture.ts'

export const sound = `import { action, sensor, workflow, z } from 'sluice'
export const load = action('load', {
  input: z.object({ day: z.string(), limit: z.number().optional(), fresh: z.boolean().optional(), deep: z.object({ tags: z.array(z.string()) }).optional() }),
  output: z.object({ rows: z.number(), list: z.array(z.string()) }),
  run: () => ({ rows: 1, list: [] }),
})
export const tell = action('tell', { run: ({ input }) => input })
export const twice = action('twice', { run: () => 1 })
export default workflow('sound', { define: () => { load({ day: '' }) } })
`
export const again = `import { action, workflow } from 'sluice'
export const twice = action('twice', { run: () => 2 })
`

/** What workflows of all sorts call. */
export const calledActions = `import { action, z } from 'sluice'
const at = z.object({ id: z.string(), host: z.string(), lines: z.array(z.object({ sku: z.string() })) })
export const find = action('find', { output: z.array(at), run: () => [] })
export const tell = action('tell', { run: ({ input }) => input })
export const open = action('open', { output: z.object({ id: z.string() }), run: () => ({ id: '' }) })
export const load = action('load', { input: z.object({ day: z.string() }), output: z.object({ rows: z.number() }), run: () => ({ rows: 1 }) })
`

export interface Wrong {
  readonly what: string
  readonly text: string | Uint8Array
  /** Line and column, and what is said there. */
  readonly faults: readonly (readonly [at: string, message: string | RegExp])[]
}

export const one = (what: string, text: string | Uint8Array, at: string, message: string | RegExp): Wrong => ({
  what,
  text,
  faults: [[at, message]],
})

/** What a build says of a project with these files under `workflows`. */
export async function manifestOf(files: Readonly<Record<string, string | Uint8Array>>): Promise<Manifest> {
  const projectDir = await mkdtemp(join(tmpdir(), 'sluice-faults-'))
  await writeFiles(join(projectDir, 'workflows'), files)
  try {
    return (await build({ projectDir, home: join(projectDir, '.sluice') })).manifest
  } finally {
    await rm(projectDir, { recursive: true, force: true })
  }
}

/** Place and message of the faults in one file. */
export const told = ({ faults }: Manifest, file: string) =>
  faults
    .filter(({ where }) => where.startsWith(`workflows/${file}:`))
    .map(({ where, message }) => [where.slice(`workflows/${file}:`.length), message])

/** What a test expects of that. */
export const asTold = (faults: Wrong['faults']) =>
  faults.map(([at, message]) => [at, typeof message === 'string' ? message : expect.stringMatching(message)])
