import { describe, expect, it } from 'vitest'
import { endRun, insertRun, insertTask, testApi } from '../../../test/test-api.ts'
import { taskIdOf } from '../../core/ids.ts'
import type { Database, Session } from '../../ports/database.ts'
import { appendLogs } from '../../store/logs.ts'

type App = Awaited<ReturnType<typeof testApi>>['app']

const lines = (...messages: string[]) =>
  messages.map((message) => `${JSON.stringify({ level: 'info', message })}\n`).join('')

function write(session: Session, source: string, seq: number, ...messages: string[]): Promise<void> {
  return appendLogs(session, [{ source, attempt: 1, seq, lines: lines(...messages) }])
}

async function startedTask(db: Database): Promise<{ runId: string; task: string }> {
  const runId = await insertRun(db)
  await insertTask(db, runId, [0, -1], 'running')
  return { runId, task: taskIdOf(runId, 0, -1) }
}

async function read(app: App, url: string) {
  const page = (await app.inject(url)).json()
  return { ...page, messages: page.items?.map((item: { message: string }) => item.message) }
}

describe('the log of a task', () => {
  it('is paged within and across chunks', async () => {
    const { app, db } = await testApi()
    const { task } = await startedTask(db)
    await write(db, task, 0, 'a', 'b', 'c')
    await write(db, task, 1, 'd')
    await appendLogs(db, [{ source: task, attempt: 2, seq: 0, lines: 'not json\n' }])
    const messages: string[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page = await read(app, `/api/v1/tasks/${task}/logs?limit=2${cursor && `&cursor=${cursor}`}`)
      expect(page.ended).toBe(false)
      messages.push(...page.messages)
      cursor = page.nextCursor
    }
    expect(messages).toEqual(['a', 'b', 'c', 'd', 'not json'])
  })

  it('is waited for where nothing is there yet', async () => {
    const { app, db } = await testApi()
    const { task } = await startedTask(db)
    await write(db, task, 0, 'a')
    const first = await read(app, `/api/v1/tasks/${task}/logs?wait=30s`)
    expect(first.messages).toEqual(['a'])
    const later = read(app, `/api/v1/tasks/${task}/logs?after=${first.position}&wait=30s`)
    await write(db, task, 1, 'b')
    expect((await later).messages).toEqual(['b'])
  })

  it('ends with its task, at once', async () => {
    const { app, db } = await testApi()
    const runId = await insertRun(db)
    await insertTask(db, runId, [0, -1], 'success')
    const page = await read(app, `/api/v1/tasks/${taskIdOf(runId, 0, -1)}/logs?wait=30s`)
    expect(page).toMatchObject({ items: [], ended: true, nextCursor: null })
  })

  it('has a limit of bytes besides that of lines', async () => {
    const { app, db } = await testApi()
    const { task } = await startedTask(db)
    for (let seq = 0; seq < 3; seq += 1) await write(db, task, seq, 'x'.repeat(3_000_000))
    const first = await read(app, `/api/v1/tasks/${task}/logs`)
    expect([first.items.length, first.nextCursor !== null]).toEqual([2, true])
    const second = await read(app, `/api/v1/tasks/${task}/logs?cursor=${first.nextCursor}`)
    expect([second.items.length, second.nextCursor]).toEqual([1, null])
  })

  it('lets only so many wait', async () => {
    const { app, db } = await testApi({ limits: { waits: 0 } })
    const { task } = await startedTask(db)
    const answer = await app.inject(`/api/v1/tasks/${task}/logs?wait=1s`)
    expect([answer.statusCode, answer.headers['retry-after']]).toEqual([503, '5'])
  })
})

