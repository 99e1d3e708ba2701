/** What is wrong with definitions in TypeScript, each told at its place; those of `faults.test.ts` that can be written there. */
import { beforeAll, describe, expect, it } from 'vitest'
import type { Manifest } from '../../../core/manifest.ts'
import { manifestOf, one, sound, told, type Wrong } from './wrong-project.fixture.ts'

/** `at` is that of the workflow, or of the call where only the call is wrong. */
const wrongTypeScript: readonly Wrong[] = [
  one(
    'two workflows of one name',
    "export default workflow('sound', { define: () => { tell() } })\n",
    '3:16',
    /^the workflow sound is defined in workflows\/sound.ts and again in workflows\/wrong-0.ts/,
  ),
  one(
    'two tasks of one id',
    "export default workflow('two', { define: () => { tell({}, { id: 'a' }); tell({}, { id: 'a' }) } })\n",
    '3:73',
    'workflow two: there are two tasks with the id a',
  ),
  one(
    'an unknown action',
    "export default workflow('three', { define: () => { laod({ day: '' }) } })\n",
    '3:52',
    'workflow three: laod is not defined',
  ),
  one(
    'a number for a text',
    "export default workflow('four', { define: () => { load({ day: 5 as never }) } })\n",
    '3:16',
    'workflow four: task load: argument day: Invalid input: expected string, received number',
  ),
  one(
    'a wrong item deep inside, beside a reference',
    "export default workflow('five', { define: () => { const l = load({ day: '' }); load({ day: l.list[0]!, deep: { tags: ['x', 1 as never] } }) } })\n",
    '3:16',
    'workflow five: task load-2: argument deep.tags.1: Invalid input: expected string, received number',
  ),
  one(
    'an unknown argument',
    "export default workflow('six', { define: () => { load({ day: '', limt: 1 } as never) } })\n",
    '3:16',
    'workflow six: task load: argument limt: there is no argument limt; did you mean limit?',
  ),
  one(
    'a pattern that never fires',
    "export default workflow('seven', { plans: [cron('0 0 30 2 *')], define: () => { tell() } })\n",
    '3:16',
    /^workflow seven: .*no month of "2" has a day "30", so it would never fire/,
  ),
  one(
    'an unknown zone',
    "export default workflow('eight', { plans: [cron('0 1 * * *', { timezone: 'Europe/Lisbonn' })], define: () => { tell() } })\n",
    '3:16',
    /^workflow eight: .*Lisbonn.*Europe\/Lisbon/,
  ),
  one(
    'no time',
    "export default workflow('nine', {\n  define: () => {\n    tell({}, { timeout: '0s' })\n  } })\n",
    '5:5',
    /^workflow nine: "0s" is not a duration/,
  ),
  one(
    'negative attempts',
    "export default workflow('ten', { define: () => { tell({}, { retry: { attempts: -1 } }) } })\n",
    '3:16',
    'workflow ten: retry.attempts of task tell is -1; allowed are whole numbers from 1 to 100',
  ),
  one(
    'a first wait above the longest',
    "export default workflow('eleven', { define: () => { tell({}, { retry: { base: '10m', max: '1m' } }) } })\n",
    '3:16',
    /^workflow eleven: .*the first wait \(600000 ms\) is longer than the longest/,
  ),
  one(
    'a program with a text for a command',
    "export default program('twelve', { command: 'ls -l' as never })\n",
    '3:16',
    /^program twelve: command is a list of texts/,
  ),
  one(
    'a program with a folder outside',
    "export default program('thirteen', { command: ['ls'], cwd: '/etc' })\n",
    '3:16',
    /^program thirteen: cwd is "\/etc"; it is a folder inside the project/,
  ),
  one(
    'a program with a variable of ours',
    "export default program('fourteen', { command: ['ls'], env: { SLUICE_RUN_ID: 'x' } })\n",
    '3:16',
    /Sluice's own/,
  ),
]

describe('the same in TypeScript', () => {
  const head = "import { cron, program, workflow } from 'sluice'\nimport { load, tell } from './sound.ts'\n"
  let manifest: Manifest
  beforeAll(async () => {
    const files = wrongTypeScript.map(({ text }, index) => [`wrong-${index}.ts`, `${head}${text}`] as const)
    manifest = await manifestOf({ 'sound.ts': sound, ...Object.fromEntries(files) })
  })

  it.each(wrongTypeScript.map((wrong, index) => ({ ...wrong, index })))('$what', ({ index, faults }) => {
    const expected = faults.map(([at, message]) => [
      at,
      typeof message === 'string' ? message : expect.stringMatching(message),
    ])
    expect(told(manifest, `wrong-${index}.ts`)).toEqual(expected)
  })
})
