import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { startsWith } from './catalog-lines.ts'
import { type CatalogState, planReading, stateAfter } from './catalog-state.ts'
import { type LineRecord, Reading } from './reading.ts'
import { recordId } from './record-id.ts'

async function* once(text: string) {
  yield Buffer.from(text)
}

/** A catalog as runs see it: each `arrive` is a run. */
function world() {
  let state: CatalogState | undefined
  const topic = new Map<string, LineRecord>()
  return {
    topic,
    get state() {
      return state as CatalogState
    },
    async arrive(text: string, { rested = true, refresh = false } = {}) {
      const sha256 = createHash('sha256').update(text).digest('hex')
      const plan = await planReading(state, { sha256, rested, refresh }, (prefix) => startsWith(once(text), prefix))
      if (plan.unchanged) return { unchanged: true }
      const bytes = Buffer.byteLength(text)
      const reading = new Reading({ name: 'c', plan, rested, refresh, bytes, progress: () => {} })
      const received: string[] = []
      for await (const record of reading.records(once(text))) {
        if (!topic.has(recordId(record))) received.push(`${record.line} ${record.url}`)
        topic.set(recordId(record), record)
      }
      state = stateAfter(state, { ...reading.found(), name: 'c', version: sha256, bytes }, '2026-01-01T00:00:00Z')
      return { received }
    },
  }
}

const known = ({ lines, blank, malformed, generation, unfinished }: CatalogState) => ({
  lines,
  blank,
  malformed,
  generation,
  unfinished,
})

describe('a catalog that arrives again', () => {
  it('unchanged gives nothing', async () => {
    const catalog = world()
    expect(await catalog.arrive('http://a/1\n\nbad line\nhttp://a/2')).toEqual({
      received: ['1 http://a/1', '3 bad line', '4 http://a/2'],
    })
    expect(known(catalog.state)).toEqual({ lines: 4, blank: 1, malformed: 1, generation: 1, unfinished: false })
    expect(await catalog.arrive('http://a/1\n\nbad line\nhttp://a/2')).toEqual({ unchanged: true })
  })

  it('with lines appended gives those, also behind a last line that had no LF', async () => {
    const catalog = world()
    await catalog.arrive('http://a/1\nhttp://a/2')
    expect(await catalog.arrive('http://a/1\nhttp://a/2\nhttp://a/3\nno url')).toEqual({
      received: ['3 http://a/3', '4 no url'],
    })
    expect(known(catalog.state)).toEqual({ lines: 4, blank: 0, malformed: 1, generation: 1, unfinished: false })
    expect(await catalog.arrive('http://a/1\nhttp://a/2\nhttp://a/3\nno url\n')).toEqual({ received: [] })
    expect(known(catalog.state)).toEqual({ lines: 4, blank: 0, malformed: 1, generation: 1, unfinished: false })
  })

  it('with its last line gone on gives that line as it is now', async () => {
    const catalog = world()
    await catalog.arrive('http://a/1\nhttp://a/2')
    expect(await catalog.arrive('http://a/1\nhttp://a/22\n')).toEqual({ received: ['2 http://a/22'] })
    expect(known(catalog.state)).toMatchObject({ lines: 2, generation: 1 })
  })

  it('while it is still changing leaves its last line for later', async () => {
    const catalog = world()
    expect(await catalog.arrive('http://a/1\nhttp://a/2', { rested: false })).toEqual({ received: ['1 http://a/1'] })
    expect(known(catalog.state)).toMatchObject({ lines: 1, unfinished: true })
    expect(await catalog.arrive('http://a/1\nhttp://a/2', { rested: false })).toEqual({ unchanged: true })
    expect(await catalog.arrive('http://a/1\nhttp://a/2')).toEqual({ received: ['2 http://a/2'] })
    expect(known(catalog.state)).toMatchObject({ lines: 2, unfinished: false })
  })

  it('with a processed part changed gives every line again', async () => {
    const catalog = world()
    await catalog.arrive('http://a/1\nhttp://a/2\n')
    expect(await catalog.arrive('http://a/0\nhttp://a/2\n')).toEqual({ received: ['1 http://a/0', '2 http://a/2'] })
    expect(await catalog.arrive('http://a/0\n')).toEqual({ received: ['1 http://a/0'] })
    expect(known(catalog.state)).toMatchObject({ lines: 1, generation: 3 })
    expect(catalog.state.versions).toHaveLength(3)
  })

  it('emptied, and then as it was, gives every line again', async () => {
    const catalog = world()
    await catalog.arrive('http://a/1\nhttp://a/2\n')
    expect(await catalog.arrive('')).toEqual({ received: [] })
    expect(known(catalog.state)).toMatchObject({ lines: 0, generation: 2 })
    expect(await catalog.arrive('http://a/1\nhttp://a/2\n')).toEqual({ received: ['1 http://a/1', '2 http://a/2'] })
    expect(known(catalog.state)).toMatchObject({ lines: 2, generation: 2 })
  })

  it('and asked for again gives every line again', async () => {
    const catalog = world()
    await catalog.arrive('http://a/1\n')
    expect(await catalog.arrive('http://a/1\n', { refresh: true })).toEqual({ received: ['1 http://a/1'] })
    expect([...catalog.topic.values()].map(({ refresh }) => refresh)).toEqual([false, true])
  })

  it('remembers the last 20 versions, each once', async () => {
    const catalog = world()
    for (let lines = 1; lines <= 25; lines += 1) await catalog.arrive('http://a/\n'.repeat(lines))
    await catalog.arrive('http://a/\n'.repeat(25))
    expect(new Set(catalog.state.versions.map(({ sha256 }) => sha256)).size).toBe(20)
    expect(catalog.state.versions[0]?.sha256).toBe(catalog.state.version)
  })
})

