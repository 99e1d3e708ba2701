import { expect, it } from 'vitest'
import { plannedParams } from './planned-params.ts'

it('fills in defaults, which a plan goes before', () => {
  const params = { properties: { file: { default: '' }, limit: { default: 0 }, on: { default: false }, note: {} } }
  expect(JSON.parse(plannedParams({ params }, { file: 'a.txt' }))).toEqual({ file: 'a.txt', limit: 0, on: false })
  expect(plannedParams({ params: {} })).toBe('{}')
})
