import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Pointer, reference, type Template, text, toTemplate } from '../sdk/reference.ts'
import { resolveTemplate } from './template.ts'

const at = (from: 'param' | 'item', ...path: string[]) => ({ $ref: { from, path } })
const value = { a: { b: [10, { c: null, d: false }] }, text: 'word', empty: null }
const resolve = (template: Template, given: unknown = value) => resolveTemplate(template, () => given)

describe('resolveTemplate', () => {
  it('gives JSON without references as it is', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (json) => {
        const plain = JSON.parse(JSON.stringify(json))
        const template = JSON.parse(JSON.stringify(toTemplate(plain, () => {})))
        expect(resolve(template)).toEqual(plain)
      }),
    )
  })

  it('follows a path through objects and lists', () => {
    expect(resolve(at('param'))).toBe(value)
    expect(resolve(at('param', 'a', 'b', '0'))).toBe(10)
    expect(resolve(at('param', 'a', 'b', '1', 'd'))).toBe(false)
    expect(resolve(at('param', 'a', 'b', '1', 'c'))).toBeNull()
    expect(resolve({ deep: [{ x: at('param', 'text') }] })).toEqual({ deep: [{ x: 'word' }] })
  })

  it.each([
    ['nothing'],
    ['empty', 'x'],
    ['text', '0'],
    ['text', 'length'],
    ['a', 'b', '2'],
    ['a', 'b', '-1'],
    ['a', 'b', 'map'],
    ['__proto__'],
    ['constructor'],
    ['a', 'constructor', 'name'],
    ['toString'],
    ['hasOwnProperty'],
  ])('finds nothing at %s %s %s', (...path) => {
    expect(resolve(at('param', ...path.filter((part) => part !== undefined)))).toBeUndefined()
  })

  it('finds a field named like one of every object when it is the own one', () => {
    const own = JSON.parse('{"__proto__": {"x": 1}, "constructor": 2}')
    expect(resolve(at('param', '__proto__', 'x'), own)).toBe(1)
    expect(resolve(at('param', 'constructor'), own)).toBe(2)
    expect(resolve(JSON.parse('{"__proto__": 3}'))).toEqual(JSON.parse('{"__proto__": 3}'))
  })

  it('leaves what is not found out of objects and puts null for it in lists', () => {
    const template = { gone: at('param', 'no'), list: [1, at('param', 'no'), at('param', 'text')] }
    expect(resolve(template)).toStrictEqual({ gone: undefined, list: [1, null, 'word'] })
    expect(JSON.stringify(resolve(template))).toBe('{"list":[1,null,"word"]}')
  })

  it('reads references inside of a literal, and nothing else of it', () => {
    expect(resolve({ $literal: { $ref: 'price', $literal: 1, n: at('param', 'text') } })).toEqual({
      $ref: 'price',
      $literal: 1,
      n: 'word',
    })
  })

  it('asks for each pointer that an author wrote', () => {
    const asked: Pointer[] = []
    const row = reference<{ id: number }>({ from: 'item', path: [] })
    const rows = reference<{ rows: number[] }>({ from: 'node', node: 3, path: [] })
    const template = toTemplate({ $sum: rows.rows, id: row.id }, () => {})
    const resolved = resolveTemplate(JSON.parse(JSON.stringify(template)), (pointer) => {
      asked.push(pointer)
      return pointer.from === 'item' ? { id: 7 } : { rows: [1, 2] }
    })
    expect(resolved).toEqual({ $sum: [1, 2], id: 7 })
    expect(asked.map(({ from }) => from)).toEqual(['node', 'item'])
  })
})

describe('texts with references inside', () => {
  it('are put together from what is known then', () => {
    const params = reference<{ text: string; a: { b: readonly unknown[] }; empty: null; no: number }>({
      from: 'param',
      path: [],
    })
    const seen: Pointer[] = []
    const template = JSON.parse(
      JSON.stringify(
        toTemplate(text`in/${params.text}-${params.a.b}${params.empty}${params.no}/${7}.csv`, (one) => seen.push(one)),
      ),
    )
    expect(seen).toHaveLength(4)
    expect(resolve(template)).toBe('in/word-[10,{"c":null,"d":false}]/7.csv')
  })

  it('are no objects of an author that only look like them', () => {
    const template = toTemplate({ a: { $text: ['x'] } }, () => {})
    expect(resolve(JSON.parse(JSON.stringify(template)))).toEqual({ a: { $text: ['x'] } })
  })

  it('are one text whatever they hold: nothing in them is a reference again', () => {
    fc.assert(
      fc.property(fc.array(fc.string(), { maxLength: 6 }), (words) => {
        const strings = words.map((word) => `${word}|`)
        const refs = words.map((_, index) => reference({ from: 'param', path: ['list', String(index)] }))
        const template = JSON.parse(JSON.stringify(toTemplate(text([...strings, ''], ...refs), () => {})))
        expect(resolve(template, { list: words })).toBe(words.map((word) => `${word}|${word}`).join(''))
      }),
    )
  })
})