describe('reading', () => {
  it('takes no further piece before the records of the one before are taken', async () => {
    let pieces = 0
    async function* source() {
      for (let from = 0; from < 200_000; from += 1_000) {
        pieces += 1
        yield Buffer.from(Array.from({ length: 1_000 }, (_, at) => `http://a/${from + at}\n`).join(''))
      }
    }
    const plan = await planReading(undefined, { sha256: '', rested: true, refresh: false }, async () => false)
    const reading = new Reading({ name: 'c', plan, rested: true, refresh: false, bytes: 1, progress: () => {} })
    let taken = 0
    for await (const _ of reading.records(source())) {
      if (pieces !== Math.floor(taken / 1_000) + 1) expect.fail(`${pieces} pieces at record ${taken}`)
      taken += 1
    }
    expect([taken, reading.found().prefix.lines]).toEqual([200_000, 200_000])
  })

  it('of nothing, or of blank lines, gives no records', async () => {
    const catalog = world()
    expect(await catalog.arrive('')).toEqual({ received: [] })
    expect(known(catalog.state)).toEqual({ lines: 0, blank: 0, malformed: 0, generation: 1, unfinished: false })
    expect(await catalog.arrive('\n \t\r\n\n  ')).toEqual({ received: [] })
    expect(known(catalog.state)).toEqual({ lines: 4, blank: 4, malformed: 0, generation: 1, unfinished: false })
  })

  it('shows no credentials: neither its records nor what is remembered', async () => {
    const catalog = world()
    await catalog.arrive('http://name:hunter2@a/1\nftp://name:hunter2@a/\nhttp://name:hunter2@a/2')
    expect([...catalog.topic.values()].map(({ url }) => url)).toEqual([
      'http://***@a/1',
      'ftp://***@a/',
      'http://***@a/2',
    ])
    expect(JSON.stringify([...catalog.topic, catalog.state])).not.toContain('hunter2')
    expect(known(catalog.state)).toMatchObject({ lines: 3, malformed: 3 })
    expect(await catalog.arrive('http://name:hunter2@a/1\nftp://name:hunter2@a/\nhttp://name:hunter2@a/2\n')).toEqual({
      received: [],
    })
  })
})

describe('the id of a record', () => {
  it('tells apart lines of files that arrive under one name and generation', () => {
    const line = { catalog: 'c', generation: 1, line: 1, url: 'http://a/1' }
    expect(recordId(line)).toBe(recordId({ ...line }))
    expect(recordId({ ...line, url: 'http://a/2' })).not.toBe(recordId(line))
  })
})
