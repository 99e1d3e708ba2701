// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of YAML are written so
/** What is wrong with definitions in YAML, each told at its place. */
import { beforeAll, describe, expect, it } from 'vitest'
import type { Manifest } from '../../../core/manifest.ts'
import { again, asTold, manifestOf, one, sound, told, type Wrong } from './wrong-project.fixture.ts'

const wf = (rest: string, tasks = '  a: { action: tell }') => `workflow: wf-INDEX\n${rest}tasks:\n${tasks}\n`
const task = (text: string) => wf('', text)
const bomb = ['a: &a [x, x, x, x, x, x, x, x, x, x]']
for (const [from, to] of ['ab', 'bc', 'cd', 'de', 'ef', 'fg', 'gh', 'hi'].map((pair) => [...pair]))
  bomb.push(`${to}: &${to} [${Array.from({ length: 10 }, () => `*${from}`).join(', ')}]`)

const wrongYaml: readonly Wrong[] = [
  // the file
  one(
    'oversize',
    `# ${'x'.repeat(1024 * 1024)}\nworkflow: a\n`,
    '1:1',
    'it is too large: 1048591 bytes; at most 1048576 (1 MiB) are read',
  ),
  one(
    'no UTF-8',
    Buffer.concat([Buffer.from('workflow: a\nname: b'), Buffer.from([0xe9]), Buffer.from('\n')]),
    '2:8',
    'it is not UTF-8',
  ),
  one('empty', '', '1:1', 'it is empty'),
  one('only a comment', '# nothing\n', '1:1', 'it is empty'),
  one('several documents', 'workflow: a\n---\nworkflow: b\n', '2:1', 'a second document begins here; a file has one'),
  one('YAML 1.1', '%YAML 1.1\n---\nworkflow: a\n', '1:1', 'it asks for YAML 1.1; files are read as YAML 1.2'),
  // YAML
  one(
    'an anchor bomb',
    `${bomb.join('\n')}\nworkflow: a\n`,
    '4:36',
    'the aliases stand for more than 10000 values; write less by aliases',
  ),
  one(
    'an alias inside of what it names',
    task('  a: &a { action: tell, with: { x: *a } }'),
    '3:36',
    'the alias *a stands inside what it names',
  ),
  one(
    'an alias without an anchor',
    task('  a: { action: tell, with: *none }'),
    '3:28',
    'the alias *none has no anchor &none before it',
  ),
  one(
    'a tab',
    'workflow: a\ntasks:\n\ta: { action: tell }\n',
    '3:1',
    'a tab indents this line; YAML is indented by spaces',
  ),
  one(
    'a key twice',
    wf('', '  a: { action: tell }\n  b: { action: tell }\n  a: { action: load }'),
    '5:3',
    'the key a is there twice; first in line 3',
  ),
  one('a merge key', task('  a: { <<: { action: tell } }'), '3:8', /^merge keys \(<<\) are not of YAML 1.2/),
  one(
    'too deep',
    task(`  a: { action: tell, with: { x: ${'['.repeat(70)}${']'.repeat(70)} } }`),
    '3:94',
    'it is nested deeper than 64 levels',
  ),
  one('as deep as it gets', '['.repeat(100_000), '1:1', 'it is nested deeper than 64 levels'),
  one('a tag', task('  a: !!python/object { action: tell }'), '3:6', /python\/object/),
  one('a key that is no text', task('  1: { action: tell }'), '3:3', 'the key 1 is no text; write it in quotes'),
  one(
    'an expression in braces without quotes',
    task('  a: { action: tell, with: { x: ${{ params.x }} } }'),
    '3:35',
    /inside \[ \] and \{ \} an expression stands in quotes/,
  ),
  one(
    'no',
    task('  a: { action: tell, with: { fresh: no } }'),
    '3:37',
    'no without quotes is a text in YAML 1.2 and false in YAML 1.1; write false, or "no" for the text',
  ),
  one(
    'on, where a boolean is wanted',
    task('  a: { action: load, with: { day: x, fresh: on } }'),
    '3:45',
    /^on without quotes .* write true, or "on" for the text$/,
  ),
  one(
    'Yes, where a text is wanted',
    task('  a: { action: load, with: { day: Yes } }'),
    '3:35',
    /^Yes without quotes .* write true, or "Yes" for the text$/,
  ),
  one(
    '010',
    task('  a: { action: load, with: { day: x, limit: 010 } }'),
    '3:45',
    '010 reads as 10 here and otherwise elsewhere (octal); write 10, or "010" for the text',
  ),
  one(
    '0o17',
    task('  a: { action: load, with: { day: x, limit: 0o17 } }'),
    '3:45',
    '0o17 reads as 15 here and otherwise elsewhere (octal); write 15, or "0o17" for the text',
  ),
  one(
    'a number that is not kept',
    task('  a: { action: tell, with: { id: 12345678901234567890 } }'),
    '3:34',
    '12345678901234567890 is too large to be kept exactly; write it in quotes',
  ),
  one('no number', task('  a: { action: tell, with: { id: .nan } }'), '3:34', '.nan is no number that JSON can hold'),
  one(
    'a NUL character',
    task('  a: { action: tell, with: { id: "\\0" } }'),
    '3:34',
    'a text cannot have a NUL character',
  ),
  // the form
  one('a list', '- workflow: a\n', '1:1', 'a workflow is a list; a map is wanted (key: value)'),
  one('no name', 'tasks:\n  a: { action: tell }\n', '1:1', 'it has no name; write workflow: its-name'),
  one(
    'a wrong name',
    'workflow: My Flow\ntasks:\n  a: { action: tell }\n',
    '1:11',
    /^"My Flow" is not a name for a workflow/,
  ),
  one('an unknown key', wf('worker: 3\n'), '2:1', 'a workflow has no "worker"; did you mean workers?'),
  one(
    'an unknown key of a task',
    task('  a: { action: tell, aftr: b }'),
    '3:22',
    'task a has no "aftr"; did you mean after?',
  ),
  one('no tasks', 'workflow: a\n', '1:1', 'a workflow has tasks, or stages of tasks'),
  one('tasks and stages', wf('stages: [{ x: [{ action: tell }] }]\n'), '3:1', 'a workflow has either tasks or stages'),
  one('no kind', task('  a: { with: {} }'), '3:6', /^task a has none; one of action, run, wait, approve, branch/),
  one('two kinds', task('  a: { action: tell, wait: 2d }'), '3:6', /^task a has action and wait; one of/),
  one('workers out of range', wf('workers: 0\n'), '2:10', 'workers is 0; allowed are whole numbers from 1 to 10000'),
  one('workers as a text', wf('workers: "4"\n'), '2:10', /^workers is "4"; allowed are whole numbers/),
  // tasks
  one('an unknown action', task('  a: { action: laod }'), '3:16', 'there is no action "laod"; did you mean load?'),
  one(
    'an action far from any',
    task('  a: { action: materialize }'),
    '3:16',
    /^there is no action "materialize"; there are load, program, tell, twice$/,
  ),
  one(
    'an action that two files define',
    task('  a: { action: twice }'),
    '3:16',
    'there are two actions named twice, in workflows/again.ts and in workflows/sound.ts; rename one',
  ),
  one(
    'a circle',
    wf(
      '',
      '  a: { action: tell, after: [b] }\n  b: { action: tell, with: { x: "${{ tasks.c.result }}" } }\n  c: { action: tell, after: a }',
    ),
    '3:30',
    'tasks wait for one another in a circle: a -> b -> c -> a (-> is "waits for")',
  ),
  one('a task after itself', task('  a: { action: tell, after: a }'), '3:29', 'task a waits for itself'),
  one(
    'a task with its own result',
    task('  a: { action: tell, with: { x: "${{ tasks.a.result }}" } }'),
    '3:33',
    'task a waits for itself',
  ),
  one(
    'after a task that is none',
    wf('', '  load: { action: tell }\n  b: { action: tell, after: laod }'),
    '4:29',
    'task b names the task "laod"; did you mean load?',
  ),
  one(
    'two tasks of one id',
    'workflow: wf-INDEX\nstages:\n  - s: [{ action: tell, id: a }, { action: tell, id: a }]\n',
    '3:50',
    'there are two tasks with the id a',
  ),
  one(
    'two stages of one name',
    'workflow: wf-INDEX\nstages:\n  - s: [{ action: tell }]\n  - s: [{ action: tell }]\n',
    '4:5',
    'there are two stages named s',
  ),
  one(
    'a wait for a later stage',
    'workflow: wf-INDEX\nstages:\n  - s: [{ action: tell, id: a, after: b }]\n  - t: [{ action: tell, id: b }]\n',
    '3:39',
    'task a of stage s waits for b of stage t, which starts later',
  ),
  one(
    'a wrong rule',
    task('  a: { action: tell, rule: all_don }'),
    '3:28',
    /^rule of task a is "all_don"; allowed are all_success, .*; did you mean all_done\?$/,
  ),
  one(
    'no time',
    task('  a: { action: tell, timeout: 0s }'),
    '3:31',
    'timeout of task a is "0s", not a duration; write for example 250ms, 30s, 10m, 2h, 7d (more than zero)',
  ),
  one(
    'a time that is a number',
    task('  a: { action: tell, timeout: 30 }'),
    '3:31',
    /^timeout of task a is 30, not a duration/,
  ),
  one(
    'negative attempts',
    task('  a: { action: tell, retry: { attempts: -1 } }'),
    '3:41',
    'retry of task a.attempts is -1; allowed are whole numbers from 1 to 100',
  ),
  one(
    'a first wait above the longest',
    task('  a: { action: tell, retry: { base: 10m, max: 1m } }'),
    '3:29',
    /the first wait \(600000 ms\) is longer than the longest/,
  ),
  // arguments
  one(
    'a text for a number',
    task('  a: { action: load, with: { day: x, limit: "10" } }'),
    '3:45',
    'task a: argument limit: Invalid input: expected number, received string',
  ),
  one(
    'a number for a text',
    task('  a: { action: load, with: { day: 5 } }'),
    '3:35',
    'task a: argument day: Invalid input: expected string, received number',
  ),
  one(
    'a wrong item deep inside, beside a reference',
    task(
      '  l: { action: load, with: { day: x } }\n  a: { action: load, with: { day: "${{ tasks.l.result.list[0] }}", deep: { tags: [x, 1] } } }',
    ),
    '4:86',
    'task a: argument deep.tags.1: Invalid input: expected string, received number',
  ),
  one(
    'a missing argument',
    task('  a: { action: load, with: { limit: 1 } }'),
    '3:28',
    /^task a: argument day: Invalid input: expected string/,
  ),
  one(
    'an unknown argument',
    task('  a: { action: load, with: { day: x, limt: 1 } }'),
    '3:38',
    'task a: argument limt: there is no argument limt; did you mean limit?',
  ),
  // references
  one(
    'an unknown parameter',
    wf('params: { day: date }\n', '  a: { action: tell, with: { x: "${{ params.dya }}" } }'),
    '4:33',
    'there is no parameter "dya"; did you mean day?',
  ),
  one(
    'an unknown field of a result',
    task('  l: { action: load, with: { day: x } }\n  a: { action: tell, with: { x: "${{ tasks.l.result.row }}" } }'),
    '4:33',
    'the result of l has no field "row"; did you mean rows?',
  ),
  one(
    'no result',
    task('  l: { action: load, with: { day: x } }\n  a: { action: tell, with: { x: "${{ tasks.l.rows }}" } }'),
    '4:33',
    /^write \$\{\{ tasks.l.result \}\}/,
  ),
  one(
    'an item without a map',
    task('  a: { action: tell, with: { x: "${{ item.url }}" } }'),
    '3:33',
    'item is there only in the "with" and "key" of a task that has map, and inside an each',
  ),
  one(
    'an expression without an end',
    task('  a: { action: tell, with: { x: "in ${{ params.day" } }'),
    '3:33',
    '${{ params.day has no end: }} is missing',
  ),
  one(
    'an expression that computes',
    task('  a: { action: tell, with: { x: "${{ 1 + 2 }}" } }'),
    '3:33',
    /^\$\{\{ 1 \+ 2 \}\} is no reference/,
  ),
  one(
    'an unknown root',
    task('  a: { action: tell, with: { x: "${{ env.HOME }}" } }'),
    '3:33',
    'an expression begins with params, tasks or item, not "env"; there are params, tasks, item',
  ),
  // parameters
  one(
    'a parameter of an unknown type',
    wf('params: { day: { type: dat } }\n'),
    '2:24',
    /^the type of the parameter day is "dat"; allowed are .*; did you mean date\?$/,
  ),
  one(
    'a default that does not fit',
    wf('params: { day: { type: date, default: today } }\n'),
    '2:39',
    /^the default of the parameter day does not fit/,
  ),
  one(
    'a quoted no for a boolean',
    wf('params: { fresh: { type: boolean, default: "no" } }\n'),
    '2:44',
    /^the default of the parameter fresh does not fit: .*expected boolean/,
  ),
  one(
    'an unknown key of a parameter',
    wf('params: { day: { type: date, dfault: x } }\n'),
    '2:30',
    'the parameter day has no "dfault"; did you mean default?',
  ),
  // plans
  one(
    'a pattern that never fires',
    wf('plans: [{ cron: "0 0 30 2 *" }]\n'),
    '2:17',
    /no month of "2" has a day "30", so it would never fire/,
  ),
  one('a wrong pattern', wf('plans: [{ cron: "61 * * * *" }]\n'), '2:17', /"61" is not one of its values/),
  one(
    'an unknown zone',
    wf('plans: [{ cron: "0 1 * * *", timezone: Europe/Lisbonn }]\n'),
    '2:40',
    /Lisbonn.*Europe\/Lisbon/,
  ),
  one('a plan that is none', wf('plans: [{ crn: "0 1 * * *" }]\n'), '2:11', 'a plan has no "crn"; did you mean cron?'),
  one('no interval', wf('plans: [{ every: 0s }]\n'), '2:18', /"0s" is not a length of time/),
  one(
    'a field that no tick has',
    wf('params: { day: string }\nplans: [{ cron: "0 1 * * *", params: { day: "${{ tick.day }}" } }]\n'),
    '3:45',
    /^there is no tick.day; there are tick.time/,
  ),
  // other kinds
  one('a wait that is none', task('  a: { wait: soon }'), '3:14', /^wait of task a is "soon", not a duration/),
  one('a time that is none', task('  a: { wait: { until: tomorrow } }'), '3:23', /^wait.until of task a is no time/),
  one('an unknown workflow', task('  a: { run: sund }'), '3:13', 'there is no workflow "sund"; did you mean sound?'),
  one(
    'a branch without arms',
    task('  l: { action: tell }\n  a: { branch: "${{ tasks.l.result }}" }'),
    '4:6',
    /a map is wanted|has no arms/,
  ),
  one(
    'an arm with a task that is none',
    task('  l: { action: tell }\n  a: { branch: "${{ tasks.l.result }}", arms: { yes: [m] } }'),
    '4:55',
    /^arm yes names the task "m"/,
  ),
  // programs
  one(
    'a program without a command',
    task('  a: { action: program, with: { args: [x] } }'),
    '3:31',
    /^program a has no command/,
  ),
  one(
    'a command that is one text',
    task('  a: { action: program, with: { command: "echo hi" } }'),
    '3:42',
    'command of program a is "echo hi"; a list is wanted',
  ),
  one(
    'a reference in a command',
    wf('params: { x: string }\n', '  a: { action: program, with: { command: [sh, -c, "echo ${{ params.x }}"] } }'),
    '4:51',
    /^a reference cannot stand in command, cwd, secrets or exitCodes/,
  ),
  one(
    'a folder outside',
    task('  a: { action: program, with: { command: [ls], cwd: ../.. } }'),
    '3:31',
    /cwd is "..\/.."; it is a folder inside the project/,
  ),
  one(
    'an unknown key of a program',
    task('  a: { action: program, with: { comand: [ls] } }'),
    '3:33',
    'program a has no "comand"; did you mean command?',
  ),
]

