import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { closed, listening } from '../../test/loopback.ts'
import { cliSays } from '../../test/test-cli.ts'
import { ownCommands } from '../app/build/manifest-of.ts'
import { openClient } from './client.ts'
import { ownCommandNames } from './commands/index.ts'

/** A server that speaks the documented HTTP surface, as far as these commands ask. */
const seen: { method: string; url: string; body: string; key: string | undefined }[] = []
const before = process.cwd()
let server: Server
let home: string
let port: string

beforeAll(async () => {
  // An empty project: nothing is built in the repository.
  home = await mkdtemp(join(tmpdir(), 'sluice-cli-'))
  process.chdir(home)
  server = createServer((request, response) => {
    void answer(request).then(([status, body]) => {
      const type = status < 400 ? 'application/json' : 'application/problem+json'
      response.writeHead(status, { 'content-type': type }).end(JSON.stringify(body))
    })
  })
  port = String(await listening(server))
})
afterAll(async () => {
  process.chdir(before)
  await closed(server)
  await rm(home, { recursive: true })
})

const run = {
  id: 'r1',
  workflow: 'catalog',
  version: 'v',
  plan: 'manual',
  createdAt: '2026-03-28T00:00:00.000Z',
  startedAt: '2026-03-28T00:00:00.000Z',
  finishedAt: '2026-03-28T00:00:01.250Z',
  params: {},
  error: null,
  progress: { done: 2, total: 2 },
  ...{ result: null, parent: null, retryOf: null, retries: [], wait: null, run: null, retryAt: null },
}
const params = { type: 'object', properties: { file: { type: 'string' }, limit: { type: 'integer' } } }
const notFound = (detail: string) => [404, { code: 'NOT_FOUND', detail, errors: [] }] as const

async function answer(request: IncomingMessage): Promise<readonly [number, unknown]> {
  const { method = '', url = '' } = request
  seen.push({ method, url, body: await text(request), key: request.headers['idempotency-key'] as string | undefined })
  const path = `${method} ${url.split('?')[0]}`
  if (path === 'GET /api/v1/workflows') return [200, { items: [{ name: 'catalog' }], nextCursor: null }]
  if (path === 'GET /api/v1/workflows/catalog') return [200, { name: 'catalog', params }]
  if (path === 'POST /api/v1/workflows/catalog/runs') return [201, { id: 'r1' }]
  if (path === 'POST /api/v1/workflows/broken/runs') return [201, { id: 'r2' }]
  if (path === 'GET /api/v1/runs') {
    const second = url.includes('cursor=c2')
    return [200, { items: [{ ...run, id: second ? 'r0' : 'r1', state: 'success' }], nextCursor: second ? null : 'c2' }]
  }
  if (path === 'GET /api/v1/runs/r1') return [200, { ...run, state: 'success' }]
  if (path === 'GET /api/v1/runs/r2') return [200, { ...run, id: 'r2', state: 'failed', error: 'failed: keep' }]
  if (path === 'GET /api/v1/runs/r2/tasks') {
    const failed = { ...run, name: 'keep', index: null, state: 'failed', attempt: 1 }
    const tasks = Array.from({ length: 7 }, (_, index) => ({
      ...failed,
      index,
      error: `ACTION_FAILED: no ${index}\nat`,
    }))
    return [200, { items: [{ ...failed, name: 'fine', state: 'success' }, ...tasks], nextCursor: null }]
  }
  if (path === 'GET /api/v1/runs/r1/tasks') {
    const task = { ...run, name: 'keep', state: 'success', attempt: 1 }
    const tasks = [
      { ...task, id: 't1', index: 3 },
      { ...task, id: 't2', index: 4 },
    ]
    return [200, { items: tasks, nextCursor: null }]
  }
  if (path === 'GET /api/v1/runs/r1/logs') {
    const more = !url.includes('after=p1')
    const line = { source: 't1', attempt: 1, time: 'T', level: 'info', message: more ? 'one' : 'two', lines: 3 }
    return [200, { items: [line], nextCursor: more ? 'p1' : null, position: more ? 'p1' : 'p2', ended: !more }]
  }
  const task = /^GET \/api\/v1\/tasks\/(t\d)\/logs$/.exec(path)?.[1]
  if (task) {
    const line = { source: task, attempt: 1, time: 'T', level: 'info', message: `of ${task}` }
    return [200, { items: [line], nextCursor: null, position: 'p1', ended: true }]
  }
  return notFound(`There is no ${url}`)
}

const sluice = (...argv: string[]) => cliSays(argv)

const here = () => ['--port', port, '--data', home]

