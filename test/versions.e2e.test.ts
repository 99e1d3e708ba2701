/** Versions as people meet them: `sluice dev` runs while definition files change, break, are mended and go. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { until } from './engine-world.ts'

let dir: string
let server: Dev | undefined
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sluice-versions-'))
  await symlink(join(import.meta.dirname, '../node_modules'), join(dir, 'node_modules'))
  await mkdir(join(dir, 'workflows'))
  await write('hello', hello('one'))
  await write('other', other('one'))
  server = await dev()
})
afterAll(async () => {
  await server?.stop()
  await rm(dir, { recursive: true, force: true })
})

/** Its task says what code it has, and ends when it is let go. */
const hello = (text: string) => `import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { action, workflow, z } from 'sluice'
const say = action('say', {
  input: z.object({ mark: z.string() }),
  async run({ input }) {
    writeFileSync(input.mark + '.started', '')
    while (!existsSync(input.mark + '.go')) await delay(10)
    writeFileSync(input.mark + '.said', '${text}')
  },
})
export default workflow('hello', {
  params: z.object({ mark: z.string() }),
  define({ params }) { say({ mark: params.mark }) },
})
`
const other = (text: string) => hello(text).replace("workflow('hello'", "workflow('other'")

const write = (name: string, text: string) => writeFile(join(dir, 'workflows', `${name}.ts`), text)
const mark = (name: string) => join(dir, name)

interface Told {
  readonly fault: { readonly file: string; readonly line: number; readonly column: number } | null
  readonly since: string | null
  readonly version: string
}

interface Answer {
  readonly status: number
  readonly body: unknown
}

class Dev {
  readonly child: ChildProcess
  url = ''
  output = ''

  constructor() {
    this.child = spawn(process.execPath, [join(import.meta.dirname, '../bin/sluice.mjs'), 'dev', '--port', '0'], {
      cwd: dir,
      env: { PATH: process.env.PATH, HOME: process.env.HOME, SLUICE_RUNNERS: '1' },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.output += text
      this.url ||= /ready at (http:\S+)/.exec(this.output)?.[1] ?? ''
    })
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    this.child.kill(signal)
    await once(this.child, 'exit')
  }

  /** Does something, and waits for a line that says so. */
  async says(line: RegExp, work: () => Promise<unknown>): Promise<void> {
    const from = this.output.length
    await work()
    await until(
      () => this.output,
      () => line.test(this.output.slice(from)),
    )
  }

  async get(path: string): Promise<Answer> {
    return this.ask(path)
  }

  /** The process that holds the port is replaced with each version: for a moment nobody listens. */
  private async ask(path: string, request: RequestInit = {}): Promise<Answer> {
    let answer: Answer | undefined
    await until(
      () => `an answer to ${path}: ${this.output}`,
      async () => {
        try {
          const response = await fetch(`${this.url}/api/v1/${path}`, request)
          answer = { status: response.status, body: await response.json() }
        } catch {
          return false
        }
        return true
      },
    )
    return answer as Answer
  }

  async workflow(name: string): Promise<Told> {
    return (await this.get(`workflows/${name}`)).body as Told
  }

