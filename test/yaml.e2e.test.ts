// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of YAML are written so
/** A project of YAML and TypeScript as a user has it: what `check` says of its faults, and runs of programs. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { isAlive } from './invariants/processes.ts'
import { type Project, type RunningSluice, sluice, sluiceEnds, startSluice, until } from './sluice-process.ts'

const actions = `import { action, program, workflow, z } from 'sluice'
export const list = action('list', {
  input: z.object({ count: z.number() }),
  output: z.object({ names: z.array(z.string()) }),
  run: ({ input }) => ({ names: Array.from({ length: input.count }, (_, n) => 'shop ' + n) }),
})
export const count = program('count-letters', {
  command: ['sh', '-c', 'wc -c <"$SLUICE_ARGS_FILE" | tr -d " " >"$SLUICE_RESULT_FILE"'],
  input: z.object({ text: z.string() }),
  output: z.number(),
})
export default workflow('typed', { define: () => { count({ text: 'abc' }) } })
`
const shops = `workflow: shops
params: { count: { type: integer, default: 2, min: 0 } }
stages:
  - list:
      - action: list
        with: { count: "\${{ params.count }}" }
  - visit:
      - id: visits
        action: program
        map: "\${{ tasks.list.result.names }}"
        with:
          command: [sh, scripts/visit.sh]
          args: ["\${{ item }}", "; touch pwned"]
          env: { GREETING: "hello \${{ item }}" }
          secrets: { TOKEN: shop-token }
          input: { shop: "\${{ item }}" }
  - nothing:
      - { id: nothing, action: program, with: { command: [sh, -c, "echo nothing new >&2; exit 99"] } }
      - { id: sum, action: count-letters, with: { text: "\${{ params.count }} shops" } }
result: "\${{ tasks.visits.result }}"
`
const visit = `echo "visiting $1 with $TOKEN"
echo "$2" >/dev/stderr
printf '{"greeting": "%s", "task": "%s", "input": %s}' "$GREETING" "$SLUICE_TASK" "$(cat)" >"$SLUICE_RESULT_FILE"
`
const endless = `workflow: endless
tasks:
  wait:
    action: program
    with: { command: [sh, -c, 'sleep 600 & echo "$! $$" >"$1"; wait', sh], args: ["\${{ params.file }}"] }
params: { file: string }
`

let project: Project
let server: RunningSluice | undefined

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-project-'))
  await mkdir(join(folder, 'workflows'))
  await mkdir(join(folder, 'scripts'))
  await writeFile(join(folder, 'workflows/actions.ts'), actions)
  await writeFile(join(folder, 'workflows/shops.yaml'), shops)
  await writeFile(join(folder, 'workflows/endless.yml'), endless)
  await writeFile(join(folder, 'scripts/visit.sh'), visit)
  const home = join(folder, '.sluice')
  const environment = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    SLUICE_HOME: home,
    SLUICE_SECRET_SHOP_TOKEN: 'planted-text',
  }
  project = { folder, home, environment, remove: () => rm(folder, { recursive: true, force: true }) }
})
afterAll(async () => {
  await server?.stop()
  await project?.remove()
})

interface Checked {
  readonly faults: readonly { where: string; message: string }[]
  readonly workflows: number
}

it('check names the place of each fault, and nothing when there is none', async () => {
  expect(await sluice<Checked>(project, 'check')).toMatchObject({ faults: [], workflows: 3 })
  const bad = join(project.folder, 'workflows/bad.yaml')
  await writeFile(
    bad,
    'workflow: bad\ntasks:\n  a: { action: lst, after: b }\n  b: { action: list, with: { count: two }, after: a }\n',
  )
  try {
    const { code, answer } = await sluiceEnds<Checked>(project, 'check')
    expect(code).toBe(1)
    expect(answer).toMatchObject({ workflows: 3 })
    expect(answer.faults).toEqual([
      { where: 'workflows/bad.yaml:3:16', message: 'there is no action "lst"; did you mean list?' },
      {
        where: 'workflows/bad.yaml:3:28',
        message: 'tasks wait for one another in a circle: a -> b -> a (-> is "waits for")',
      },
    ])
  } finally {
    await rm(bad)
  }
})

interface Task {
  readonly id: string
  readonly name: string
  readonly state: string
  readonly index: number | null
}

it('runs programs and actions, one after another', async () => {
  server = await startSluice(project)
  const run = await sluice<{ id: string; state: string }>(project, 'run', 'shops', '--wait')
  expect(run.state).toBe('success')
  const { items } = await server.get<{ items: Task[] }>(`/api/v1/runs/${run.id}/tasks?limit=100`)
  const states = items.map(({ name, state }) => `${name} ${state}`).sort()
  expect(states).toEqual(['list success', 'nothing skipped', 'sum success', 'visits success', 'visits success'])
  const task = items.find(({ name, index }) => name === 'visits' && index === 1)!
  const { result } = await server.get<{ result: unknown }>(`/api/v1/tasks/${task.id}`)
  expect(result).toEqual({ greeting: 'hello shop 1', task: 'visits', input: { shop: 'shop 1' } })
  const sum = items.find(({ name }) => name === 'sum')!
  expect(await server.get(`/api/v1/tasks/${sum.id}`)).toMatchObject({
    result: JSON.stringify({ text: '2 shops' }).length,
  })
  const logs = await until(
    () => server!.get<{ items: { message: string }[] }>(`/api/v1/tasks/${task.id}/logs?limit=100`),
    (answer) => answer.items.some(({ message }) => message.includes('touch pwned')),
  )
  const lines = logs.items.map(({ message }) => message)
  expect(lines).toContain('; touch pwned')
  expect(lines.join('\n')).toMatch(/visiting shop 1 with/)
  expect(lines.join('\n')).not.toContain('planted-text')
})

async function pidsOf(file: string): Promise<number[]> {
  const text = await until(
    () => readFile(file, 'utf8').catch(() => ''),
    (found) => found.endsWith('\n'),
  )
  return text.trim().split(' ').map(Number)
}

const gone = (pids: readonly number[]) =>
  until(
    async () => pids.filter(isAlive),
    (left) => left.length === 0,
  )

it('cancel ends the whole group of a program', async () => {
  const file = join(project.folder, 'cancelled')
  const { id } = await sluice<{ id: string }>(project, 'run', 'endless', '-p', `file=${file}`)
  const pids = await pidsOf(file)
  expect(pids).toHaveLength(2)
  await sluice(project, 'cancel', id)
  await gone(pids)
})

it('a stop with SIGKILL of everything leaves no program behind', async () => {
  const file = join(project.folder, 'killed')
  await sluice(project, 'run', 'endless', '-p', `file=${file}`)
  const pids = await pidsOf(file)
  expect(pids.every(isAlive)).toBe(true)
  await server!.stop('SIGKILL')
  server = undefined
  await gone(pids)
})