describe('runCli', () => {
  it('knows all of its commands where definitions are checked', () => {
    expect([...ownCommandNames].sort()).toEqual([...ownCommands].sort())
  })

  it('helps: on request with exit code 0, else as wrong usage', async () => {
    const asked = await sluice('--help')
    expect(asked).toMatchObject({ code: 0, err: '' })
    for (const name of ownCommandNames) expect(asked.out).toContain(name)
    expect(await sluice()).toMatchObject({ code: 2, out: '', err: expect.stringContaining('Usage: sluice') })
    expect(await sluice('runs', '--help')).toMatchObject({ code: 0, out: expect.stringContaining('--state') })
    expect((await sluice('--version')).out).toBe((await sluice('version')).out)
  })

  it('says in one line what is wrong, and what was probably meant', async () => {
    expect(await sluice('vresion')).toEqual({
      code: 2,
      out: '',
      err: "sluice: unknown command 'vresion' (Did you mean version?)\n",
    })
    expect(await sluice('show')).toMatchObject({ code: 2, err: "sluice: missing required argument 'run'\n" })
    expect(await sluice('runs', '--port', 'x')).toMatchObject({ code: 2, err: expect.stringContaining('PORT: "x"') })
  })

  it('check fails where there is nothing to check', async () => {
    const { code, out, err } = await sluice('check', '--data', home)
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toContain('no file matches workflows/*.ts')
    await mkdir(join(home, 'workflow'))
    expect((await sluice('check', '--data', home)).err).toContain('mv workflow workflows')
    await rm(join(home, 'workflow'), { recursive: true })
  })

  it('an upload of what is no file is wrong usage', async () => {
    const { upload } = openClient(`http://127.0.0.1:${port}`)
    for (const path of [home, join(home, 'missing.txt')])
      await expect(upload('POST', '/api/v1/catalogs', path, 'text/plain')).rejects.toMatchObject({ code: 'USAGE' })
  })

  it('gives a problem document besides under --json', async () => {
    const { code, out, err } = await sluice('show', 'r9', '--json', ...here())
    expect({ code, out }).toEqual({ code: 2, out: '' })
    const [line, document] = err.trim().split('\n') as [string, string]
    expect(line).toBe('sluice: There is no /api/v1/runs/r9')
    expect(JSON.parse(document)).toMatchObject({
      code: 'NOT_FOUND',
      status: 404,
      detail: 'There is no /api/v1/runs/r9',
    })
  })

  it('ends with 3 when nothing answers, or what answers is no Sluice', async () => {
    const free = createServer((_, response) => response.end('hello'))
    const other = String(await listening(free))
    const options = ['--port', other, '--data', home]
    expect(await sluice('runs', ...options)).toMatchObject({ code: 3, err: expect.stringContaining('is not Sluice') })
    await closed(free)
    expect(await sluice('runs', ...options)).toMatchObject({ code: 3, err: expect.stringContaining('sluice dev') })
  })
})

describe('commands', () => {
  it('run reads parameters by their types', async () => {
    const done = await sluice('run', 'catalog', '-p', 'file=5', '-p', 'limit=7', '--key', 'k', ...here())
    expect(done).toEqual({ code: 0, out: 'r1\n', err: '' })
    expect(seen.at(-1)).toMatchObject({ method: 'POST', body: '{"params":{"file":"5","limit":7}}', key: 'k' })
    const options = ['run', 'catalog', ...here()]
    expect(await sluice(...options, '-p', 'limit=many')).toMatchObject({
      code: 2,
      err: 'sluice: The parameter limit is "many"; allowed is JSON of type integer\n',
    })
    expect(await sluice(...options, '-p', 'fiel=x')).toMatchObject({
      err: expect.stringContaining('did you mean file?'),
    })
    expect(await sluice(...options, '-p', 'file')).toMatchObject({
      err: expect.stringContaining('write -p name=value'),
    })
    expect(await sluice('run', 'catalgo', ...here())).toMatchObject({
      code: 2,
      err: 'sluice: There is no workflow catalgo; did you mean catalog?\n',
    })
  })

  it('run --wait gives the end of the run', async () => {
    expect(await sluice('run', 'catalog', '--wait', ...here())).toEqual({ code: 0, out: 'r1 success\n', err: '' })
    const told = [0, 1, 2, 3, 4].map((index) => `keep[${index}]: ACTION_FAILED: no ${index}`)
    const out = ['r2 failed: keep', ...told, 'and 2 more\n'].join('\n')
    expect(await sluice('run', 'broken', '--wait', ...here())).toEqual({ code: 1, out, err: '' })
    const shown = await sluice('show', 'r2', ...here())
    expect(shown.out).toMatch(/state {5}failed: keep\nerror {5}keep\[0\]: ACTION_FAILED: no 0\n/)
  })

  it('runs lists page after page, up to the limit', async () => {
    const all = await sluice('runs', '--json', ...here())
    expect(JSON.parse(all.out).items.map(({ id }: { id: string }) => id)).toEqual(['r1', 'r0'])
    expect((await sluice('runs', '--limit', '1', ...here())).out).toBe(
      [
        'RUN  WORKFLOW  STATE    PLAN    CREATED                   TOOK',
        'r1   catalog   success  manual  2026-03-28T00:00:00.000Z  1.3 s\n',
      ].join('\n'),
    )
    expect(await sluice('runs', '--limit', 'all', ...here())).toMatchObject({ code: 2 })
  })

  it('show and logs', async () => {
    const shown = await sluice('show', 'r1', ...here())
    expect(shown.out).toMatch(/state {5}success\n(.*\n)+keep\[3\] {2}success {8}1 {2}1\.3 s/)
    const logs = await sluice('logs', 'r1', ...here())
    expect(logs.out).toBe('T INFO  one {"lines":3}\nT INFO  two {"lines":3}\n')
    expect((await sluice('logs', 'r1', 'keep', ...here())).out).toBe('T INFO  of t1\nT INFO  of t2\n')
    expect((await sluice('logs', 'r1', 'keep[4]', ...here())).out).toBe('T INFO  of t2\n')
    expect(await sluice('logs', 'r1', 'keep[2]', ...here())).toMatchObject({
      code: 2,
      err: 'sluice: The run has no task keep[2]; did you mean keep[3]?\n',
    })
  })

  it('stop has nothing to do where nothing runs, and leaves programs that are not ours', async () => {
    expect(await sluice('stop', '--data', home)).toMatchObject({ code: 0 })
    const record = { url: `http://127.0.0.1:${port}`, pid: 1 }
    await writeFile(join(home, 'server.json'), JSON.stringify(record))
    expect(await sluice('stop', '--data', home)).toMatchObject({ code: 0 })
    await rm(join(home, 'server.json'))
  })
})
