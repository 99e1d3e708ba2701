/** HTTP access to the sums, and to how far they are. */
import { endpoint, z } from 'sluice'
import { aggregated, backlogBefore, mostCounted, waitingNow } from '../aggregate/backlog.ts'
import { answer, sums, sumsOf, timeText } from '../read/answer.ts'
import { isNumbered, isTimed, page, pageOf, pageQuery, placeOf, placeWith } from '../read/page.ts'
import { contents, customers, raw, series, totals, windows } from '../read/queries.ts'
import { chartRange, mostPoints, rangeOf, rangeQuery, type Step, seriesQuery, steps } from '../read/range.ts'
import { readSettings, settingsShape, writeSettings } from '../settings.ts'
import { warehouse } from '../warehouse.ts'

const time = z.string().meta({ description: 'The end of the window', example: '2026-03-01T12:05:00.000Z' })

export const listStats = endpoint('GET /api/v1/stats', {
  summary: 'Sums of five minutes each, by customer and content, in the order of time, customer, content',
  query: z.strictObject({ ...seriesQuery, ...rangeQuery, ...pageQuery }),
  reply: pageOf(z.object({ time, customer: z.string(), content: z.string(), ...sums })),
  async handle({ query: { limit, cursor, ...asked }, connection }) {
    const range = rangeOf(asked)
    const rows = await windows(connection(warehouse), range, asked, placeWith(cursor, 3, isTimed), limit + 1)
    return answer(
      page(
        rows,
        limit,
        ({ time, customer, content, ...row }) => ({ time: timeText(time), customer, content, ...sumsOf(row) }),
        ({ time, customer, content }) => [timeText(time), customer, content],
      ),
    )
  },
})

export const chartStats = endpoint('GET /api/v1/stats/series', {
  summary: `Points of a chart: sums by step, at most ${mostPoints}; a step in which nothing was received has no point. Default: the last day`,
  query: z.strictObject({
    ...seriesQuery,
    ...rangeQuery,
    step: z
      .enum(Object.keys(steps) as [Step, ...Step[]])
      .default('5m')
      .meta({ description: 'Whole steps of UTC' }),
  }),
  reply: z.object({
    step: z.string(),
    points: z.array(z.object({ time: z.string().meta({ description: 'The end of the step' }), ...sums })),
  }),
  async handle({ query, connection }) {
    const range = chartRange(query, new Date())
    const points = await series(connection(warehouse), range, query, steps[query.step])
    return answer({
      step: query.step,
      points: points.map(({ time, ...row }) => ({ time: timeText(time), ...sumsOf(row) })),
    })
  },
})

export const totalStats = endpoint('GET /api/v1/stats/totals', {
  summary: 'The sum of all windows that are asked for',
  query: z.strictObject({ ...seriesQuery, ...rangeQuery }),
  reply: z.object({ windows: z.int().min(0), ...sums }),
  async handle({ query, connection }) {
    const { windows: count, ...row } = await totals(connection(warehouse), rangeOf(query), query)
    return answer({ windows: BigInt(count), ...sumsOf(row) })
  },
})

export const listCustomers = endpoint('GET /api/v1/stats/customers', {
  summary: 'Customers with their sums, by name',
  query: z.strictObject({ ...rangeQuery, ...pageQuery }),
  reply: pageOf(z.object({ customer: z.string(), contents: z.int().min(0), ...sums })),
  async handle({ query: { limit, cursor, ...asked }, connection }) {
    const rows = await customers(connection(warehouse), rangeOf(asked), placeOf(cursor, 1), limit + 1)
    return answer(
      page(
        rows,
        limit,
        ({ customer, contents: count, ...row }) => ({ customer, contents: BigInt(count), ...sumsOf(row) }),
        ({ customer }) => [customer],
      ),
    )
  },
})

