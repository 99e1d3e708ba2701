import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { NodeManifest, WorkflowManifest } from './manifest.ts'
import { compareTask, type Made, type Noted, obstaclesTo, type RanTask, type RunFacts } from './reproduce.ts'

const hash = (digit: string) => digit.repeat(64)
const node = (id: string, more: Partial<NodeManifest> = {}): NodeManifest => ({
  ...{ id, action: id, args: {}, upstream: [], rule: 'all_success', timeoutMs: 1_000, isolation: 'shared' },
  retry: { attempts: 1, baseMs: 1, maxMs: 1 },
  ...more,
})
const workflow: WorkflowManifest = {
  ...{ name: 'w', file: 'w.ts', params: {}, plans: [], stages: [] },
  nodes: [node('load'), node('each', { over: [] }), node('choose', { kind: 'branch' })],
}
const note = (what: string, more: Partial<Noted> = {}): Noted => ({
  ...{ kind: 'read', what, name: 'it', version: null, hash: null },
  ...more,
})
const task = (more: Partial<RanTask> = {}): RanTask => ({
  ...{ node: 0, mapIndex: -1, state: 'success', attempt: 1, waits: 0, notes: [] },
  ...more,
})
const here = '{"node":"24.1.0","platform":"linux","arch":"x64","lock":"abc"}'
const facts = (more: Partial<RunFacts> = {}): RunFacts => ({
  ...{ state: 'success', workflow, tasks: [task()], environments: [here], present: here, hasCode: true },
  ...{ missingObjects: new Set(), missingVersions: new Set(), storedResults: new Map() },
  ...more,
})
const why = (more: Partial<RunFacts>) => obstaclesTo(facts(more)).map(({ where, message }) => `${where}: ${message}`)
const whyNote = (...notes: Noted[]) => why({ tasks: [task({ notes })] })

describe('what stands in the way of reproducing a run', () => {
  it('is nothing when all that it took comes again', () => {
    const notes = [
      note('clock', { version: 5 }),
      note('random'),
      note('object', { hash: hash('a') }),
      note('file', { name: 'a.csv', hash: hash('b') }),
      note('dataset', { name: 'prim.orders', version: 3, hash: hash('c') }),
      note('latest', { name: 'prim.orders', version: 3 }),
      note('dataset', { name: 'never.written', version: 0 }),
      ...['object', 'topic', 'documents', 'dataset'].map((what) => note(what, { kind: 'write', hash: hash('d') })),
    ]
    expect(whyNote(...notes)).toEqual([])
    const others = [task({ node: 2, state: 'success', attempt: 0 }), task({ node: 1, state: 'skipped', attempt: 0 })]
    expect(why({ tasks: others })).toEqual([])
  })

  it.each<[Partial<RunFacts>, string]>([
    [{ state: 'running' }, 'run: it has not ended: it is running'],
    [{ state: 'cancelled' }, 'run: it ended cancelled; only what succeeded has results to compare'],
    [{ hasCode: false }, 'run: the code of its version is not on this machine any more'],
    [{ environments: [] }, 'run: in what it was executed was not noted: nothing ran, or it ran before that was noted'],
    [
      { environments: [here, here.replace('24.1.0', '24.2.0')] },
      'run: it was executed in another environment: node was 24.2.0 and is 24.1.0',
    ],
    [{ tasks: [task({ state: 'failed' })] }, 'load: it ended failed; only what succeeded has results to compare'],
    [{ tasks: [task({ attempt: 0 })] }, 'load: its result was taken over from another run; reproduce that one'],
    [{ tasks: [task({ waits: 2 })] }, 'load: it waited 2 times and went on as another attempt'],
    [{ tasks: [task({ node: 7 })] }, '7: the version has no such task'],
    [
      {
        storedResults: new Map([['1 4', hash('a')]]),
        missingObjects: new Set([hash('a')]),
        tasks: [task({ node: 1, mapIndex: 4 })],
      },
      `each[4]: its result is the object ${hash('a')}, which is gone`,
    ],
  ])('%# is named', (more, message) => {
    expect(why(more)).toEqual([message])
  })

  it.each<[Noted, string]>([
    [note('connection', { name: 'web' }), 'it used the connection web: what a network answers does not come again'],
    [note('secret', { name: 'api' }), 'it read the secret api, of which nothing is kept'],
    [note('documents', { name: 'sums' }), 'it read the documents sums, which may have changed since'],
    [
      note('topic', { name: 'things', version: 3 }),
      'it learnt that 3 records of topic things had been published before',
    ],
    [note('step', { name: 'make' }), 'it took the result of the durable step make from an earlier attempt'],
    [note('program', { name: 'spark' }), 'it ran the program spark, of which nobody knows what it read'],
    [note('more', { version: 5 }), 'it read or wrote more than is noted (at least 5 things beyond the limit)'],
    [
      note('dataset', { name: 'prim.orders', version: 3 }),
      'it read version 3 of dataset prim.orders, of which no hash says what it was',
    ],
  ])('%# is named, that a task noted', (one, message) => {
    expect(whyNote(one)).toEqual([`load: ${message}`])
  })

  it('is what is gone', () => {
    const missing = { missingObjects: new Set([hash('a')]), missingVersions: new Set(['prim.orders 3']) }
    const notes = [
      note('object', { hash: hash('a') }),
      note('file', { name: 'a.csv', hash: hash('a') }),
      note('dataset', { name: 'prim.orders', version: 3, hash: hash('b') }),
      // Nobody needs the bytes of what was written.
      note('object', { kind: 'write', hash: hash('a') }),
    ]
    expect(why({ ...missing, tasks: [task({ notes })] })).toEqual([
      `load: the object ${hash('a')} that it read is gone`,
      `load: the object ${hash('a')} that it read as the file a.csv is gone`,
      'load: version 3 of dataset prim.orders is gone',
    ])
  })

  it('is a file that changed while it was stored', () => {
    const twice = ['a', 'b'].map((digit) => note('file', { name: 'a.csv', hash: hash(digit) }))
    expect(whyNote(...twice)).toEqual(['load: the file a.csv changed while it was stored'])
  })
})

