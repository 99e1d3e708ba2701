import { describe, expect, it } from 'vitest'
import type { TransitionRow } from '../store/reading/transitions.ts'
import { eventTypeOf } from './open-lineage-events.ts'

describe('to OpenLineage', () => {
  const transition = (from: string, to: string, wishes: Partial<TransitionRow> = {}): TransitionRow => ({
    ...{ seq: 1, at: new Date(0), node: 0, mapIndex: -1, attempt: 1, from, to, detail: null },
    ...wishes,
  })

  it.each([
    ['none', 'running', 1, 'START'],
    ['queued', 'running', 1, 'START'],
    ['none', 'deferred', 1, 'START'],
    ['none', 'running', 3, 'START'],
    ['up_for_retry', 'running', 2, 'RUNNING'],
    ['scheduled', 'running', 2, 'RUNNING'],
    ['deferred', 'running', 2, 'RUNNING'],
    ['running', 'deferred', 1, undefined],
    ['running', 'up_for_retry', 1, undefined],
    ['none', 'scheduled', 0, undefined],
    ['running', 'success', 1, 'COMPLETE'],
    ['deferred', 'success', 1, 'COMPLETE'],
    ['running', 'skipped', 1, 'COMPLETE'],
    ['running', 'failed', 1, 'FAIL'],
    ['up_for_retry', 'cancelled', 1, 'ABORT'],
    ['none', 'skipped', 0, undefined],
    ['none', 'upstream_failed', 0, undefined],
    ['none', 'cancelled', 0, undefined],
    ['success', 'none', 1, undefined],
  ])('a task that goes from %s to %s (attempt %i) is %s', (from, to, attempt, type) => {
    expect(eventTypeOf(transition(from, to, { attempt }))).toBe(type)
  })

  it.each([
    ['queued', 'running', 'START'],
    ['running', 'success', 'COMPLETE'],
    ['running', 'failed', 'FAIL'],
    ['queued', 'cancelled', 'ABORT'],
    ['success', 'queued', undefined],
  ])('a run that goes from %s to %s is %s', (from, to, type) => {
    expect(eventTypeOf(transition(from, to, { node: -1 }))).toBe(type)
  })
})
