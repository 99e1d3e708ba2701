import { describe, expect, it } from 'vitest'
import { dataset } from '../../sdk/dataset.ts'
import { cron, datasetWritten, every, fileArrival, type Plan, topicRecord, webhook } from '../../sdk/plan.ts'
import { event, tick } from '../../sdk/plan-params.ts'
import { z } from '../../sdk/schema.ts'
import { secret } from '../../sdk/secret.ts'
import { topic } from '../../sdk/topic.ts'
import { describePlans, type ObjectSchema } from './plans-of.ts'

const schemaOf = (schema: z.ZodType) => z.toJSONSchema(schema, { io: 'input' }) as ObjectSchema
const orders = topic('orders', { schema: z.object({ id: z.string(), amount: z.number() }) })
const nameable = { topics: new Map([['orders', schemaOf(orders.schema)]]) }
const described = (plans: readonly Plan[], params: z.ZodType = z.object({})) =>
  describePlans(plans, { name: 'w', params: schemaOf(params) }, nameable)
const key = secret('push-key')
const day = z.object({ day: z.iso.date() })

describe('plans are named by what they are', () => {
  it.each<[Plan, string]>([
    [cron('0 2 * * *', { timezone: 'Europe/Paris' }), 'cron:0 2 * * *@Europe/Paris'],
    [every('15m'), 'every:15m'],
    [every('1d', { start: '2026-03-01T02:00:00+01:00' }), 'every:1d@2026-03-01T01:00:00.000Z'],
    [webhook('push', { secret: key }), 'webhook:push'],
    [topicRecord('orders', { params: {} }), 'topic-record:orders'],
    [datasetWritten(dataset('mart.sales')), 'dataset-written:mart.sales'],
    [datasetWritten(['a', 'b']), 'dataset-written:a+b'],
    [datasetWritten(['a', 'b'], { when: 'any' }), 'dataset-written:a|b'],
    [cron('0 2 * * *', { name: 'nightly' }), 'nightly'],
  ])('%o', (plan, name) => {
    const [made] = described([plan])
    expect(made!.name).toBe(name)
    expect(JSON.parse(JSON.stringify(made))).toEqual(made)
  })

  it('and may differ in nothing but a name of their own', () => {
    const params = z.object({ region: z.enum(['eu', 'us']) })
    const both = ['eu', 'us'].map((region) => cron('0 2 * * *', { name: region, params: { region } }))
    expect(described(both, params).map(({ name }) => name)).toEqual(['eu', 'us'])
  })
})

describe('parameters of plans', () => {
  it('fit the workflow', () => {
    expect(() => described([cron('0 2 * * *', { params: { day: tick.date } })], day)).not.toThrow()
    expect(() => described([fileArrival('in/*')], z.object({ file: z.string() }))).not.toThrow()
    expect(() => described([topicRecord(orders)], orders.schema)).not.toThrow()
    expect(() => described([webhook('push', { secret: key, params: { day: event('body.day') } })], day)).not.toThrow()
    const batch = z.object({ records: z.array(z.unknown()) })
    expect(() => described([topicRecord(orders, { batch: { records: 10 } })], batch)).not.toThrow()
  })
})

