import { describe, expect, it } from 'vitest'
import { event, planTemplate, tick } from '../sdk/plan-params.ts'
import { fillTemplate, fitParams, templateOf, tickOf } from './planned-params.ts'
import { parseCron } from './schedule.ts'

const at = (text: string) => Date.parse(text)
const workflow = {
  name: 'w',
  params: {
    type: 'object',
    properties: {
      file: { type: 'string' },
      limit: { type: 'integer', default: 0 },
      on: { type: 'boolean', default: false },
    },
    required: ['file'],
  },
}

describe('parameters of planned runs', () => {
  it('get defaults, which a plan goes before', () => {
    expect(fitParams(workflow, { file: 'a.txt' })).toEqual({ params: '{"file":"a.txt","limit":0,"on":false}' })
    expect(fitParams(workflow, { file: 'a.txt', limit: 3 })).toMatchObject({
      params: expect.stringContaining('"limit":3'),
    })
    expect(fitParams({ name: 'w', params: {} }, {})).toEqual({ params: '{}' })
  })

  it.each([
    [{}, '/params/file', /string/],
    [{ file: 1 }, '/params/file', /string/],
    [{ file: 'a', limits: 2 }, '/params/limits', /not known/],
    [{ file: 'a\0' }, '/params/file', /cannot be stored/],
    [['a'], '/params', /object/],
    [undefined, '/params', /object/],
  ])('that do not fit say where and why: %j', (given, where, why) => {
    expect(fitParams(workflow, given)).toEqual({ faults: [{ where, message: expect.stringMatching(why) }] })
  })

  it('of a tick are its time, its interval, and the days that the clocks of the zone show', () => {
    const paris = parseCron('0 2 * * *', 'Europe/Paris')
    const template = planTemplate({ ...tick })
    expect(fillTemplate(template, { tick: tickOf(paris, at('2026-03-29T01:00Z')) })).toEqual({
      time: '2026-03-29T01:00:00.000Z',
      date: '2026-03-29',
      start: '2026-03-28T01:00:00.000Z',
      startDate: '2026-03-28',
      end: '2026-03-29T01:00:00.000Z',
    })
    const midnight = parseCron('0 0 * * *', 'Pacific/Auckland')
    const days = planTemplate({ over: tick.startDate, now: tick.date })
    expect(fillTemplate(days, { tick: tickOf(midnight, at('2026-03-28T11:00Z')) })).toEqual({
      over: '2026-03-28',
      now: '2026-03-29',
    })
  })

  it('of the first tick of an interval begin one interval before', () => {
    const schedule = { everyMs: 3_600_000, start: at('2026-03-01T00:00Z') }
    expect(tickOf(schedule, schedule.start)('start')).toBe('2026-02-28T23:00:00.000Z')
  })

  it('of an event are fields of it; what it lacks is left out, or null in a list', () => {
    const template = planTemplate({
      ref: event('body.ref'),
      author: event('body.who.name'),
      both: [event('body.a'), event('body.ref')],
      n: 1,
    })
    expect(fillTemplate(template, { event: { body: { ref: 'main' } } })).toEqual({
      ref: 'main',
      author: undefined,
      both: [null, 'main'],
      n: 1,
    })
    expect(fillTemplate(planTemplate(event('body')), { event: { body: 3 } })).toBe(3)
    expect(fillTemplate(planTemplate({ x: event('constructor.name') }), { event: {} })).toEqual({ x: undefined })
  })

  it('keep keys that begin with $ and survive JSON', () => {
    const template = JSON.parse(JSON.stringify(planTemplate({ q: { $tick: 'date', a: tick.date } })))
    const paris = parseCron('@daily', 'UTC')
    expect(fillTemplate(template, { tick: tickOf(paris, 0) })).toEqual({ q: { $tick: 'date', a: '1970-01-01' } })
  })

  it.each([
    [{ a: () => 1 }, 'function'],
    [{ a: Number.NaN }, 'number'],
    [{ a: new Date(0) }, 'a Date'],
    [{ a: 1n }, 'bigint'],
  ])('are JSON: %o is refused', (params, what) => {
    expect(() => planTemplate(params)).toThrow(`params.a is ${what}; JSON values, and fields of tick or event`)
  })

  it('that contain themselves are refused', () => {
    const params: { a?: unknown } = {}
    params.a = params
    expect(() => planTemplate(params)).toThrow('is nested deeper than 64 levels')
  })

  it('of plans that say nothing of them are what happened', () => {
    expect(templateOf({ kind: 'file-arrival', glob: '*', restMs: 1 })).toEqual({ file: { $event: ['file'] } })
    expect(templateOf({ kind: 'topic-record', topic: 't' })).toEqual({ $event: ['record'] })
    expect(templateOf({ kind: 'dataset-written', datasets: ['d'], when: 'all' })).toEqual({})
  })
})
