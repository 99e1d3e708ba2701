/** `sluice dead-letters` against the API itself. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it, onTestFinished, vi } from 'vitest'
import { testApi } from '../../test/test-api.ts'
import { cliAt } from '../../test/test-cli.ts'
import { statement } from '../ports/database.ts'
import { ensureShards } from '../store/shards.ts'
import { ensureTopic } from '../store/topics.ts'

const putLetters = statement(
  'test.put-letters-of-cli',
  `
  insert into sluice.stream_waiting (stream, partition, "offset", record_id, key, value, state, attempts, reason, detail, since)
  select 'images', 0, n, 'r' || n, 'k' || n, json_build_object('id', 'r' || n, 'url', 'k' || n)::text, 'dead', 5,
    case n when 0 then 'timeout' else 'failed' end, 'no answer', '2026-03-28T00:00:00Z'
  from generate_series(0, 2) as n`,
)

async function filled() {
  const api = await testApi()
  await ensureTopic(api.db, 'urls', 2)
  await ensureShards(api.db, 'images', 'urls')
  await api.db.execute(putLetters)
  const { run, json, home } = await cliAt(api, 'dead-letters')
  const file = async (text: string) => {
    const path = join(home, 'value.json')
    await writeFile(path, text)
    return path
  }
  return { run, json, file }
}

it('lists, filters and shows', async () => {
  const { run, json } = await filled()
  expect((await run('images')).out.split('\n')[1]).toMatch(/^0:0 +k0 +5 +2026-03-28T00:00:00.000Z +timeout: no answer$/)
  expect((await json('images', '--reason', 'failed')).items.map(({ id }: { id: string }) => id)).toEqual(['r1', 'r2'])
  expect((await json('images', '--key', 'k2', '--since', '2026-03-28')).items).toHaveLength(1)
  expect((await json('images', '--since', '2026-03-29')).items).toEqual([])
  const shown = (await run('images', '--show', '0:1')).out
  expect(shown).toContain('reason    failed: no answer')
  expect(shown).toContain('value     {"id":"r1","url":"k1"}')
  expect(await json('images', '--show', '0:1')).toMatchObject({ id: 'r1', state: 'dead', behind: { dead: 0 } })
})

it('edits from a file or in an editor, and puts the letter back', async () => {
  const { run, json, file } = await filled()
  const path = await file('{"id":"r1","url":"new"}')
  const edited = await run('images', '--edit', '0:1', '--value', path, '--note', 'moved')
  expect(edited).toMatchObject({ code: 0, out: '0:1 edited; put it back with --replay 0:1\n' })
  expect((await run('images', '--edit', '0:1', '--value', path)).out).toBe('0:1 is as it was\n')
  vi.stubEnv('VISUAL', 'sed -i s/new/newer/')
  const before = process.stdin.isTTY
  process.stdin.isTTY = true
  onTestFinished(() => {
    process.stdin.isTTY = before
    vi.unstubAllEnvs()
  })
  expect((await run('images', '--edit', '0:1')).code).toBe(0)
  vi.stubEnv('VISUAL', 'false')
  expect(await run('images', '--edit', '0:1')).toMatchObject({
    code: 1,
    err: expect.stringContaining('nothing was changed'),
  })
  expect(await json('images', '--show', '0:1')).toMatchObject({
    ...{ edits: 2, key: 'newer', value: { url: 'newer' }, original: { url: 'k1' } },
    changes: [{ note: 'moved' }, { note: null }],
  })
  expect((await run('images', '--show', '0:1')).out).toContain('original  {"id":"r1","url":"k1"}')
  expect(await json('images', '0:1', '--replay')).toEqual({ replayed: 1, remaining: 0, notDead: [] })
  expect(await json('images', '--replay', '--reason', 'timeout')).toMatchObject({ replayed: 1 })
  expect((await run('images', '--replay')).out).toBe('1 replayed, 0 still dead\n')
})

it.each([
  [['images', '--show', '7'], 2, 'is no letter'],
  [['images', '--show', '0:9'], 2, 'has no dead letter 0:9'],
  [['images', '--since', 'yesterday'], 2, 'Allowed is a time'],
  [['images', '--edit', '0:1', '--show', '0:1'], 2, 'cannot be given together'],
  [['images', '--value', 'x'], 2, 'belong to --edit'],
  [['images', '0:1'], 2, 'are named with'],
  [['images', '0:1', '--replay', '--key', 'a'], 2, 'not both'],
  [['images', '0:9', '--replay'], 2, '0:9: no dead letter'],
  [['images', '--edit', '0:1', '--value', '/nowhere/value.json'], 2, 'cannot be read'],
  [['images', '--edit', '0:1'], 2, 'There is no terminal'],
  [['other'], 2, 'There is no stream "other"'],
])('says of %j: exit code %i, and why', async (argv, code, why) => {
  const { run, json } = await filled()
  expect(await run(...argv)).toMatchObject({ code, err: expect.stringContaining(why) })
  expect((await json('images')).items).toHaveLength(3)
})

it('refuses a value that is no JSON, or that is another record', async () => {
  const { run, file } = await filled()
  const edit = async (text: string) => run('images', '--edit', '0:1', '--value', await file(text))
  expect(await edit('{"id":')).toMatchObject({ code: 2, err: expect.stringContaining('is not JSON') })
  expect(await edit('{"id":"r2"}')).toMatchObject({ code: 2, err: expect.stringContaining('"r1" must stay') })
  expect(await edit('[]')).toMatchObject({ code: 2, err: expect.stringContaining('must stay') })
})