describe('comparing', () => {
  const made: Made = {
    result: hash('a'),
    notes: [
      note('object', { kind: 'write', name: '', hash: hash('b') }),
      note('topic', { kind: 'write', name: 'things', version: 3, hash: hash('c') }),
      note('object', { hash: hash('d') }),
    ],
    versions: [{ dataset: 'mart.sales', hash: hash('e'), rows: 1, metadata: '{"a":1}' }],
  }

  it('finds the same the same, whatever order things were noted in and whatever was read', () => {
    expect(compareTask(made, { ...made, notes: made.notes.slice(0, 2).reverse() })).toEqual({
      same: true,
      differences: [],
    })
  })

  it('says what differs', () => {
    const now: Made = {
      result: hash('f'),
      notes: [
        note('topic', { kind: 'write', name: 'things', version: 2, hash: hash('c') }),
        note('documents', { kind: 'write' }),
      ],
      versions: [{ dataset: 'mart.sales', hash: hash('e'), rows: 2, metadata: '{"a":1}' }],
    }
    expect(compareTask(made, now).differences).toEqual([
      `its result was ${hash('a')} and is ${hash('f')}`,
      `it did not write object ${hash('b')} again`,
      `what it wrote to topic things was 3 records of ${hash('c')} and is 2 records of ${hash('c')}`,
      expect.stringMatching(/^what it wrote to dataset mart.sales \(write 1\) was .*,1,.* and is .*,2,/),
      'it wrote documents it (null records of null), and did not then',
    ])
    expect(compareTask(made, { ...made, result: undefined, error: 'TIMEOUT: long' }).differences).toEqual([
      'it failed: TIMEOUT: long',
    ])
  })

  it('is the same only when all of it is: whatever one thing changes, it is told', () => {
    const digits = fc.constantFrom('0', '1', '2').map(hash)
    const notes = fc.uniqueArray(
      fc.record({
        kind: fc.constant('write' as const),
        what: fc.constantFrom('object', 'topic', 'documents'),
        name: fc.constantFrom('x', 'y'),
        version: fc.nat(3),
        hash: digits,
      }),
      {
        selector: ({ what, name, hash: of }) => (what === 'object' ? `object ${of}` : `${what} ${name}`),
        maxLength: 5,
      },
    )
    const versions = fc.array(
      fc.record({ dataset: fc.constantFrom('a', 'b'), hash: digits, rows: fc.nat(2), metadata: fc.constant(null) }),
      { maxLength: 3 },
    )
    const one = fc.record({ result: digits, notes, versions })
    const key = (given: Made) =>
      JSON.stringify([
        given.result,
        given.notes
          .map(({ what, name, version, hash: of }) => (what === 'object' ? of : [what, name, version, of]))
          .map(String)
          .sort(),
        given.versions,
      ])
    fc.assert(
      fc.property(one, one, (then, now) => {
        expect(compareTask(then, now).same).toBe(key(then) === key(now))
        expect(compareTask(then, then).same).toBe(true)
      }),
    )
  })
})
