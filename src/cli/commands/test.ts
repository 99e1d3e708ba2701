/** `sluice test`: the project's tests, or one run of a workflow in virtual time. Neither needs a server or a database. */
import { spawn } from 'node:child_process'
import { glob } from 'node:fs/promises'
import type { Command } from 'commander'
import { SluiceError } from '../../errors.ts'
import type { Rehearsed } from '../../testing/rehearse.ts'
import type { SimulatedRun, SimulatedTask } from '../../testing/simulated-run.ts'
import { exitCodes } from '../cli.ts'
import { type JsonSchema, readParams } from '../parameters.ts'
import { type CommandContext, type CommonOptions, does, type Session, withCommonOptions } from '../session.ts'
import { table } from '../table.ts'
import { type Wait, waitText } from '../wait-text.ts'
import { buildHere } from './build.ts'

interface TestOptions extends CommonOptions {
  readonly param: readonly string[]
  readonly approve: readonly string[]
  readonly start: string
  readonly atMost: string
}

const testFiles = 'test/**/*.test.{ts,mts,js,mjs}'
/** One attempt may take so long in real time. */
const attemptLimitMs = 600_000
/** Lines of the log that are printed; `--json` has all. */
const mostLines = 200

const repeated = (text: string, all: string[]) => [...all, text]

export function addTest(program: Command, context: CommandContext): void {
  const command = program
    .command('test [workflow]')
    .description('run the tests of the project; or one run of a workflow in virtual time, without a server')
    .option('-p, --param <name=value>', 'a parameter; JSON, or text as it is', repeated, [])
    .option('--approve <task[=form]>', 'approve this approval when it waits, with the form as JSON', repeated, [])
    .option('--start <time>', 'the virtual time at which it starts (default: now)')
    .option('--at-most <duration>', 'how much virtual time may pass', '1y')
  does(withCommonOptions(command, 'reading'), context, (session, options: TestOptions, workflow?: string) =>
    workflow === undefined ? runTests(session, options) : tryWorkflow(session, workflow, options),
  )
}

async function runTests(session: Session, options: TestOptions): Promise<number> {
  if (options.param.length + options.approve.length > 0)
    throw new SluiceError('USAGE', '-p and --approve are for the run of a workflow: sluice test WORKFLOW -p name=value')
  const { projectDir } = await session.config()
  const files: string[] = []
  const exclude = (name: string) => /(^|[\\/])node_modules$/.test(name)
  for await (const file of glob(testFiles, { cwd: projectDir, exclude })) files.push(file)
  if (files.length === 0) {
    const advice = 'write the first one, such as test/hello.test.ts, or name a workflow: sluice test WORKFLOW'
    throw new SluiceError('CONFIGURATION', `no file matches ${testFiles} in ${projectDir}; ${advice}`)
  }
  const { nodeFlags } = await import('../../app/own-process.ts')
  const child = spawn(process.execPath, [...nodeFlags, '--test', ...files.sort()], {
    cwd: projectDir,
    stdio: ['ignore', session.cli.json ? process.stderr : 'inherit', 'inherit'],
    signal: session.signal,
    killSignal: 'SIGINT',
  })
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', (thrown) => (thrown.name === 'AbortError' ? undefined : reject(thrown)))
    child.on('close', (ended) => resolve(ended === 0 ? exitCodes.done : exitCodes.failed))
  })
  if (session.cli.json) session.cli.print('', { files, passed: code === exitCodes.done })
  return code
}

async function tryWorkflow(session: Session, workflow: string, options: TestOptions): Promise<number> {
  const { manifest, folder, project } = await buildHere(session)
  const config = await session.config()
  const { faults } = manifest
  if (faults.length > 0) throw new SluiceError('DEFINITION_INVALID', 'The definitions have faults:', { faults })
  const { parseConnections, revealSettings } = await import('../../connectors/connections.ts')
  const { OpenConnections } = await import('../../app/capabilities/capabilities.ts')
  const { forgetDeployment } = await import('../../app/config.ts')
  const { loadVersion } = await import('../../app/definitions.ts')
  const { worldOf } = await import('../../testing/defined-world.ts')
  const { rehearse } = await import('../../testing/rehearse.ts')
  const { secrets } = config
  const known = parseConnections(config.connectionVariables, { ...project.connections, ...config.connectionsFile })
  // Authors' code runs in this process, without the deployment's secrets but for those it asks for.
  forgetDeployment()
  const defined = worldOf(await loadVersion(folder))
  const connections = new OpenConnections(async (name, kind) => revealSettings(known.get(name, kind), secrets))
  try {
    const tried = await rehearse(defined, {
      ...{ workflow, attemptLimitMs, folder: config.projectDir, signal: session.signal },
      params: readParams(options.param, defined.workflow(workflow).manifest.params as JsonSchema),
      start: options.start ?? new Date().toISOString(),
      atMost: options.atMost as never,
      approve: new Map(options.approve.map(readApproval)),
      outside: { connections, secretText: async (name) => secrets.get(name).reveal() },
    })
    session.cli.print(textOf(tried), dataOf(tried))
    return tried.run.state === 'success' ? exitCodes.done : exitCodes.failed
  } finally {
    await connections.close()
  }
}

