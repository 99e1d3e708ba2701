import { describe, expect, it } from 'vitest'
import { limitId, limitNameOf } from './limit-names.ts'
import { declaredLimits, differsByTask, keyValue, needsOf } from './limit-needs.ts'

describe('the needs of a task', () => {
  it('stand in one order, whatever the node says first', () => {
    const limits = {
      rate: { name: 'api', limit: 1, perMs: 1_000, burst: 1 },
      pool: { name: 'etl', of: 3, slots: 2 },
      key: { name: 'customer', of: 1, parts: ['x'] },
    }
    const needs = needsOf({ name: 'w', workers: 4 }, limits, (parts) => parts)
    expect(needs.map(({ limit, amount }) => `${limit} ${amount}`)).toEqual([
      'workers:w 1',
      'key:customer:x 1',
      'pool:etl 2',
      'rate:api 1',
    ])
    expect(needsOf({ name: 'w' }, undefined, () => [])).toEqual([])
  })

  it('differ by the item where the key is about it', () => {
    const key = (from: string) => ({ key: { name: 'k', of: 1, parts: [{ $ref: { from, path: [] } }] } })
    expect(differsByTask(key('item'))).toBe(true)
    expect(differsByTask(key('param'))).toBe(false)
    expect(differsByTask(undefined)).toBe(false)
  })

  it('have keys that are the same only for the same parts', () => {
    const values = [['a', 'b'], ['a:b'], ['a%3Ab'], ['1'], [null], [{ a: 1 }], ['a', ''], ['a']].map(keyValue)
    expect(new Set(values).size).toBe(values.length)
    // A number and its text are about the same thing.
    expect(keyValue([1])).toBe(keyValue(['1']))
    const long = limitId({ kind: 'key', name: 'k', value: 'x'.repeat(1_000) })
    expect(long.length).toBeLessThan(80)
    expect(limitNameOf('key:k:a:b')).toEqual({ kind: 'key', name: 'k', value: 'a:b' })
    expect(limitNameOf('pool:etl')).toEqual({ kind: 'pool', name: 'etl', value: '' })
  })
})

describe('the limits of workflows', () => {
  const pooled = (of: number) => ({ id: 'load', limits: { pool: { name: 'etl', of, slots: 1 } } })

  it('are each declared once', () => {
    const nodes = [pooled(3), pooled(3)]
    const { limits, differing } = declaredLimits([{ name: 'w', workers: 2, maxActiveRuns: 1, nodes }])
    expect(limits).toEqual([
      { kind: 'workers', name: 'w', slots: 2 },
      { kind: 'runs', name: 'w', slots: 1 },
      { kind: 'pool', name: 'etl', slots: 3 },
    ])
    expect(differing).toEqual([])
  })

  it('that are said to be two things are told, and the smaller holds', () => {
    const found = declaredLimits([
      { name: 'one', nodes: [pooled(3)] },
      { name: 'two', nodes: [pooled(2)] },
    ])
    expect(found.limits).toEqual([{ kind: 'pool', name: 'etl', slots: 2 }])
    expect(found.differing).toEqual([
      {
        workflow: 'two',
        message: 'pool etl is 2 by task load, and 3 by task load of workflow one; it can be one thing only',
      },
    ])
  })
})
