import { isTerminal, type TaskState } from '../../core/task-state.ts'
import { SluiceError } from '../../errors.ts'
import { reply } from '../../sdk/endpoint.ts'
import { z } from '../../sdk/schema.ts'
import { findRunState } from '../../store/reading/runs.ts'
import { findTask } from '../../store/reading/tasks.ts'
import { type ApiContext, idParams, runOf, waitQuery } from '../context.ts'
import { recheckMs } from '../http-limits.ts'
import {
  firstPosition,
  type LogPage,
  type LogPosition,
  logCursor,
  logPosition,
  type ReadLogs,
  runLogs,
  sourceLogs,
} from '../log-page.ts'
import { pageQuery, type Route, type RouteInput, route } from '../route.ts'
import { isEnded } from './runs.ts'
import { taskOf } from './tasks.ts'

const line = z.looseObject({
  source: z.uuid().meta({ description: 'The id of the task' }),
  attempt: z.int(),
  message: z.string().optional(),
})

const logPage = z.object({
  items: z.array(line),
  nextCursor: z.string().nullable().meta({ description: 'When more lines are there already' }),
  position: z.string().meta({ description: 'Pass it as `after` to read what comes later' }),
  ended: z
    .boolean()
    .meta({ description: 'Nothing comes later: the task or run has ended and these are its last lines' }),
})

const logQuery = z.strictObject({
  ...pageQuery,
  after: z.string().max(500).optional().meta({ description: 'The position (or nextCursor) of the page before' }),
  wait: waitQuery,
})
type LogQuery = z.infer<typeof logQuery>

/** What a log belongs to: how to read it, whom to wait for, and when nothing comes any more. */
interface LogSource {
  readonly id: string
  readonly read: ReadLogs
  ended(): Promise<boolean>
}

export function logRoutes(context: ApiContext): Route[] {
  return [
    logRoute(context, '/api/v1/runs/:id/logs', 'runs', 'Lines of all tasks of a run', (id) => runLog(context, id)),
    logRoute(context, '/api/v1/tasks/:id/logs', 'tasks', 'Lines of a task', (id) => taskLog(context, id)),
  ]
}

function logRoute(
  context: ApiContext,
  path: string,
  tag: string,
  summary: string,
  find: (id: string) => Promise<LogSource>,
): Route {
  return route<{ id: string }, LogQuery>({
    method: 'GET',
    path,
    tag,
    summary,
    description:
      'With `wait` the answer waits for lines where there are none yet. With `Accept: text/event-stream` lines are sent as events as they come, until the task or run has ended; the id of an event is a position, so a client that reconnects with Last-Event-ID misses nothing.',
    params: idParams,
    query: logQuery,
    answers: { 200: { description: 'Lines, oldest first', schema: logPage } },
    errors: ['INVALID_CURSOR', 'UNAVAILABLE'],
    async handle(input) {
      const source = await find(input.params.id)
      const from = startOf(input, source)
      if (!/\btext\/event-stream\b/.test(input.headers.accept ?? '')) return longPoll(context, source, from, input)
      // Subscribed before the answer begins, so that too many waiters are told so.
      const tail = await context.tails.follow(source.id)
      // Not by the generator: of a HEAD, or a client that has gone by now, it never runs.
      input.whenOver(tail.close)
      return reply(200, events(source, tail, from, input), { 'content-type': 'text/event-stream; charset=utf-8' })
    },
  })
}

function startOf({ query, headers }: RouteInput<unknown, LogQuery, unknown>, { id }: LogSource): LogPosition {
  const cursor = headers['last-event-id'] ?? query.after ?? query.cursor
  const from = cursor === undefined ? firstPosition(id) : logPosition(id, cursor)
  return from
}

async function runLog(context: ApiContext, id: string): Promise<LogSource> {
  const run = await runOf(context, id)
  const ended = async () => isEnded((await findRunState(context.db, run.id)) ?? 'cancelled')
  return { id: run.id, read: runLogs(context.db, run.id), ended }
}

async function taskLog(context: ApiContext, id: string): Promise<LogSource> {
  const { run, row } = await taskOf(context, id)
  const ended = async () => {
    const task = await findTask(context.db, run.id, row)
    if (task && isTerminal(task.state as TaskState)) return true
    return isEnded((await findRunState(context.db, run.id)) ?? 'cancelled')
  }
  return { id, read: sourceLogs(context.db, id), ended }
}

async function longPoll(
  { tails, clock }: ApiContext,
  source: LogSource,
  from: LogPosition,
  { query, signal }: RouteInput<unknown, LogQuery, unknown>,
): Promise<object> {
  if (query.wait === undefined) return present(source, await look(source, from, query.limit))
  const until = clock.now() + query.wait
  const tail = await tails.follow(source.id)
  try {
    for (;;) {
      const seen = await look(source, from, query.limit)
      const left = until - clock.now()
      if (seen.items.length > 0 || seen.ended || left <= 0 || signal.aborted) return present(source, seen)
      await tail.news(Math.min(left, recheckMs), signal)
    }
  } finally {
    tail.close()
  }
}

/** Asks whether it has ended before it reads: what was written before the end is read then. */
async function look(
  source: LogSource,
  from: LogPosition,
  limit: number,
): Promise<LogPage & { readonly ended: boolean }> {
  const ended = await source.ended()
  const page = await source.read(from, limit, ended)
  return { ...page, ended: ended && !page.more }
}

function present({ id }: LogSource, { items, position, more, ended }: LogPage & { readonly ended: boolean }): object {
  const cursor = logCursor(id, position)
  return { items, nextCursor: more ? cursor : null, position: cursor, ended }
}

async function* events(
  source: LogSource,
  tail: Awaited<ReturnType<ApiContext['tails']['follow']>>,
  start: LogPosition,
  { query, signal }: RouteInput<unknown, LogQuery, unknown>,
): AsyncGenerator<string> {
  let from = start
  try {
    yield 'retry: 1000\n\n'
    while (!signal.aborted) {
      const { items, position, more, ended } = await look(source, from, query.limit)
      from = position
      if (items.length > 0)
        yield `id: ${logCursor(source.id, position)}\nevent: lines\ndata: ${JSON.stringify(items)}\n\n`
      if (ended) {
        yield 'event: end\ndata: {}\n\n'
        return
      }
      if (more) continue
      await tail.news(recheckMs, signal)
      // Tells a client that has gone from one that is idle.
      if (items.length === 0) yield ':\n\n'
    }
  } catch (thrown) {
    if (!(thrown instanceof SluiceError)) throw thrown
    yield `event: problem\ndata: ${JSON.stringify({ code: thrown.code })}\n\n`
  }
}
