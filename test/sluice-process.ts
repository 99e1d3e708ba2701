/** Sluice, as users start it: the command line in processes of its own, on a project in a temporary folder. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'

const root = join(import.meta.dirname, '..')
const bin = join(root, 'bin/sluice.mjs')

export interface Project {
  readonly folder: string
  readonly home: string
  readonly environment: NodeJS.ProcessEnv
  remove(): Promise<void>
}

/** A project whose definitions are those of an app of this repository. */
export async function projectOf(app: string, environment: NodeJS.ProcessEnv): Promise<Project> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-project-'))
  await mkdir(join(folder, 'catalogs'))
  await symlink(join(root, 'apps', app, 'workflows'), join(folder, 'workflows'))
  await writeFile(join(folder, 'sluice.config.ts'), "export default { definitions: ['workflows/*.ts'] }\n")
  const home = join(folder, '.sluice')
  return {
    folder,
    home,
    environment: { PATH: process.env.PATH, HOME: process.env.HOME, SLUICE_HOME: home, ...environment },
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}

export interface RunningSluice {
  readonly url: string
  /** JSON of the API. @throws Error with the problem's detail. */
  get<Answer>(path: string): Promise<Answer>
  /** Gives the exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>
}

export async function startSluice(project: Project): Promise<RunningSluice> {
  const child = run(project, ['serve', '--port', '0'])
  const said: string[] = []
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stderr! }).on('line', (line) => {
      said.push(line)
      const found = /ready at (http:\/\/\S+:\d+)/.exec(line)?.[1]
      if (found !== undefined) resolve(found)
    })
    child.on('exit', (code) => reject(new Error(`sluice serve has ended with ${code}:\n${said.join('\n')}`)))
  })
  return {
    url,
    async get<Answer>(path: string) {
      const response = await fetch(url + path)
      const answer = (await response.json()) as Answer & { detail?: string }
      if (!response.ok) throw new Error(`${path}: ${answer.detail}`)
      return answer
    },
    async stop(signal = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill(signal)
        await once(child, 'exit')
      }
      return child.exitCode
    },
  }
}

/** Runs a command to its end; gives its standard output as JSON. @throws Error unless its exit code is 0. */
export async function sluice<Answer>(project: Project, ...args: string[]): Promise<Answer> {
  const { code, answer } = await sluiceEnds<Answer>(project, ...args)
  if (code !== 0) throw new Error(`sluice ${args.join(' ')} has ended with ${code}: ${JSON.stringify(answer)}`)
  return answer
}

/** Runs a command to its end; gives its exit code and its standard output as JSON. @throws Error where that is no JSON. */
export async function sluiceEnds<Answer>(
  project: Project,
  ...args: string[]
): Promise<{ readonly code: number; readonly answer: Answer }> {
  const child = run(project, [...args, '--json'])
  let out = ''
  let errors = ''
  child.stdout!.on('data', (text) => {
    out += text
  })
  child.stderr!.on('data', (text) => {
    errors += text
  })
  const [code] = await once(child, 'close')
  if (out === '') throw new Error(`sluice ${args.join(' ')} has ended with ${code}: ${errors}`)
  return { code, answer: JSON.parse(out) as Answer }
}

function run(project: Project, args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [bin, ...args], {
    cwd: project.folder,
    env: project.environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** Asks until the answer is as wanted. @throws Error after `limitMs`, with the last answer. */
export async function until<Answer>(
  ask: () => Promise<Answer>,
  wanted: (answer: Answer) => boolean,
  limitMs = 30_000,
): Promise<Answer> {
  const giveUpAt = performance.now() + limitMs
  for (;;) {
    const answer = await ask()
    if (wanted(answer)) return answer
    if (performance.now() > giveUpAt)
      throw new Error(`not within ${limitMs} ms: ${JSON.stringify(answer).slice(0, 2_000)}`)
    await delay(25)
  }
}
