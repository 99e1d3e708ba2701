import { describe, expect, it } from 'vitest'
import { node } from '../../test/run-plans.ts'
import { compileGraph } from '../core/graph.ts'
import type { NodeManifest, WorkflowManifest } from '../core/manifest.ts'
import { newProgress } from '../core/run-progress.ts'
import type { OwnedRun as RunRow } from '../store/runs.ts'
import { OwnedRun } from './owned-run.ts'

const random = () => 0.5

function owned(nodes: NodeManifest[], more: Partial<WorkflowManifest> = {}) {
  const workflow: WorkflowManifest = { name: 'w', file: 'w.ts', params: {}, plans: [], stages: [], nodes, ...more }
  const row: RunRow = {
    ...{ id: '00000000-0000-7000-8000-000000000001', workflow: 'w', version: 'v', params: '{"n":1}' },
    ...{ epoch: 1, seq: 0, cancel: false, hasParent: false, lane: 'backfill', priority: 3 },
    ...{ state: 'queued', startedAt: null, logicalTime: null },
  }
  const run = new OwnedRun(row, workflow, newProgress(compileGraph(workflow), row.params))
  run.take({ kind: 'begin' }, 1_000, random)
  return run
}

describe('a run in the memory of its owner', () => {
  it('starts a run of another workflow with the start of its task, with its own lane and priority', () => {
    const args = { $ref: { from: 'param', path: [] } } as never
    const run = owned([node(0, { kind: 'workflow', action: 'other', args })])
    expect(run.start('engine', { token: 7, now: 1_000, random })).toBe(true)
    const { change, after } = run.takeChange()
    expect(change.children).toMatchObject([
      {
        ...{ workflow: 'other', version: 'v', params: '{"n":1}', lane: 'backfill', priority: 3 },
        parent: { runId: run.row.id, node: 0, mapIndex: -1, attempt: 1 },
      },
    ])
    expect(change).toMatchObject({
      seq: 0,
      transitions: [{ to: 'deferred' }],
      state: { from: 'queued', to: 'running' },
    })
    expect(after).toMatchObject({ begun: true, starts: [], ended: false })
    expect(run.openChildren).toBe(1)
  })

  it('has something to write also when all that follows a cancel is that another run is cancelled', () => {
    const run = owned([node(0, { kind: 'workflow', action: 'other' })])
    run.start('engine', { token: 7, now: 1_000, random })
    run.takeChange()
    expect(run.hasChange).toBe(false)
    run.take({ kind: 'cancel' }, 1_000, random)
    expect(run.hasChange).toBe(true)
    expect(run.takeChange().change).toMatchObject({ transitions: [], stop: [{ node: 0, mapIndex: -1 }] })
  })

  it('has something to write when it has only taken up a message', () => {
    const run = owned([node(0)])
    run.takeChange()
    run.consume(5)
    expect(run.hasChange).toBe(true)
    expect(run.takeChange().change).toMatchObject({ seq: 1, consumed: [5] })
    expect(run.hasChange).toBe(false)
  })

  it('opens at most 64 runs of other workflows at once', () => {
    const list = Array.from({ length: 70 }, (_, index) => index)
    const run = owned([node(0, { kind: 'workflow', action: 'other', over: list })])
    let started = 0
    while (run.canStart('engine') && run.start('engine', { token: 1, now: 1_000, random })) started += 1
    expect(started).toBe(64)
    const outcome = { kind: 'success', result: 'null' } as const
    run.take({ kind: 'resumed', node: 0, mapIndex: 3, attempt: 1, outcome }, 1_000, random)
    run.take({ kind: 'resumed', node: 0, mapIndex: 3, attempt: 1, outcome }, 1_000, random)
    expect([run.openChildren, run.canStart('engine')]).toEqual([63, true])
  })
})
