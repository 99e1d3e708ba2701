import type { FetchCheck } from 'sluice'
import { fakeFetch } from 'sluice/testing'
import { describe, expect, it } from 'vitest'
import type { Site } from '../sites/site.ts'
import { availability, availabilityOf, type Found } from './availability.ts'
import { checkSite } from './check-site.ts'

const site: Site = { id: 7, url: 'https://x.test/', regexp: null, interval: 5, expectedStatus: null }
const at = '2026-01-01T00:00:05.000Z'
const check: FetchCheck = {
  ...{ failure: null, detail: null, url: 'https://x.test/', status: 200, headers: {}, body: Buffer.from('hello') },
  ...{ redirects: 0, checkedAt: Date.UTC(2026, 0, 1, 0, 0, 5, 12), certificateEndsAt: Date.UTC(2027, 0, 1) },
  timings: { dnsMs: 1.23456, connectMs: 2, tlsMs: 3, processingMs: 4, transferMs: 5, firstByteMs: 10, totalMs: 15.5 },
}

const judged = (given: Partial<Site>, found: Partial<FetchCheck> = {}, search: Found = null) =>
  availabilityOf({ ...site, ...given }, at, { ...check, ...found }, search)

describe('what a check says', () => {
  it('of a site that is well', () => {
    const record = judged({ regexp: 'hello' }, {}, 'found')
    expect(record).toEqual({
      ...{ version: 1, site: 7, url: 'https://x.test/', scheduledAt: at, checkedAt: '2026-01-01T00:00:05.012Z' },
      ...{ status: 200, responseMs: 15.5, regexpFound: true, failure: null, detail: null },
      timings: { dnsMs: 1.235, connectMs: 2, tlsMs: 3, processingMs: 4, transferMs: 5, totalMs: 15.5 },
      certificateEndsAt: '2027-01-01T00:00:00.000Z',
    })
    expect(availability.parse(record)).toEqual(record)
  })

  it.each([
    ['a status that is none of 200 to 299', {}, { status: 404 }, null, 'http-status', null],
    ['another than the one that is expected', { expectedStatus: 401 }, { status: 200 }, null, 'http-status', null],
    ['a status before a page', { regexp: 'a' }, { status: 500 }, 'missing', 'http-status', false],
    ['a page without the regexp', { regexp: 'a' }, {}, 'missing', 'regexp-mismatch', false],
    ['a search that took too long', { regexp: 'a' }, {}, 'over', 'regexp-limit', null],
    [
      'a body over the cap in which it was found',
      { regexp: 'a' },
      { failure: 'body-limit' },
      'found',
      'body-limit',
      true,
    ],
    [
      'a body over the cap in which it was not',
      { regexp: 'a' },
      { failure: 'body-limit' },
      'missing',
      'body-limit',
      null,
    ],
    ['a name without an address', {}, { failure: 'dns', status: null }, null, 'dns', null],
    ['what the guard calls no URL', {}, { failure: 'invalid-url', status: null }, null, 'blocked', null],
  ] as const)('of %s', (_, given, found, search, failure, regexpFound) => {
    expect(judged(given, found as Partial<FetchCheck>, search)).toMatchObject({ failure, regexpFound })
  })

  it.each([
    [{ expectedStatus: 401 }, { status: 401 }],
    [{}, { status: 204 }],
  ])('is good for %j and %j', (given, found) => {
    expect(judged(given, found)).toMatchObject({ failure: null })
  })

  it('has no response time where no whole answer came, and a detail that a database takes', () => {
    const detail = `quoted \u0000\u0007 and \ud800 ${'x'.repeat(5_000)}`
    const record = judged({}, { failure: 'timeout', detail })
    expect(record).toMatchObject({ responseMs: null, timings: { totalMs: 15.5 } })
    expect(record.detail).toMatch(/^quoted {3}and \ufffd x+$/)
    expect(availability.parse(record)).toEqual(record)
  })
})

describe('checking a site', () => {
  it('searches in what came, in its charset', async () => {
    const headers = { 'content-type': 'text/html; charset="ISO-8859-1"' }
    const client = fakeFetch(() => ({ body: Buffer.from('Müller', 'latin1'), headers }))
    expect(await checkSite(client, { ...site, regexp: '^Müller$' }, at)).toMatchObject({
      failure: null,
      regexpFound: true,
    })
    expect(await checkSite(client, { ...site, regexp: 'Maier' }, at)).toMatchObject({ failure: 'regexp-mismatch' })
    expect(await checkSite(client, site, at)).toMatchObject({ failure: null, regexpFound: null })
  })

  it('does not search where nothing came', async () => {
    const client = fakeFetch(() => new Error('refused: nobody is there'))
    expect(await checkSite(client, { ...site, regexp: 'a' }, at)).toMatchObject({
      ...{ failure: 'refused', regexpFound: null, detail: 'nobody is there', status: null },
    })
  })

  it.each([
    [{ interval: 5 }, { timeout: '4000ms', redirects: true }],
    [
      { interval: 300, expectedStatus: 200 },
      { timeout: '299000ms', redirects: true },
    ],
    [
      { interval: 60, expectedStatus: 302 },
      { timeout: '59000ms', redirects: false },
    ],
  ])('of %j asks with %j', async (given, options) => {
    const asked: unknown[] = []
    const client = {
      ...fakeFetch({}),
      async check(_: string, with_: unknown) {
        asked.push(with_)
        return check
      },
    }
    await checkSite(client, { ...site, ...given }, at)
    expect(asked).toEqual([options])
  })

  it('that was cancelled says nothing', async () => {
    const client = { ...fakeFetch({}), check: () => Promise.reject(new Error('CANCELLED')) }
    await expect(checkSite(client, site, at)).rejects.toThrow('CANCELLED')
  })
})
