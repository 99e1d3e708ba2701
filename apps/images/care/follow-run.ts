/** Follows a run of one task from the command line to its end, with its progress. */
import { type CommandContext, SluiceError } from 'sluice'

interface Run {
  readonly state: string
  readonly error: string | null
}

interface Task {
  readonly id: string
  readonly error: string | null
  readonly progress: { readonly done: number; readonly total: number | null } | null
}

/** Starts a run; gives its id. */
export async function startRun({ api }: CommandContext<unknown>, workflow: string, params: object): Promise<string> {
  return (await api.request<{ id: string }>('POST', `/api/v1/workflows/${workflow}/runs`, { params })).id
}

/** What its task gave. @throws SluiceError ACTION_FAILED when the run fails or is cancelled. */
export async function resultOf<Result>(context: CommandContext<unknown>, runId: string): Promise<Result> {
  const { api, signal, note, progress } = context
  const bar = progress('pictures')
  const onAbort = () => note(`The run ${runId} goes on; sluice cancel ${runId} ends it`)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    for (;;) {
      const run = await api.request<Run>('GET', `/api/v1/runs/${runId}?wait=500ms`)
      const { items } = await api.request<{ items: Task[] }>('GET', `/api/v1/runs/${runId}/tasks`)
      const task = items[0]!
      if (task.progress) bar.update(task.progress.done, task.progress.total ?? task.progress.done)
      if (run.state === 'queued' || run.state === 'running') continue
      if (run.state !== 'success') {
        throw new SluiceError(
          'ACTION_FAILED',
          `The run ${runId} has ended as ${run.state}: ${task.error ?? run.error ?? 'see its log'}`,
        )
      }
      return (await api.request<{ result: Result }>('GET', `/api/v1/tasks/${task.id}`)).result
    }
  } finally {
    bar.stop()
    signal.removeEventListener('abort', onAbort)
  }
}
