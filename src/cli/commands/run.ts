import type { Command } from 'commander'
import { nearest } from '../../core/nearest.ts'
import { SluiceError } from '../../errors.ts'
import { exitCodes } from '../cli.ts'
import { type Client, listAll } from '../client.ts'
import { type JsonSchema, readParams } from '../parameters.ts'
import { type CommandContext, type CommonOptions, does, type Session, withCommonOptions } from '../session.ts'
import { pathOf, type RunDetail, readErrors, stateOf } from './show.ts'

interface RunOptions extends CommonOptions {
  readonly param: readonly string[]
  readonly wait?: boolean
  readonly key?: string
}

/** How long one request waits for the end of a run, while its progress is shown and while nobody looks. */
const waits = { seen: '500ms', unseen: '30s' } as const

export function addRun(program: Command, context: CommandContext): void {
  const command = program
    .command('run <workflow>')
    .description('start a run of a workflow')
    .option(
      '-p, --param <name=value>',
      'a parameter; JSON, or text as it is',
      (text, all: string[]) => [...all, text],
      [],
    )
    .option('--wait', 'wait for its end; exit code 1 unless it succeeds')
    .option('--key <key>', 'idempotency key: the same key starts one run')
  does(withCommonOptions(command, 'reading'), context, async (session, options: RunOptions, workflow: string) => {
    const api = await session.client()
    const params = options.param.length === 0 ? {} : readParams(options.param, await schemaOf(api, workflow))
    const headers: Record<string, string> = options.key === undefined ? {} : { 'idempotency-key': options.key }
    const path = `/api/v1/workflows/${encodeURIComponent(workflow)}/runs`
    const { id } = await api
      .send<{ id: string }>('POST', path, { params }, headers)
      .catch((thrown) => explain(api, workflow, thrown))
    if (options.wait) return waitForRun(session, api, id)
    session.cli.print(id, { id })
    return exitCodes.done
  })
}

/** JSON Schema of the parameters of a workflow. */
export async function schemaOf(api: Client, workflow: string): Promise<JsonSchema> {
  const path = `/api/v1/workflows/${encodeURIComponent(workflow)}`
  const found = await api.request<{ params: JsonSchema }>('GET', path).catch((thrown) => explain(api, workflow, thrown))
  return found.params
}

/** Says of a workflow that is not there which one was probably meant. */
export async function explain(api: Client, workflow: string, thrown: unknown): Promise<never> {
  if (!(thrown instanceof SluiceError) || thrown.code !== 'NOT_FOUND' || /did you mean/i.test(thrown.message))
    throw thrown
  const names = (await listAll<{ name: string }>(api, '/api/v1/workflows', 10_000)).map(({ name }) => name)
  const meant = nearest(workflow, names)
  const advice = meant === undefined ? `there are ${names.join(', ') || 'none'}` : `did you mean ${meant}?`
  throw new SluiceError('NOT_FOUND', `There is no workflow ${workflow}; ${advice}`)
}

/** Waits for the end of a run and tells it; gives the exit code. */
export async function waitForRun({ cli, signal }: Session, api: Client, id: string): Promise<number> {
  const bar = cli.progress('tasks')
  const onAbort = () => cli.note(`The run ${id} goes on; sluice cancel ${id} ends it`)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    for (;;) {
      const wait = cli.forPeople ? waits.seen : waits.unseen
      const run = await api.request<RunDetail>('GET', `${pathOf(id)}?wait=${wait}`)
      bar.update(run.progress.done, run.progress.total, run.state)
      if (run.state === 'queued' || run.state === 'running') continue
      bar.stop()
      const errors = run.state === 'failed' ? await readErrors(api, id) : []
      const result = run.result === null ? [] : [JSON.stringify(run.result)]
      cli.print([`${id} ${stateOf(run)}`, ...errors, ...result].join('\n'), { ...run, errors })
      return run.state === 'success' ? exitCodes.done : exitCodes.failed
    }
  } finally {
    bar.stop()
    signal.removeEventListener('abort', onAbort)
  }
}
