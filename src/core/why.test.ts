import { describe, expect, it } from 'vitest'
import { type WhyLimit, type WhyRun, type WhyTask, whyRun, whyTask } from './why.ts'

const now = Date.parse('2026-03-28T12:00:00Z')
const run: WhyRun = {
  ...{ id: 'r', workflow: 'w', state: 'running', error: null, cancelRequested: false, paused: false, heldBy: null },
  owner: { id: 'e', host: 'h', leaseUntil: now + 5_000 },
  ...{ engines: 1, places: null },
}
const task: WhyTask = {
  ...{ id: 't', name: 'load', state: 'none', attempt: 0, error: null, startedAt: null, due: null, wait: null },
  ...{ rule: 'all_success', upstream: 0, open: [], released: true, limits: [], runners: null },
}
const limit: WhyLimit = {
  ...{ limit: 'pool:etl', slots: 3, amount: 1, inUse: 3, place: 2, waiting: 5, nextAt: null },
  holders: [{ run: 'a', task: 'load' }],
}
const ofTask = (more: Partial<WhyTask>, ofRun: Partial<WhyRun> = {}) =>
  whyTask({ ...run, ...ofRun }, { ...task, ...more }, now)
const text = (more: Partial<WhyTask>) => ofTask(more)[0]!.text
const ofLimit = (more: Partial<WhyLimit>) => text({ limits: [{ ...limit, ...more }] })

describe('a task', () => {
  it.each<[string, Partial<WhyTask>, string, string]>([
    ['ended', { state: 'failed', error: 'TIMEOUT: late\nmore' }, 'ended', 'task load ended: failed, TIMEOUT: late'],
    [
      'runs',
      { state: 'running', attempt: 2, startedAt: now - 1_000 },
      'running',
      'attempt 2 of task load is running since 2026-03-28T11:59:59.000Z',
    ],
    [
      'waits for its retry',
      { state: 'up_for_retry', attempt: 1, due: now + 3_000, error: 'ACTION_FAILED: no' },
      'retry',
      'attempt 2 of task load begins at 2026-03-28T12:00:03.000Z (the last ended: ACTION_FAILED: no)',
    ],
    [
      'is deferred',
      { state: 'deferred', attempt: 1, due: now + 3_000, wait: 'its timer' },
      'deferred',
      'task load waits for its timer until 2026-03-28T12:00:03.000Z, without a runner',
    ],
    [
      'waits for others',
      {
        released: false,
        upstream: 3,
        open: [
          { name: 'a', state: 'running', ended: 0, of: 1 },
          { name: 'b', state: 'none', ended: 4, of: 9 },
        ],
      },
      'upstream',
      'task load waits for a (running), b (4 of 9 ended): 2 of 3 before it have not ended; its rule is all_success (all before it succeeded)',
    ],
    [
      'waits for a runner',
      { runners: { busy: 256, slots: 256, ready: 40 } },
      'runner',
      'no runner is free for task load: 256 of 256 attempts are under way; 40 tasks are ready',
    ],
    [
      'is about to start',
      { runners: { busy: 1, slots: 256, ready: 1 } },
      'starting',
      'task load may start: nothing keeps it waiting but its turn',
    ],
  ])('that %s', (_, given, code, says) => {
    expect(ofTask(given)[0]).toMatchObject({ code, text: says })
  })

  it('that waits for a limit says how much of it is used, by whom, and where it stands', () => {
    expect(ofLimit({})).toBe('pool etl 3 of 3, held by run a task load; number 2 in line of 5')
    expect(ofLimit({ place: 1 })).toBe('pool etl 3 of 3, held by run a task load; next in line')
    expect(ofLimit({ place: null, waiting: 500 })).toBe(
      'pool etl 3 of 3, held by run a task load; behind the first of 500 in line of 500',
    )
    expect(ofLimit({ amount: 2, inUse: 2 })).toBe(
      'pool etl 2 of 3, held by run a task load; it needs 2; number 2 in line of 5',
    )
    expect(ofLimit({ amount: 4 })).toBe('it needs 4 slots of pool etl, which has 3: it can never start so')
    expect(ofLimit({ slots: 0 })).toBe('pool etl is closed (0 slots); number 2 in line of 5')
    expect(ofLimit({ slots: null })).toBe('pool etl has no slots: nobody has declared it; number 2 in line of 5')
    expect(ofLimit({ limit: 'key:customer:a%3Ab:1' })).toContain('key customer a%3Ab:1 3 of 3')
    expect(ofLimit({ limit: 'workers:w' })).toContain('workers of w 3 of 3')
    const rate = { limit: 'rate:api', nextAt: now + 3_000 }
    expect(ofTask({ limits: [{ ...limit, ...rate }] })).toEqual([
      { code: 'rate', text: 'rate api is used up, next token in 3 s; number 2 in line of 5', until: now + 3_000 },
    ])
    expect(ofLimit({ ...rate, slots: 0, nextAt: null })).toBe('rate api is closed')
  })

  it('says first what its run waits for', () => {
    const codes = (given: Partial<WhyRun>) => ofTask({}, given).map(({ code }) => code)
    expect(codes({ state: 'queued', owner: null })).toEqual(['not_taken'])
    expect(codes({ paused: true })).toEqual(['paused'])
    expect(codes({ cancelRequested: true })).toEqual(['cancelling'])
    expect(codes({ state: 'success' })).toEqual(['ended'])
  })
})

describe('a run', () => {
  it.each<[string, Partial<WhyRun>, string]>([
    ['ended', { state: 'failed', error: 'failed: load' }, 'run r ended: failed, failed: load'],
    ['runs', {}, 'run r is running'],
    ['has no engine', { state: 'queued', owner: null, engines: 0 }, 'no engine is running'],
    ['was taken by nobody', { state: 'queued', owner: null }, 'no engine has taken run r yet'],
    [
      'lost its engine',
      { owner: { id: 'e', host: 'h', leaseUntil: now - 1 } },
      'engine e has not been heard of, its lease lapsed at 2026-03-28T11:59:59.999Z; another takes run r over',
    ],
    [
      'lost its engine long ago',
      { owner: { id: 'e', host: null, leaseUntil: null } },
      'engine e is gone; another takes run r over',
    ],
    [
      'is paused',
      { state: 'queued', paused: true, owner: null },
      'workflow w is paused: nothing of it starts until it goes on',
    ],
    [
      'is held back',
      { state: 'queued', heldBy: 'a place in its backfill b' },
      'run r waits for a place in its backfill b',
    ],
    [
      'waits for a place',
      { state: 'queued', places: { slots: 4, active: ['a', 'b', 'c', 'd'], before: 2 } },
      '4 of 4 runs of w are active: run a, run b, run c and 1 more; 2 queued before it',
    ],
    [
      'is next',
      { state: 'queued', places: { slots: 1, active: ['a'], before: 0 } },
      '1 of 1 runs of w are active: run a; next in line',
    ],
    [
      'is closed',
      { state: 'queued', places: { slots: 0, active: [], before: 0 } },
      'workflow w is closed: 0 active runs are allowed',
    ],
  ])('that %s', (_, given, says) => {
    expect(whyRun({ ...run, ...given }, now)[0]!.text).toBe(says)
  })
})
