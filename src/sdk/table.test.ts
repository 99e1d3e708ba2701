import { describe, expect, it } from 'vitest'
import { z } from './schema.ts'
import { stream } from './stream.ts'
import { table } from './table.ts'
import { topic } from './topic.ts'

const schema = z.object({ site: z.string(), at: z.string(), ms: z.number().default(0) })

describe('a table', () => {
  it('says what it is', () => {
    expect(table('app.results', { schema })).toMatchObject({
      kind: 'table',
      name: 'app.results',
      key: [],
      onConflict: 'ignore',
      recordId: undefined,
    })
    const keyed = table('app.results', { schema, key: ['site', 'at'], onConflict: 'update', recordId: 'record_id' })
    expect(keyed).toMatchObject({ key: ['site', 'at'], onConflict: 'update', recordId: 'record_id' })
    expect(table('app.results', { schema, key: 'site' }).key).toEqual(['site'])
  })

  it.each([
    ['results', {}, /"results" is not the name of a table; write schema.table/],
    ['app.results; drop table x', {}, /is not the name of a table/],
    ['App.results', {}, /is not the name of a table/],
    ['sluice.runs', {}, /in the schema sluice, which is not an app's/],
    ['pg_catalog.pg_class', {}, /in the schema pg_catalog/],
    ['app.results', { schema: z.string() }, /must be a z.object/],
    ['app.results', { schema: z.object({ 'a"b': z.string() }) }, /"a\\"b" cannot be a column/],
    [
      'app.results',
      { key: 'nowhere' },
      /the key of table app.results names nowhere, which is no field of its schema: site, at, ms/,
    ],
    ['app.results', { key: ['site', 'site'] }, /names a column twice/],
    ['app.results', { onConflict: 'replace', key: 'site' }, /allowed are ignore, update/],
    ['app.results', { onConflict: 'update' }, /needs a key/],
    ['app.results', { recordId: 'site' }, /is a field of its schema too/],
    ['app.results', { recordId: 'a-b' }, /cannot be a column/],
  ])('%s with %j is refused', (name, options, message) => {
    expect(() => table(name, { schema, ...options } as never)).toThrow(message)
  })

  it('types the rows of its stream, as a topic does', () => {
    const from = topic('lines', { schema: z.object({ n: z.number() }) })
    const results = table('app.results', { schema, key: 'site' })
    const good = stream('good', {
      from,
      id: (line) => line.n,
      steps: (all) => all.step(() => ({ site: 'a', at: 'b' })),
      to: results,
    })
    expect(good.steps).toHaveLength(1)
    // @ts-expect-error a column is missing
    stream('missing', { from, id: (line) => line.n, steps: (all) => all.step(() => ({ site: 'a' })), to: results })
    // @ts-expect-error a column is of another type
    stream('other', { from, id: (line) => line.n, steps: (all) => all.step(() => ({ site: 'a', at: 5 })), to: results })
    // @ts-expect-error a record of the topic has a number
    stream('topic', { from, id: (line) => line.n, steps: (all) => all.step(() => ({ n: 'a' })), to: from })
  })
})
