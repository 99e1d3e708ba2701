// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of YAML are written so
import { expect, it } from 'vitest'
import { resolveTemplate } from '../../../core/template.ts'
import { reference, toTemplate } from '../../../sdk/reference.ts'
import { expressionsIn, into, readExpressions, withReferences } from './expression.ts'
import { Reader } from './reader.ts'

const reader = () => new Reader({ of: (pointer) => pointer })
const params = { day: 5, deep: [{ 'a b': [true] }], none: null, text: '${{ params.day }}' }

/** What an attempt would get. */
function given(value: unknown): unknown {
  const read = readExpressions(value, '', reader())
  const referenced = withReferences(read, ({ path }) => into(reference({ from: 'param', path: [] }), path.slice(1)))
  const template = JSON.parse(JSON.stringify(toTemplate(referenced, () => {})))
  return resolveTemplate(template, () => params)
}

it.each([
  ['${{ params.day }}', 5],
  ['${{params.day}}', 5],
  ['${{ params["day"] }}', 5],
  ['${{ params.deep[0]["a b"][0] }}', true],
  ["${{ params.deep[0]['a b'] }}", [true]],
  ['${{ params.none }}', null],
  ['${{ params }}', params],
  [' ${{ params.day }}', ' 5'],
  ['on ${{ params.day }}/${{ params.deep }}${{ params.none }}.', 'on 5/[{"a b":[true]}].'],
  ['${{ params.text }}', '${{ params.day }}'],
  ['>${{ params.text }}<', '>${{ params.day }}<'],
  ['$${{ params.day }}', '${{ params.day }}'],
  ['$5 $${{ x }} ${{ params.day }} $', '$5 ${{ x }} 5 $'],
  ['{{ params.day }}', '{{ params.day }}'],
  [
    { $ref: ['${{ params.day }}'], $literal: 1 },
    { $ref: [5], $literal: 1 },
  ],
])('%j becomes %j', (value, expected) => {
  expect(given(value)).toEqual(expected)
})

it.each([
  '${{ }}',
  '${{ params. }}',
  '${{ params..day }}',
  '${{ [0] }}',
  '${{ params[day] }}',
  '${{ params.day + 1 }}',
  '${{ params.day | upper }}',
  '${{ params.a() }}',
  '${{ params["a" }}',
  'x ${{ params.day',
])('%s is refused', (text) => {
  const at = reader()
  readExpressions({ a: [text] }, '/with', at)
  expect(at.faults).toEqual([{ where: '/with/a/0', message: expect.stringMatching(/is no reference|has no end/) }])
})

it('finds all expressions, with where they stand', () => {
  const read = readExpressions(
    { a: '${{ params.x }}', b: ['t ${{ tasks.l.result[2] }} ${{ item }}'] },
    '/with',
    reader(),
  )
  expect(expressionsIn(read).map(({ path, pointer }) => [pointer, ...path])).toEqual([
    ['/with/a', 'params', 'x'],
    ['/with/b/0', 'tasks', 'l', 'result', '2'],
    ['/with/b/0', 'item'],
  ])
})