describe('bad definitions give precise errors', () => {
  const cases: [string, () => unknown, string | RegExp][] = [
    [
      'cron that never fires',
      () => described([cron('0 0 30 2 *')]),
      'no month of "2" has a day "30", so it would never fire',
    ],
    [
      'a field out of range',
      () => described([cron('61 * * * *')]),
      /minute: "61" is not one of its values; allowed are 0-59/,
    ],
    ['too few fields', () => described([cron('* * * *')]), 'it has 4 fields and needs 5'],
    [
      'an unknown zone',
      () => described([cron('0 2 * * *', { timezone: 'Europe/Pari' })]),
      'did you mean "Europe/Paris"?',
    ],
    [
      'an unknown catch-up',
      () => described([cron('0 2 * * *', { catchUp: 'most' as never })]),
      'allowed are all, last, none',
    ],
    [
      'an interval of zero',
      () => every('0s'),
      'every("0s"): "0s" is not a length of time; write for example 30s, 15m, 2h (more than zero)',
    ],
    ['a negative interval', () => every('-5m'), 'every("-5m"): "-5m" is not a length of time'],
    ['an interval that is too short', () => every('10ms'), 'every("10ms"): the shortest interval is 1s'],
    ['an interval without a unit', () => every('15'), '"15" is not a length of time'],
    [
      'a start without a zone',
      () => every('1d', { start: '2026-03-01T02:00:00' }),
      'write a time from 1970 on with its zone',
    ],
    [
      'a start that is no time',
      () => every('1d', { start: new Date(Number.NaN) }),
      'start of every(...) is "Invalid Date"',
    ],
    ['an unknown topic', () => described([topicRecord('order')]), 'there is no topic "order"; did you mean orders?'],
    [
      'a topic that is nothing like one',
      () => described([topicRecord('clicks')]),
      'there is no topic "clicks"; export it from a definition file',
    ],
    ['no topic', () => topicRecord(undefined as never), 'topicRecord(...) needs a topic'],
    [
      'a match that is no value',
      () => topicRecord(orders, { match: { id: {} as never } }),
      'match of topicRecord("orders"): id is {}',
    ],
    [
      'a batch of none',
      () => topicRecord(orders, { batch: { records: 0 } }),
      'batch.records of topicRecord("orders") is 0; allowed are whole numbers from 1 to 1000',
    ],
    [
      'a batch that waits for no time',
      () => topicRecord(orders, { batch: { records: 1, within: '0s' } }),
      'batch.within of topicRecord("orders"): "0s"',
    ],
    [
      'a name that is none of a dataset',
      () => datasetWritten('Mart Sales'),
      '"Mart Sales" is not a name for a dataset',
    ],
    ['no datasets', () => datasetWritten([]), 'give the name of a dataset, or 1 to 100 names, each once'],
    ['a dataset twice', () => datasetWritten(['a', 'a']), 'each once'],
    ['an unknown when', () => datasetWritten('a', { when: 'some' as never }), 'allowed are all, any'],
    [
      'a webhook without a secret',
      () => webhook('push', {} as never),
      'webhook("push") has no secret; write webhook("push", { secret: secret("push-signature") })',
    ],
    [
      'a webhook whose secret is a text',
      () => webhook('push', { secret: 'abc' as never }),
      'webhook("push") has no secret',
    ],
    [
      'a tolerance of days',
      () => webhook('push', { secret: key, tolerance: '2d' }),
      'tolerance of webhook("push") is over 1h',
    ],
    [
      'a body that is too large',
      () => webhook('push', { secret: key, maxBytes: 2 ** 30 }),
      'maxBytes of webhook("push") is 1073741824',
    ],
    [
      'two webhooks of a name',
      () => described([webhook('push', { secret: key }), { ...webhook('push', { secret: key }), name: 'x' }]),
      'it has two webhooks named push',
    ],
    [
      'a plan twice',
      () => described([every('1h'), every('1h')]),
      "it has the plan every:1h twice; give one of them another name: { name: '...' }",
    ],
    ['a plan named manual', () => every('1h', { name: 'manual' }), 'a plan cannot be named manual'],
    ['a name that is none', () => every('1h', { name: 'a b' }), '"a b" is not a name for a plan'],
    ['what is no plan', () => described([{ kind: 'often' } as never]), 'a plan is what cron(...), every(...)'],
    [
      '101 plans',
      () => described(Array.from({ length: 101 }, () => every('1h'))),
      'it has 101 plans; at most 100 are allowed',
    ],
    [
      'a parameter without a value',
      () => described([cron('0 2 * * *')], day),
      'starts it without parameters, and day has no default',
    ],
    [
      'a parameter of another type',
      () => described([cron('0 2 * * *', { params: { day: 5 } })], day),
      '/params/day Invalid input: expected string, received number',
    ],
    [
      'a tick that is no number',
      () => described([every('1h', { params: { n: tick.time } })], z.object({ n: z.number() })),
      '/params/n Invalid input: expected number, received string',
    ],
    [
      'an unknown parameter',
      () => described([cron('0 2 * * *', { params: { days: tick.date } })], day),
      'the parameter days, which its params do not have; did you mean day?',
    ],
    [
      'a tick where there is none',
      () => described([webhook('push', { secret: key, params: { day: tick.date } })], day),
      'speak of a tick, and it has none; use event',
    ],
    [
      'an event where there is none',
      () => described([every('1h', { params: { day: event('body') } })], day),
      'speak of an event, and it has none; use tick',
    ],
    [
      'an unknown field of an event',
      () => described([webhook('push', { secret: key, params: { day: event('boddy.day') } })], day),
      'did you mean event.body?',
    ],
    [
      'a literal beside an event',
      () =>
        described(
          [webhook('push', { secret: key, params: { day: event('body.day'), n: 'x' } })],
          day.extend({ n: z.number() }),
        ),
      '/params/n Invalid input: expected number',
    ],
    [
      'a record that lacks a parameter',
      () => described([topicRecord(orders)], z.object({ id: z.string(), amount: z.number(), day: z.string() })),
      'starts it with a record of orders, and that has no day',
    ],
    [
      'a record with more than the parameters',
      () => described([topicRecord(orders)], z.object({ id: z.string() })),
      'the parameter amount, which its params do not have',
    ],
    [
      'a function as a parameter',
      () => cron('0 2 * * *', { params: { day: () => 1 } }),
      'params.day is function; JSON values, and fields of tick or event',
    ],
  ]
  it.each(cases)('%s', (_, define, message) => {
    expect(define).toThrow(
      expect.objectContaining({ code: 'DEFINITION_INVALID', message: expect.stringMatching(asPattern(message)) }),
    )
  })
})

const asPattern = (text: string | RegExp) => (typeof text === 'string' ? RegExp.escape(text) : text)
