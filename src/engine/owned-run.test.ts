import { describe, expect, it } from 'vitest'
import { node } from '../../test/run-plans.ts'
import { compileGraph } from '../core/graph.ts'
import type { NodeManifest, WorkflowManifest } from '../core/manifest.ts'
import { newProgress, type RunEvent } from '../core/run-progress.ts'
import { restoreProgress } from '../core/run-restore.ts'
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

  it('stops a task for its time when its rows say so too, however late its start was committed', () => {
    const nodes = [node(0, { withinMs: 500 })]
    const run = owned(nodes, { timeoutMs: 10_000 })
    run.start('shared', { token: 7, now: 1_000, random })
    const committed = 1_300
    const limits = run.limitsOf(run.takeChange().after, committed)
    expect(limits).toEqual([
      { at: 1_800, what: { kind: 'task-limit', node: 0, mapIndex: -1 } },
      { at: 11_300, what: { kind: 'run-limit' } },
    ])
    run.take(limits[0]!.what as RunEvent, 1_800, random)
    const told = run.takeChange().after
    expect(told.kill).toEqual([7])
    expect(run.limitsOf(told, 1_800)).toEqual([])
    // Now it is read again, and only then the attempt ends because it was told to.
    const begun = { node: 0, mapIndex: -1, state: 'running', attempt: 1, losses: 0, waits: 0, base: 0 } as const
    const rows = [{ ...begun, token: 7, result: null, retryAt: null, firstStartedAt: committed }]
    const restored = restoreProgress(run.progress.graph, '{}', rows, [])
    expect(restored.limits).toEqual([{ node: 0, mapIndex: -1, at: 1_800 }])
    const again = new OwnedRun({ ...run.row, state: 'running' }, run.workflow, restored.progress)
    for (const { at, ...task } of restored.limits)
      if (at <= 1_800) again.take({ kind: 'task-limit', ...task }, 1_800, random)
    again.take({ kind: 'ended', node: 0, mapIndex: -1, token: 7, outcome: { kind: 'cancelled' } }, 1_850, random)
    expect(again.takeChange().change.transitions).toMatchObject([
      { to: 'failed', error: 'TIMEOUT: the time limit of the task has passed' },
    ])
  })

  it('counts the time of a task from its first start alone', () => {
    const run = owned([node(0, { withinMs: 500, retry: { attempts: 3, baseMs: 10, maxMs: 10 } })])
    const limitsOfStart = (token: number) => {
      run.addReady({ node: 0, first: -1, last: -1 })
      run.start('shared', { token, now: 1_000, random })
      return run.limitsOf(run.takeChange().after, 1_000)
    }
    expect(limitsOfStart(7)).toHaveLength(1)
    run.take(
      { kind: 'ended', node: 0, mapIndex: -1, token: 7, outcome: { kind: 'lost', reason: 'gone' } },
      1_000,
      random,
    )
    expect(limitsOfStart(8)).toEqual([])
    expect(run.isLive(0, -1, 8)).toBe(true)
  })
})