export const listContents = endpoint('GET /api/v1/stats/contents', {
  summary: 'Contents of a customer with their sums, by name',
  query: z.strictObject({ customer: z.string().min(1).max(256), ...rangeQuery, ...pageQuery }),
  reply: pageOf(z.object({ content: z.string(), ...sums })),
  async handle({ query: { customer, limit, cursor, ...asked }, connection }) {
    const rows = await contents(connection(warehouse), rangeOf(asked), customer, placeOf(cursor, 1), limit + 1)
    return answer(
      page(
        rows,
        limit,
        ({ content, ...row }) => ({ content, ...sumsOf(row) }),
        ({ content }) => [content],
      ),
    )
  },
})

const instant = z.string().nullable()

const whole = z.number().meta({ type: 'integer', format: 'int64', minimum: 0 })

export const listRaw = endpoint('GET /api/v1/stats/raw', {
  summary: 'Events as they were received, the latest first; for ten minutes, and until they are aggregated',
  query: z.strictObject({
    customer: seriesQuery.customer,
    token: z.string().min(1).max(1_024).optional(),
    id: z.string().min(1).max(200).optional().meta({ description: 'As the answer to the event said it' }),
    ...pageQuery,
  }),
  reply: pageOf(
    z.object({
      id: z.string(),
      receivedAt: z.string(),
      ...{ token: z.string(), customer: z.string(), content: z.string() },
      ...{ timespan: whole, p2p: whole, cdn: whole, sessionDuration: whole },
      aggregated: z.boolean().meta({ description: 'Whether it is in the sums' }),
    }),
  ),
  async handle({ query: { limit, cursor, ...names }, connection }) {
    const rows = await raw(connection(warehouse), names, placeWith(cursor, 2, isNumbered), limit + 1)
    return answer(
      page(
        rows,
        limit,
        ({ number: _, timespan, p2p, cdn, sessionDuration, aggregated, ...row }) => ({
          ...row,
          ...{
            timespan: BigInt(timespan),
            p2p: BigInt(p2p),
            cdn: BigInt(cdn),
            sessionDuration: BigInt(sessionDuration),
          },
          aggregated,
        }),
        ({ receivedAt, number }) => [receivedAt, number],
      ),
    )
  },
})

export const statsProgress = endpoint('GET /api/v1/stats/progress', {
  summary: 'How far aggregation is',
  reply: z.object({
    aggregated: z.int().meta({ description: 'Events that were ever added to the sums' }),
    aggregatedAt: instant.meta({ description: 'When any were last' }),
    waiting: z
      .int()
      .meta({ description: `Events that are received and not added yet; counted up to about ${mostCounted}` }),
    oldestWaitingAt: instant.meta({ description: 'When the oldest of them was received' }),
    overdue: z.int().meta({ description: `Those that should have been added by now; counted up to ${mostCounted}` }),
    behind: z.boolean().meta({ description: 'Whether there are any; the workflow stats-clean fails as long' }),
  }),
  async handle({ connection }) {
    const sql = connection(warehouse)
    const { alertMinutes } = await readSettings(sql)
    const [done, waiting, overdue] = await Promise.all([
      aggregated(sql),
      waitingNow(sql),
      backlogBefore(sql, new Date(Date.now() - alertMinutes * 60_000)),
    ])
    return {
      aggregated: done.events,
      aggregatedAt: done.at?.toISOString() ?? null,
      waiting: waiting.events,
      oldestWaitingAt: waiting.oldest?.toISOString() ?? null,
      overdue: overdue.events,
      behind: overdue.events > 0,
    }
  },
})

export const getStatsSettings = endpoint('GET /api/v1/stats/settings', {
  summary: 'What holds for tokens, raw rows and the alarm',
  reply: settingsShape,
  handle: ({ connection }) => readSettings(connection(warehouse)),
})

export const putStatsSettings = endpoint('PUT /api/v1/stats/settings', {
  summary: 'Sets all of them, from the next minute on',
  body: settingsShape,
  reply: settingsShape,
  async handle({ body, connection }) {
    await writeSettings(connection(warehouse), body)
    return body
  },
})