  async start(workflow: string, name: string): Promise<string> {
    const key = `${workflow}-${name}`
    const answer = await this.ask(`workflows/${workflow}/runs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify({ params: { mark: mark(name) } }),
    })
    const { id, detail } = answer.body as { id: string; detail?: string }
    if (answer.status >= 300) throw new Error(detail)
    return id
  }

  async ended(id: string): Promise<string> {
    let state = ''
    await until(`the end of ${id}`, async () => {
      state = ((await this.get(`runs/${id}`)).body as { state: string }).state
      return !['queued', 'running'].includes(state)
    })
    return state
  }

  /** What a new run of a workflow says. */
  async runs(workflow: string, name: string): Promise<string> {
    await writeFile(`${mark(name)}.go`, '')
    expect(await this.ended(await this.start(workflow, name))).toBe('success')
    return readFileSync(`${mark(name)}.said`, 'utf8')
  }
}

async function dev(): Promise<Dev> {
  const started = new Dev()
  await until(
    () => started.output,
    () => {
      if (started.child.exitCode !== null) throw new Error(started.output)
      return started.url !== ''
    },
  )
  return started
}

const newVersion = /version [0-9a-f]{12} takes new work now/

it('a new version takes new runs; a run that is under way goes on with its own', async () => {
  const running = server as Dev
  const old = await running.start('hello', 'old')
  await until('the old run to start', () => existsSync(`${mark('old')}.started`))
  await running.says(newVersion, () => write('hello', hello('two')))
  expect(await running.runs('hello', 'new')).toBe('two')
  await writeFile(`${mark('old')}.go`, '')
  expect(await running.ended(old)).toBe('success')
  expect(readFileSync(`${mark('old')}.said`, 'utf8')).toBe('one')
})

it('a file that breaks is told of with its place, and stays as it was; the others change', async () => {
  const running = server as Dev
  await running.says(newVersion, async () => {
    await write('other', other('two'))
    await write('hello', `${hello('three')}const = 1\n`)
  })
  const [line, column] = [hello('').split('\n').length, 7]
  await until(
    () => running.output,
    () => running.output.includes(`workflows/hello.ts:${line}:${column}: `),
  )
  expect(running.output).toMatch(/workflows\/hello\.ts stays as it was last good, in version [0-9a-f]{12}/)
  await until('the API to follow', async () => (await running.workflow('hello')).fault !== null)
  expect(await running.workflow('hello')).toMatchObject({ fault: { file: 'workflows/hello.ts', line, column } })
  expect(await running.workflow('other')).toMatchObject({ fault: null, since: null })
  expect([await running.runs('hello', 'kept'), await running.runs('other', 'changed')]).toEqual(['two', 'two'])
})

/** An edit may be looked at twice: the folder of a build is there while it lasts. */
const noneBuilds = () =>
  until('builds to put their folders away', async () =>
    (await readdir(join(dir, '.sluice/versions'))).every((name) => !name.startsWith('.building')),
  )

it('a server that is killed and started again keeps it, and still says since when', async () => {
  const { since } = await (server as Dev).workflow('hello')
  // A build that is killed leaves its folder for an hour.
  await noneBuilds()
  expect(since).toMatch(/Z$/)
  await server?.stop('SIGKILL')
  server = await dev()
  expect(await server.workflow('hello')).toMatchObject({ fault: { file: 'workflows/hello.ts' }, since })
  expect(await server.runs('hello', 'after')).toBe('two')
})

it('a file that is mended is back, and one that is removed takes its workflows with it', async () => {
  const running = server as Dev
  await running.says(newVersion, () => write('hello', hello('four')))
  expect(running.output).toContain('the definitions are sound again')
  await until('the API to follow', async () => (await running.workflow('hello')).fault === null)
  expect(await running.runs('hello', 'mended')).toBe('four')
  await running.says(newVersion, () => rm(join(dir, 'workflows/other.ts')))
  await until('the API to follow', async () => (await running.get('workflows/other')).status === 404)
})

it('a version whose code is gone although a run needs it: the task says so, and succeeds once it is back', async () => {
  const running = server as Dev
  await running.says(newVersion, () => write('hello', hello('five')))
  const version = join(dir, '.sluice/versions', (await running.workflow('hello')).version)
  await rename(version, `${version}.away`)
  const id = await running.start('hello', 'missing')
  expect(await running.ended(id)).toBe('failed')
  const { items } = (await running.get(`runs/${id}/tasks`)).body as { items: { error: string }[] }
  expect(items[0]?.error).toMatch(/^VERSION_MISSING: .*manifest\.json is not there, which this version needs/)
  await rename(`${version}.away`, version)
  expect(await running.runs('hello', 'back')).toBe('five')
  await noneBuilds()
})
