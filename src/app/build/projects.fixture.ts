/** Projects in a temporary folder, for tests of builds; and the files of one with nothing wrong. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

export const topics = `import { topic, z } from 'sluice'
export const urls = topic('urls', { schema: z.object({ url: z.string() }), partitions: 4 })
`
export const greet = `import { action, cron, workflow, z } from 'sluice'
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
export const follow = `import { documents, stream } from 'sluice'
import { urls } from './topics.ts'
export default stream('follow', {
  from: urls,
  id: (record) => record.url,
  steps: (records) => records.step(function clean(row) { return { url: row.url } }),
  to: documents('pages', { key: 'url' }),
})
`

export const sound = { 'workflows/topics.ts': topics, 'workflows/greet.ts': greet, 'workflows/follow.ts': follow }

/** Writes files, by their paths in a folder. */
export async function writeFiles(folder: string, files: Readonly<Record<string, string | Uint8Array>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), content)
  }
}

export class Projects {
  readonly root: string
  #count = 0

  constructor(root: string) {
    this.root = root
  }

  static async open(): Promise<Projects> {
    return new Projects(await mkdtemp(join(tmpdir(), 'sluice-build-')))
  }

  /** One more, with these files. */
  async write(files: Readonly<Record<string, string | Uint8Array>>): Promise<{ projectDir: string; home: string }> {
    this.#count += 1
    const projectDir = join(this.root, `project-${this.#count}`)
    await writeFiles(projectDir, files)
    return { projectDir, home: join(this.root, `home-${this.#count}`) }
  }

  async close(): Promise<void> {
    await rm(this.root, { recursive: true, force: true })
  }
}
