import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { latencyChart, milliseconds, roundedUp } from './chart.ts'
import { html } from './html.ts'
import { listPage, pageHeaders, sitePage } from './page.ts'
import type { Point } from './series.ts'
import { spanOf } from './series.ts'
import type { SiteStatus } from './site-status.ts'

const now = new Date('2026-01-02T00:00:00Z')
const nasty = '"><script>alert(1)</script>&\''

const site: SiteStatus = {
  ...{
    id: 1,
    url: `https://x.test/${nasty}`,
    interval: 60,
    state: 'down',
    since: '2026-01-01T10:00:00.000Z',
    fault: nasty,
  },
  uptime: { '24h': 99.999, '7d': 100, '30d': null },
  last: {
    ...{
      scheduledAt: '2026-01-01T23:59:00.000Z',
      checkedAt: '2026-01-01T23:59:00.010Z',
      status: 500,
      responseMs: 12_345,
    },
    ...{ regexpFound: false, failure: nasty, detail: nasty, certificateEndsAt: '2027-01-01T00:00:00.000Z' },
    timings: { dnsMs: 1, connectMs: 2, tlsMs: null, processingMs: 3, transferMs: 4, totalMs: 10 },
  },
}
const incident = {
  id: 1,
  site: 1,
  startedAt: '2026-01-01T10:00:00.000Z',
  endedAt: null,
  failure: nasty,
  detail: nasty,
  status: null,
}
const counts = { up: 1, down: 1, late: 0, pending: 0, paused: 0, invalid: 0 }

const span = spanOf({ to: now.toISOString() }, now.getTime())
const point = (time: string, more: Partial<Point> = {}): Point => ({
  ...{ time, checks: 5, successes: 5, averageMs: 100, leastMs: 50, mostMs: 180, p95Ms: null, ...more },
})

describe('a page', () => {
  const list = listPage({
    ...{
      counts,
      open: [{ ...incident, url: nasty }],
      sites: [site],
      wanted: { url: nasty },
      next: 'abc',
      later: false,
      now,
    },
  })
  const own = sitePage({
    site,
    points: [point('2026-01-01T12:00:00.000Z')],
    span,
    spanName: '24h',
    incidents: [incident],
    now,
  })

  it.each([
    ['of all sites', list],
    ['of one', own],
  ])('%s has nothing in it that a site wrote as HTML, and no script, handler or style of an element', (_, page) => {
    expect(page).not.toContain('<script')
    expect(page).toContain('&lt;script&gt;')
    expect(page).not.toMatch(/\son\w+=|\sstyle=|javascript:/i)
  })

  it('has the style that its policy allows, and no other', () => {
    const style = /<style>(.*?)<\/style>/s.exec(list)![1]!
    const hash = createHash('sha256').update(style).digest('base64')
    expect(pageHeaders['content-security-policy']).toContain(`style-src 'sha256-${hash}'`)
    expect(list.match(/<style/g)).toHaveLength(1)
  })

  it('links to a site only where it is http', () => {
    expect(own).toContain('href="https://x.test/&quot;')
    const odd = sitePage({
      site: { ...site, url: 'javascript&#58;x', last: null },
      points: [],
      span,
      spanName: '24h',
      incidents: [],
      now,
    })
    expect(odd).not.toMatch(/href="javascript/)
  })

  it('keeps what was asked for in its links', () => {
    expect(list).toContain('href="/status?url=%22%3E%3Cscript')
    expect(list).toContain('cursor=abc')
  })

  it('shows times, shares and lengths as people read them', () => {
    expect(list).toContain('99.99 %')
    expect(list).toContain('100 %')
    expect(list).toContain('14 h 0 min')
    expect(list).toContain('12.3 s')
    expect([milliseconds(null), milliseconds(1.234), milliseconds(999.6)]).toEqual(['–', '1.2 ms', '1000 ms'])
  })
})

describe('a chart', () => {
  const times = Array.from({ length: 4 }, (_, at) => new Date(now.getTime() - 3_600_000 + at * 300_000).toISOString())

  it('draws a line through what follows, and leaves gaps where nothing was checked or all failed', () => {
    const line = (points: Point[]) => /<path class="average" d="([^"]*)"/.exec(latencyChart(points, span).text)![1]!
    const all = times.map((time) => point(time))
    expect(line(all).match(/M/g)).toHaveLength(1)
    expect(line(all).match(/L/g)).toHaveLength(3)
    expect(line(all.toSpliced(1, 1)).match(/M/g)).toHaveLength(2)
    expect(
      line(all.with(1, point(times[1]!, { averageMs: null, mostMs: null, successes: 0 }))).match(/M/g),
    ).toHaveLength(2)
    expect(line([])).toBe('')
    expect(latencyChart(all, span).text).not.toMatch(/NaN|undefined|Infinity/)
    expect(latencyChart([], span).text).not.toMatch(/NaN|undefined|Infinity/)
  })

  it('marks steps in which checks failed', () => {
    const text = latencyChart([point(times[0]!, { successes: 2 }), point(times[1]!)], span).text
    expect(text.match(/class="failed"/g)).toHaveLength(1)
    expect(text).toContain('3 of 5 checks failed')
  })

  it('has a top that people can read', () => {
    expect([0, 1, 1.1, 3, 7, 99, 180, 1_234].map(roundedUp)).toEqual([1, 1, 2, 5, 10, 100, 200, 2_000])
  })
})

describe('a span', () => {
  const at = now.getTime()
  it.each([
    [{}, '5m', 86_400],
    [{ from: '2026-01-01T23:00:00Z' }, '1m', 3_600],
    [{ from: '2025-12-26T00:00:00Z' }, '1h', 604_800],
    [{ from: '2025-12-26T00:00:00Z', step: '1d' as const }, '1d', 604_800],
    [{ from: '2020-01-01T00:00:00Z', to: '2024-01-01T00:00:00Z' }, '1d', 126_230_400],
  ])('%j is taken in steps of %s', (asked, step, seconds) => {
    const found = spanOf(asked, at)
    expect(found.step).toBe(step)
    expect((found.to.getTime() - found.from.getTime()) / 1_000).toBe(seconds)
  })

  it.each([
    [{ from: '2026-01-02T00:00:00Z' }, /must be before/],
    [{ from: '2025-01-02T00:00:00Z', step: '1m' as const }, /at most 2000 are given/],
    [{ from: '2000-01-02T00:00:00Z' }, /take a longer step/],
  ])('%j is refused', (asked, message) => {
    expect(() => spanOf(asked, at)).toThrow(message)
  })
})

it('what is put into HTML is escaped once', () => {
  expect(html`<b>${'<&"\''}${html`<i>${1}</i>`}${null}${false}${['a', html`<u/>`]}</b>`.text).toBe(
    '<b>&lt;&amp;&quot;&#39;<i>1</i>a<u/></b>',
  )
})
