import { describe, expect, it } from 'vitest'
import * as run from './run-state.ts'
import * as task from './task-state.ts'

/** The ways written as a drawing: from, then where the engine leads. */
const taskWays: Record<task.TaskState, string> = {
  none: 'scheduled queued running deferred success failed skipped upstream_failed cancelled removed',
  scheduled: 'queued running failed skipped upstream_failed cancelled removed',
  queued: 'scheduled running failed cancelled',
  running: 'deferred up_for_retry success failed skipped cancelled',
  deferred: 'scheduled running up_for_retry success failed skipped cancelled',
  up_for_retry: 'scheduled queued running deferred failed cancelled',
  success: '',
  failed: '',
  skipped: '',
  upstream_failed: '',
  cancelled: '',
  removed: '',
}

const runWays: Record<run.RunState, string> = {
  queued: 'running failed cancelled',
  running: 'success failed cancelled',
  success: '',
  failed: '',
  cancelled: '',
}

describe.each([
  { of: 'task', states: task.taskStates, transitions: task.taskTransitions, ways: taskWays, cleared: 'none', ...task },
  { of: 'run', states: run.runStates, transitions: run.runTransitions, ways: runWays, cleared: 'queued', ...run },
])('the states of a $of', ({ states, transitions, ways, cleared, ...module }) => {
  const isTerminal = module.isTerminal as (state: string) => boolean
  const mayBecome = module.mayBecome as (from: string, to: string, by?: task.TransitionBy) => boolean
  const drawn = ways as Record<string, string>

  it('lead where the drawing says, and nowhere else', () => {
    for (const from of states) {
      expect(states.filter((to) => mayBecome(from, to)).toSorted(), from).toEqual(
        drawn[from]!.split(' ').filter(Boolean).toSorted(),
      )
    }
  })

  it('are terminal exactly where the engine leads no further, and only a clear leads out of there', () => {
    for (const from of states) {
      expect(isTerminal(from), from).toBe(drawn[from] === '')
      expect(
        states.filter((to) => mayBecome(from, to, 'clear')),
        from,
      ).toEqual(isTerminal(from) ? [cleared] : [])
    }
  })

  it('can all be reached, and an end can be reached from each', () => {
    const reach = (start: string) => {
      const seen = new Set([start])
      for (const from of seen) for (const to of states) if (mayBecome(from, to)) seen.add(to)
      return seen
    }
    expect([...reach(states[0])].toSorted()).toEqual([...states].toSorted())
    for (const from of states) expect([...reach(from)].some(isTerminal), from).toBe(true)
  })

  it('have one row with a reason for each way', () => {
    const ways = transitions.map(({ from, to }) => `${from} ${to}`)
    expect(new Set(ways).size).toBe(ways.length)
    for (const row of transitions) expect(row.reason.length, `${row.from} ${row.to}`).toBeGreaterThan(10)
  })
})