/** Names that every object has. */
const inherited = `workflow: inherited
params: { constructor: { type: string, default: constructor } }
tasks:
  constructor: { action: tell, with: { constructor: constructor, __proto__: { a: valueOf }, x: "\${{ params.constructor }}" } }
  hasownproperty: { action: tell, with: { x: "\${{ tasks.constructor.result }}" } }
`

it('names that every JavaScript object has are names like others', async () => {
  const manifest = await manifestOf({ 'sound.ts': sound, 'inherited.yaml': inherited })
  expect(manifest.faults).toEqual([])
  const [node] = manifest.workflows.find(({ name }) => name === 'inherited')!.nodes
  expect(JSON.stringify(node?.args)).toContain('"constructor":"constructor","__proto__":{"a":"valueOf"}')
  expect(
    await manifestOf({
      'bad.yaml': 'workflow: w\n__proto__: 1\nparams: { __proto__: string }\ntasks: { a: { action: constructor } }\n',
    }),
  ).toMatchObject({
    faults: [
      { where: 'workflows/bad.yaml:2:1', message: expect.stringMatching(/^a workflow has no "__proto__"/) },
      {
        where: 'workflows/bad.yaml:3:11',
        message: expect.stringMatching(/^"__proto__" is not a name for a parameter/),
      },
      { where: 'workflows/bad.yaml:4:23', message: expect.stringMatching(/^there is no action "constructor"/) },
    ],
  })
})