function readApproval(text: string): [string, unknown] {
  const equals = text.indexOf('=')
  if (equals < 0) return [text, {}]
  try {
    return [text.slice(0, equals), JSON.parse(text.slice(equals + 1))]
  } catch {
    throw new SluiceError('USAGE', `the form of --approve ${text} is no JSON; write --approve 'task={"field": 1}'`)
  }
}

const labelOf = ({ id, mapIndex }: Pick<SimulatedTask, 'id' | 'mapIndex'>) => (mapIndex < 0 ? id : `${id}[${mapIndex}]`)
const stateOf = ({ state, finishedAt }: SimulatedRun) => (finishedAt === null ? `${state}, and waits` : state)

function textOf({ run, runs, approvals, leftAt }: Rehearsed): string {
  const others = runs.slice(1).map((one) => `${one.workflow} ${stateOf(one)}`)
  const facts = [
    `workflow  ${run.workflow} (simulated)`,
    `state     ${stateOf(run)}`,
    ...(run.error === null ? [] : [`error     ${run.error}`]),
    ...(run.result === undefined ? [] : [`result    ${JSON.stringify(run.result)}`]),
    `from      ${run.createdAt.toISOString()}`,
    `to        ${(run.finishedAt ?? leftAt).toISOString()} (virtual time)`,
    ...counted(others).map((line) => `started   ${line}`),
  ]
  const tasks = runs.flatMap((one) => one.tasks.map((task) => ({ one, task })))
  const rows = tasks.map(({ one, task }) => [
    ...[one === run ? labelOf(task) : `${one.workflow}: ${labelOf(task)}`, task.state, task.attempt],
    task.error ??
      waitOf(
        task,
        approvals.find((asked) => asked.run === one.id && asked.task === task.id),
      ) ??
      '',
  ])
  const lines = runs.flatMap((one) =>
    one.log.map(({ task: id, mapIndex, level, message, fields }) => {
      const more = fields === undefined ? '' : ` ${JSON.stringify(fields)}`
      return `${level.padEnd(5)} ${labelOf({ id, mapIndex })}: ${message}${more}`
    }),
  )
  const shown =
    lines.length > mostLines ? [...lines.slice(0, mostLines), `... ${lines.length - mostLines} more`] : lines
  const parts = [
    facts.join('\n'),
    table(['TASK', 'STATE', 'ATTEMPT', 'ERROR, OR WHAT IT WAITS FOR'], rows),
    shown.join('\n'),
  ]
  return parts.filter((part) => part !== '').join('\n\n')
}

function waitOf(task: SimulatedTask, asked: Rehearsed['approvals'][number] | undefined): string | undefined {
  if (task.state !== 'deferred') return undefined
  const text = task.wait === null ? '' : waitText(task.wait as Wait)
  return asked ? `${text}; --approve ${asked.task} gives it` : text
}

/** `copy-table success (3)` of three that are alike. */
function counted(lines: readonly string[]): string[] {
  const groups = Map.groupBy(lines, (line) => line)
  return [...groups].map(([line, { length }]) => (length === 1 ? line : `${line} (${length})`))
}

function dataOf({ run, runs, approvals, leftAt }: Rehearsed) {
  const tell = (one: SimulatedRun) => ({
    ...{ id: one.id, workflow: one.workflow, parent: one.parent, state: one.state, params: one.params },
    ...{ result: one.result ?? null, error: one.error, createdAt: one.createdAt, finishedAt: one.finishedAt },
    tasks: one.tasks.map(({ id, mapIndex, ...task }) => ({ name: id, index: mapIndex < 0 ? null : mapIndex, ...task })),
    log: one.log,
  })
  return { ...tell(run), leftAt, approvals, started: runs.slice(1).map(tell) }
}
