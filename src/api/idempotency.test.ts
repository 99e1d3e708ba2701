/** The same `Idempotency-Key` with the same request is the same run; nothing is made twice, nothing half. */
import { readdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { until } from '../../test/engine-world.ts'
import { type ImagesApi, openImagesApi } from '../../test/images-api.ts'
import { statement } from '../ports/database.ts'

let api: ImagesApi
beforeAll(async () => {
  api = await openImagesApi()
})
afterAll(() => api?.close())

const count = statement<{ runs: number }>('test.count_runs', 'select count(*)::int as runs from sluice.runs')
const runs = async () => (await api.db.query(count))[0]!.runs

interface Ask {
  readonly path: string
  readonly type: string
  readonly body: string
}
const start: Ask = { path: '/api/v1/workflows/empty/runs', type: 'application/json', body: '{"params":{}}' }
const list: Ask = { path: '/api/v1/catalogs', type: 'application/json', body: '{"name":"a","urls":["http://a/1"]}' }
const file: Ask = { path: '/api/v1/catalogs?name=b', type: 'text/plain', body: 'http://a/1\n' }

async function post({ path, type, body }: Ask, key: string) {
  const headers = { 'content-type': type, 'idempotency-key': key }
  const answer = await fetch(api.url + path, { method: 'POST', headers, body })
  return { status: answer.status, location: answer.headers.get('location'), body: await answer.json() }
}

describe.each([
  ['a start', start, { ...start, path: '/api/v1/workflows/catalog/runs' }],
  ['a catalog of JSON', list, { ...list, body: '{"name":"a","urls":["http://a/2"]}' }],
  ['a catalog of JSON, refreshed', list, { ...list, body: '{"name":"a","urls":["http://a/1"],"refresh":true}' }],
  ['an upload', file, { ...file, body: 'http://a/2\n' }],
  ['an upload under another name', file, { ...file, path: '/api/v1/catalogs?name=c' }],
])('%s', (name, ask, other) => {
  it('that comes again is answered with the same run, and another one under its key is refused', async () => {
    const before = await runs()
    const key = `again:${name.replaceAll(' ', '-')}`
    const first = await post(ask, key)
    const second = await post(ask, key)
    expect(first.status).toBeLessThan(300)
    expect([second.body, second.location]).toEqual([first.body, first.location])
    expect(await post(other, key)).toMatchObject({ status: 422, body: { code: 'IDEMPOTENCY_KEY_REUSED' } })
    expect(await runs()).toBe(before + 1)
  })

  it('that comes many times at once starts one run', async () => {
    const before = await runs()
    const answers = await Promise.all(Array.from({ length: 12 }, () => post(ask, `twins:${name.replaceAll(' ', '-')}`)))
    expect(new Set(answers.map(({ body }) => JSON.stringify(body))).size).toBe(1)
    expect(answers.every(({ status }) => status < 300)).toBe(true)
    expect(await runs()).toBe(before + 1)
  })
})

it('an upload that breaks off leaves neither a run nor bytes', async () => {
  const before = await runs()
  const objects = async () =>
    (await readdir(api.objects, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
  const kept = (await objects()).sort()
  const socket = connect(api.port, '127.0.0.1')
  const head = `POST /api/v1/catalogs?name=cut HTTP/1.1\r\nHost: localhost:${api.port}\r\nContent-Type: text/plain\r\n`
  socket.write(`${head}Content-Length: 200000\r\n\r\n${'http://a/1\n'.repeat(10_000)}`)
  await until('bytes to come', async () => (await objects()).length > kept.length)
  socket.destroy()
  await until('them to go', async () => (await objects()).length === kept.length)
  expect((await objects()).sort()).toEqual(kept)
  expect(await runs()).toBe(before)
  expect(api.logged).toEqual([])
})