describe('the log of a run', () => {
  it('unites its tasks in the order of time', async () => {
    const { app, db } = await testApi()
    const { runId, task } = await startedTask(db)
    const other = taskIdOf(runId, 2, -1)
    await write(db, other, 0, 'first')
    await write(db, task, 0, 'second')
    await write(db, taskIdOf(await insertRun(db), 0, -1), 0, 'of another run')
    await write(db, other, 1, 'third')
    expect((await read(app, `/api/v1/runs/${runId}/logs`)).messages).toEqual(['first', 'second', 'third'])
    const first = await read(app, `/api/v1/runs/${runId}/logs?limit=1`)
    expect((await read(app, `/api/v1/runs/${runId}/logs?cursor=${first.nextCursor}`)).messages).toEqual([
      'second',
      'third',
    ])
  })

  it('misses nothing that is committed late', async () => {
    const { app, db } = await testApi()
    const { runId, task } = await startedTask(db)
    const other = taskIdOf(runId, 2, -1)
    let before: { messages: string[]; position: string } | undefined
    await db.transaction(async (session) => {
      await write(session, task, 0, 'early')
      await write(db, other, 0, 'late')
      before = await read(app, `/api/v1/runs/${runId}/logs`)
    })
    expect(before?.messages).toEqual([])
    expect((await read(app, `/api/v1/runs/${runId}/logs?after=${before?.position}`)).messages).toEqual([
      'early',
      'late',
    ])
  })

  it('is whole once the run has ended, whatever else is being written', async () => {
    const { app, db } = await testApi()
    const { runId, task } = await startedTask(db)
    await db.transaction(async (session) => {
      await insertRun(session)
      await write(db, task, 0, 'last')
      await endRun(db, runId, 'success')
      expect(await read(app, `/api/v1/runs/${runId}/logs`)).toMatchObject({ messages: ['last'], ended: true })
    })
  })

  it('is sent as events until the run has ended', async () => {
    const { db, listen } = await testApi()
    const { runId, task } = await startedTask(db)
    await write(db, task, 0, 'a')
    const url = `${await listen(0)}/api/v1/runs/${runId}/logs`
    const accept = { accept: 'text/event-stream' }
    const answer = await fetch(url, { headers: accept })
    expect(answer.headers.get('content-type')).toContain('text/event-stream')
    const seen: string[] = []
    let id = ''
    for await (const event of eventsOf(answer)) {
      id = event.id ?? id
      seen.push(`${event.event}: ${event.data}`.replace(/.*"message":"(\w+)".*/, '$1'))
      if (seen.length === 1) await write(db, task, 1, 'b')
      if (seen.length === 2) {
        await write(db, task, 2, 'c')
        await endRun(db, runId, 'success')
      }
    }
    expect(seen).toEqual(['a', 'b', 'c', 'end: {}'])
    const again = await fetch(url, { headers: { ...accept, 'last-event-id': id } })
    expect((await Array.fromAsync(eventsOf(again))).map(({ event }) => event)).toEqual(['end'])
  })

  it('frees the place of who only asks for the head', async () => {
    const { db, listen } = await testApi({ limits: { waits: 1 } })
    const { runId } = await startedTask(db)
    const url = `${await listen(0)}/api/v1/runs/${runId}/logs`
    for (let n = 0; n < 3; n += 1) {
      const answer = await fetch(url, { method: 'HEAD', headers: { accept: 'text/event-stream' } })
      expect(answer.status).toBe(200)
    }
  })

  it('lets followers go when the server closes', async () => {
    const { db, listen, close } = await testApi()
    const { runId } = await startedTask(db)
    const answer = await fetch(`${await listen(0)}/api/v1/runs/${runId}/logs`, {
      headers: { accept: 'text/event-stream' },
    })
    const events = Array.fromAsync(eventsOf(answer))
    await close()
    expect(await events).toEqual([])
  })
})

async function* eventsOf(answer: Response): AsyncGenerator<Record<string, string>> {
  let text = ''
  for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const fields = text
        .slice(0, end)
        .split('\n')
        .map((line) => line.split(/: (.*)/s).slice(0, 2))
      text = text.slice(end + 2)
      const event = Object.fromEntries(fields)
      if (event.event) yield event
    }
  }
}
