import { type Reason, reasonCodes } from '../../core/why.ts'
import { z } from '../../sdk/schema.ts'
import { type ApiContext, idParams, runOf } from '../context.ts'
import { type Route, route } from '../route.ts'
import { whyOfRun, whyOfTask } from '../why.ts'
import { taskOf } from './tasks.ts'

const why = z.object({
  reasons: z
    .array(
      z.object({
        code: z.enum(reasonCodes),
        text: z.string(),
        until: z.iso.datetime().nullable().meta({ description: 'When it goes away by itself; null when nobody knows' }),
      }),
    )
    .meta({ description: 'The first is what it waits for now' }),
})

const answer = (reasons: readonly Reason[]) => ({
  reasons: reasons.map(({ code, text, until }) => ({
    ...{ code, text },
    until: until === undefined ? null : new Date(until).toISOString(),
  })),
})

export function whyRoutes(context: ApiContext): Route[] {
  return [
    route<{ id: string }>({
      method: 'GET',
      path: '/api/v1/tasks/:id/why',
      tag: 'tasks',
      summary: 'Why a task has not started, or not ended',
      description: 'Who holds and who waits for a limit is as the engines showed it last, at most a second ago.',
      params: idParams,
      answers: { 200: { description: 'The reasons', schema: why } },
      handle: async ({ params }) => answer(await whyOfTask(context, await taskOf(context, params.id))),
    }),
    route<{ id: string }>({
      method: 'GET',
      path: '/api/v1/runs/:id/why',
      tag: 'runs',
      summary: 'Why a run has not begun, or not ended',
      params: idParams,
      answers: { 200: { description: 'The reasons', schema: why } },
      handle: async ({ params }) => answer(await whyOfRun(context, await runOf(context, params.id))),
    }),
  ]
}
