import { describe, expect, it } from 'vitest'
import { isTerminal, mayBecome, runTransitions } from './run-state.ts'

// What holds for the states of runs and tasks alike is in task-state.test.ts.
describe('the states of a run', () => {
  it('end by themselves only after running', () => {
    expect(mayBecome('queued', 'success')).toBe(false)
    expect(mayBecome('running', 'success')).toBe(true)
    expect(mayBecome('running', 'queued')).toBe(false)
  })

  it('begin again after a clear only', () => {
    expect(mayBecome('failed', 'queued')).toBe(false)
    expect(mayBecome('failed', 'queued', 'clear')).toBe(true)
    expect(runTransitions.filter((row) => row.by === 'clear').every((row) => isTerminal(row.from))).toBe(true)
  })
})