describe('a wrong YAML file is told of at its place, and takes no other down', () => {
  let manifest: Manifest
  beforeAll(async () => {
    const files = wrongYaml.map(({ text }, index) => {
      const content = typeof text === 'string' ? text.replaceAll('INDEX', String(index)) : text
      return [`wrong-${index}.yaml`, content] as const
    })
    manifest = await manifestOf({ 'sound.ts': sound, 'again.ts': again, ...Object.fromEntries(files) })
  })

  it('the sound ones are all there', () => {
    expect(manifest.workflows.map(({ name }) => name)).toEqual(['sound'])
  })

  it.each(wrongYaml.map((wrong, index) => ({ ...wrong, index })))('$what', ({ index, faults }) => {
    const expected = asTold(faults)
    const found = told(manifest, `wrong-${index}.yaml`)
    expect(found.slice(0, expected.length)).toEqual(expected)
  })
})

it('a YAML workflow with the name of another is refused at its name', async () => {
  const manifest = await manifestOf({
    'sound.ts': sound,
    'twin.yaml': '# Twin.\nworkflow: sound\ntasks:\n  a: { action: tell }\n',
  })
  expect(manifest.faults).toEqual([
    {
      where: 'workflows/twin.yaml:2:11',
      message:
        'the workflow sound is defined in workflows/sound.ts and again in workflows/twin.yaml; give one another name',
    },
  ])
})

