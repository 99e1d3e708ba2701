// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of YAML are written so
/** What is wrong with limits, groups, bodies per item, set-ups and teardowns in YAML, each told at its place. */
import { beforeAll, describe, expect, it } from 'vitest'
import type { Manifest } from '../../../core/manifest.ts'
import { asTold, calledActions, manifestOf, one, told, type Wrong } from './wrong-project.fixture.ts'

const wf = (rest: string, tasks: string) => `workflow: wf-INDEX\n${rest}tasks:\n${tasks}\n`
const task = (text: string) => wf('', text)
const pools = 'pools: { etl: 3 }\n'

const wrong: readonly Wrong[] = [
  // limits
  one(
    'a pool that is not declared',
    task('  a: { action: tell, pool: etl }'),
    '3:28',
    'the file declares no pools; write pools: { etl: 3 } at its top',
  ),
  one(
    'a pool that was meant',
    wf(pools, '  a: { action: tell, pool: elt }'),
    '4:28',
    'the file declares no pool "elt"; did you mean etl?',
  ),
  one(
    'a rate that is not declared',
    task('  a: { action: tell, rate: api }'),
    '3:28',
    'the file declares no rates; write rates: { api: { limit: 10, per: 1s } } at its top',
  ),
  one(
    'slots beyond those of the pool',
    wf(pools, '  a: { action: tell, pool: etl, slots: 4 }'),
    '4:40',
    'slots of task a is 4; allowed are whole numbers from 1 to 3',
  ),
  one('slots of no pool', task('  a: { action: tell, slots: 1 }'), '3:22', 'slots of task a need a pool'),
  one('a limit of no key', task('  a: { action: tell, keyLimit: 1 }'), '3:22', 'keyLimit of task a needs a key'),
  one(
    'a limit of keys that is 0',
    task('  a: { action: tell, key: [x, 1], keyLimit: 0 }'),
    '3:45',
    'keyLimit of task a is 0; allowed are whole numbers from 1 to 10000',
  ),
  one(
    'a key about nothing',
    task('  a: { action: tell, key: [customer] }'),
    '3:27',
    'key of task a is a name and what it is about: [customer, "${{ params.id }}"]',
  ),
  one(
    'a key that is a text',
    task('  a: { action: tell, key: customer }'),
    '3:27',
    /^key of task a is "customer"; a list/,
  ),
  one(
    'a key with a name that is a reference',
    wf('params: { id: string }\n', '  a: { action: tell, key: ["${{ params.id }}", 1] }'),
    '4:28',
    /is not a name for a key/,
  ),
  one(
    'a key about a list',
    task('  a: { action: tell, key: [customer, [1]] }'),
    '3:38',
    'a part of the key of task a is a text, a number, true, false or a reference',
  ),
  one(
    'a key about a parameter that is none',
    wf('params: { id: string }\n', '  a: { action: tell, key: [customer, "${{ params.di }}"] }'),
    '4:38',
    'there is no parameter "di"; did you mean id?',
  ),
  one(
    'a key about a task that is none',
    task('  load: { action: tell }\n  a: { action: tell, key: [customer, "${{ tasks.laod.result }}"] }'),
    '4:38',
    'task a names the task "laod"; did you mean load?',
  ),
  one(
    'a key about a field that no result has',
    task('  l: { action: load, with: { day: x } }\n  a: { action: tell, key: [rows, "${{ tasks.l.result.row }}"] }'),
    '4:34',
    'the result of l has no field "row"; did you mean rows?',
  ),
  one(
    'a key about an item without a map',
    task('  a: { action: tell, key: [host, "${{ item.host }}"] }'),
    '3:34',
    /^item is there only in the "with" and "key"/,
  ),
  one(
    'a circle by a key',
    task('  a: { action: tell, key: [x, "${{ tasks.b.result }}"] }\n  b: { action: tell, after: a }'),
    '3:31',
    'tasks wait for one another in a circle: a -> b -> a (-> is "waits for")',
  ),
  one('limits of what needs no runner', wf(pools, '  a: { wait: 1s, pool: etl }'), '4:18', /^task a has no "pool"/),
  one(
    'a pool with too many slots',
    wf('pools: { etl: 1000001 }\n', '  a: { action: tell }'),
    '2:15',
    'the slots of pool etl is 1000001; allowed are whole numbers from 0 to 1000000',
  ),
  one(
    'a pool with a wrong name',
    wf('pools: { ETL: 1 }\n', '  a: { action: tell }'),
    '2:15',
    /is not a name for a pool/,
  ),
  one(
    'a rate without a time',
    wf('rates: { api: { limit: 1 } }\n', '  a: { action: tell }'),
    '2:15',
    /^per of rate api is .* not a duration/,
  ),
  one(
    'a rate of zero',
    wf('rates: { api: { limit: 0, per: 1s } }\n', '  a: { action: tell }'),
    '2:24',
    'limit of rate api is 0; allowed are whole numbers from 1 to 1000000',
  ),
  // groups
  one('a group without tasks', task('  g: { group: {} }'), '3:15', 'group g has no tasks'),
  one(
    'a group in a list without an id',
    'workflow: wf-INDEX\nstages:\n  - s: [{ group: { a: { action: tell } } }]\n',
    '3:9',
    /^a group in a list has an id/,
  ),
  one(
    'a rule of a group',
    task('  g: { group: { a: { action: tell } }, rule: all_done }'),
    '3:40',
    /^task g has no "rule"/,
  ),
  one(
    'a task and a group of one id',
    'workflow: wf-INDEX\nstages:\n  - s: [{ id: a, group: { b: { action: tell } } }, { id: a, action: tell }]\n',
    '3:54',
    'there are two tasks with the id a',
  ),
  one(
    'a task of a group by half of its id',
    task('  g: { group: { load: { action: tell } } }\n  a: { action: tell, after: load }'),
    '4:29',
    /^task a names the task "load"; (did you mean g\.load\?|there are g\.load, g)$/,
  ),
  one(
    'a wait for the group around',
    task('  g: { group: { a: { action: tell, after: g } } }'),
    '3:43',
    'task g.a waits for group g, in which it stands',
  ),
  one(
    'a circle of groups',
    task('  g: { group: { a: { action: tell } }, after: h }\n  h: { group: { b: { action: tell } }, after: g }'),
    '3:47',
    /^tasks wait for one another in a circle: g\.a -> h\.b -> g\.a/,
  ),
  one(
    'what a group waits for, told once',
    task('  g: { group: { a: { action: tell }, b: { action: tell } }, after: nobody }'),
    '3:68',
    /^task g\.a names the task "nobody"/,
  ),
  one(
    'the result of a group',
    task('  g: { group: { a: { action: tell } } }\n  b: { action: tell, with: { x: "${{ tasks.g.result }}" } }'),
    '4:33',
    /^task b names the task "g"/,
  ),
  // each
  one(
    'an each without tasks',
    task('  e: { each: [1] }'),
    '3:6',
    'task e has no tasks; write tasks: what runs for each item',
  ),
  one(
    'an each of no list',
    task('  e: { each: 5, tasks: { a: { action: tell } } }'),
    '3:14',
    /^each of task e is a list, or a reference/,
  ),
  one(
    'another name of the item that is taken',
    task('  e: { each: [1], as: tasks, tasks: { a: { action: tell } } }'),
    '3:23',
    /^as of task e is "tasks"; it is a name of letters/,
  ),
  one(
    'a name that no item has',
    task('  e: { each: [1], as: order, tasks: { a: { action: tell, with: { x: "${{ ordr.id }}" } } } }'),
    '3:69',
    'an expression begins with params, tasks, item or order, not "ordr"; did you mean order?',
  ),
  one(
    'an after that leads out of a body',
    task('  b: { action: tell }\n  e: { each: [1], tasks: { a: { action: tell, after: b } } }'),
    '4:54',
    'task a is to wait for b, which stands outside of the each around it; say so at the each',
  ),
  one(
    'a task of a body, from outside',
    task(
      '  e: { each: [1], tasks: { a: { action: tell } } }\n  b: { action: tell, with: { x: "${{ tasks.a.result }}" } }',
    ),
    '4:33',
    /^task b names the task "a"/,
  ),
  one(
    'an unknown task in the result of a body',
    task('  e: { each: [1], tasks: { abc: { action: tell } }, result: "${{ tasks.abd.result }}" }'),
    '3:61',
    'the result of task e names the task "abd"; did you mean abc?',
  ),
  one(
    'a circle through a body',
    task(
      '  e: { each: [1], tasks: { a: { action: tell, with: { x: "${{ tasks.b.result }}" } } } }\n  b: { action: tell, after: e }',
    ),
    '3:58',
    /^tasks wait for one another in a circle: e -> b -> e/,
  ),
  one(
    'a circle in a body',
    task('  e: { each: [1], tasks: { a: { action: tell, after: b }, b: { action: tell, after: a } } }'),
    '3:54',
    /^tasks wait for one another in a circle: a -> b -> a/,
  ),
  one(
    'an argument in a body that does not fit',
    task('  e: { each: [1], tasks: { l: { action: load, with: { day: 5 } } } }'),
    '3:60',
    'task l: argument day: Invalid input: expected string, received number',
  ),
  one(
    'a field that no result around a body has',
    task(
      '  l: { action: load, with: { day: x } }\n  e: { each: [1], tasks: { a: { action: tell, with: { x: "${{ tasks.l.result.row }}" } } } }',
    ),
    '4:58',
    'the result of l has no field "row"; did you mean rows?',
  ),
  one(
    'an unknown action in a body',
    task('  e: { each: [1], tasks: { l: { action: laod } } }'),
    '3:41',
    /did you mean load\?$/,
  ),
  one(
    'bodies too deep',
    task(
      `  ${Array.from({ length: 9 }, (_, n) => `e${n}: { each: [1], tasks: { `).join('')}a: { action: tell }${' } }'.repeat(9)}`,
    ),
    '3:215',
    /is nested deeper than 8 levels/,
  ),
  // set-ups
  one(
    'a set-up that nothing tears down',
    task('  s: { action: open }\n  a: { action: tell, using: s }'),
    '4:29',
    'task a uses s, which no task tears down; write teardownOf: s at one, or after instead of using',
  ),
  one(
    'a teardown of what nobody uses',
    task('  s: { action: open }\n  t: { action: tell, teardownOf: s }'),
    '4:34',
    'no task uses s; write using: s at those that need it',
  ),
  one(
    'two teardowns of one set-up',
    task(
      '  s: { action: open }\n  a: { action: tell, using: s }\n  t: { action: tell, teardownOf: s }\n  u: { action: tell, teardownOf: s }',
    ),
    '6:34',
    'task s has a teardown already: t',
  ),
  one(
    'a teardown with a rule',
    task('  s: { action: open }\n  a: { action: tell, using: s }\n  t: { action: tell, teardownOf: s, rule: always }'),
    '5:37',
    'task t is a teardown, which runs however the work ended; it takes no rule',
  ),
  {
    what: 'a set-up that is none',
    text: task('  open: { action: open }\n  a: { action: tell, using: opn }\n  t: { action: tell, teardownOf: open }'),
    faults: [
      ['4:29', 'task a names the task "opn"; did you mean open?'],
      ['5:34', 'no task uses open; write using: open at those that need it'],
    ],
  },
  one(
    'work that waits for its teardown',
    task('  s: { action: open }\n  a: { action: tell, using: s, after: t }\n  t: { action: tell, teardownOf: s }'),
    '4:39',
    /^tasks wait for one another in a circle: a -> t -> a/,
  ),
  one(
    'a stage with a teardown alone',
    'workflow: wf-INDEX\nstages:\n  - s: { up: { action: open }, a: { action: tell, using: up } }\n  - t: { down: { action: tell, teardownOf: up } }\n',
    '4:16',
    'stage t has teardowns alone, for which no stage waits; put them into the stage of their set-up',
  ),
  one(
    'a wait for a group with a teardown alone',
    task(
      '  up: { action: open }\n  a: { action: tell, using: up }\n  g: { group: { down: { action: tell, teardownOf: up } } }\n  b: { action: tell, after: g }',
    ),
    '6:29',
    'group g has teardowns alone, for which nobody waits; name the task itself',
  ),
  one(
    'a teardown that is no action',
    task('  s: { action: open }\n  t: { wait: 1s, teardownOf: s }'),
    '4:18',
    /^task t has no "teardownOf"/,
  ),
]

describe('a wrong YAML file is told of at its place', () => {
  let manifest: Manifest
  beforeAll(async () => {
    const files = wrong.map(({ text }, index) => [`wrong-${index}.yaml`, String(text).replaceAll('INDEX', `${index}`)])
    manifest = await manifestOf({ 'actions.ts': calledActions, ...Object.fromEntries(files) })
  })

  it.each(wrong.map((one, index) => ({ ...one, index })))('$what', ({ index, faults }) => {
    expect(told(manifest, `wrong-${index}.yaml`)).toEqual(asTold(faults))
  })
})