it('a plan without what its workflow needs is refused at the workflow', async () => {
  const text = 'workflow: daily\nparams: { day: date }\nplans: [{ cron: "0 1 * * *" }]\ntasks:\n  a: { action: tell }\n'
  const manifest = await manifestOf({ 'sound.ts': sound, 'daily.yaml': text })
  expect(manifest.faults).toEqual([
    {
      where: 'workflows/daily.yaml:1:11',
      message: expect.stringMatching(/^workflow daily: cron:0 1 \* \* \*@UTC starts it .*day/),
    },
  ])
})

it('of ten thousand faults fifty are told, and ten thousand tasks are no trouble', async () => {
  const many = (text: (n: number) => string) => Array.from({ length: 10_000 }, (_, n) => text(n)).join('\n')
  const manifest = await manifestOf({
    'sound.ts': sound,
    'bad.yaml': `workflow: bad\ntasks:\n${many((n) => `  t${n}: { action: nothing-like-it, after: nobody-${n} }`)}\n`,
    'large.yaml': `workflow: large\nstages:\n  - all:\n${many((n) => `      - { action: load, with: { day: d${n} } }`)}\n`,
  })
  expect(manifest.faults).toHaveLength(50)
  expect(manifest.faults[0]?.message).toMatch(/^task t0 names the task "nobody-0"/)
  expect(manifest.workflows.find(({ name }) => name === 'large')?.nodes.at(-1)?.id).toBe('load-10000')
})
