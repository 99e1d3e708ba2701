/** Response times as a picture in the page. */
import { type Html, html } from './html.ts'
import type { Point, Span } from './series.ts'
import { steps } from './series.ts'

const size = { width: 900, height: 220, left: 56, right: 8, top: 10, bottom: 24 } as const
const plot = { width: size.width - size.left - size.right, height: size.height - size.top - size.bottom } as const

/** The smallest of 1, 2, 5 times a power of ten that is not below `value`. */
export function roundedUp(value: number): number {
  if (!(value > 0)) return 1
  const power = 10 ** Math.floor(Math.log10(value))
  return ([1, 2, 5, 10].find((factor) => factor * power >= value * (1 - 1e-9)) as number) * power
}

/** Average and highest per step; steps with failures are marked below. Gaps in the checks are gaps in the line. */
export function latencyChart(points: readonly Point[], span: Span): Html {
  const top = roundedUp(Math.max(0, ...points.map(({ mostMs }) => mostMs ?? 0)))
  const [from, to] = [span.from.getTime(), span.to.getTime()]
  const stepMs = steps[span.step] * 1_000
  const x = (time: number) =>
    round(size.left + (plot.width * Math.min(Math.max(time - from, 0), to - from)) / (to - from))
  const y = (ms: number) => round(size.top + plot.height * (1 - ms / top))
  const middle = ({ time }: Point) => Date.parse(time) + stepMs / 2
  const line = (value: (point: Point) => number | null) =>
    runsOf(points, stepMs, value)
      .map((run) =>
        run.map((point, at) => `${at === 0 ? 'M' : 'L'}${x(middle(point))} ${y(value(point) as number)}`).join(''),
      )
      .join('')
  const failing = points.filter(({ checks, successes }) => successes < checks)
  const base = size.top + plot.height
  return html`<svg viewBox="0 0 ${size.width} ${size.height}" role="img" aria-label="Response times in milliseconds">
${[0, 0.25, 0.5, 0.75, 1].map(
  (
    part,
  ) => html`<line class="grid" x1="${size.left}" x2="${size.width - size.right}" y1="${y(top * part)}" y2="${y(top * part)}"/>
<text class="tick end" x="${size.left - 6}" y="${y(top * part) + 4}">${milliseconds(top * part)}</text>`,
)}
${[0, 0.25, 0.5, 0.75, 1].map(
  (part) =>
    html`<text class="tick ${part === 0 ? 'start' : part === 1 ? 'end' : 'middle'}" x="${x(from + part * (to - from))}" y="${size.height - 6}">${label(from + part * (to - from), to - from)}</text>`,
)}
${failing.map(
  (point) =>
    html`<rect class="failed" x="${x(Date.parse(point.time))}" y="${base - 6}" width="${Math.max(2, x(Date.parse(point.time) + stepMs) - x(Date.parse(point.time)))}" height="6"><title>${point.time}: ${point.checks - point.successes} of ${point.checks} checks failed</title></rect>`,
)}
<path class="most" d="${line(({ mostMs }) => mostMs)}"/>
<path class="average" d="${line(({ averageMs }) => averageMs)}"/>
</svg>`
}

/** Points that follow one another without a gap, and have the value. A run of one is drawn as a short line. */
function runsOf(points: readonly Point[], stepMs: number, value: (point: Point) => number | null): Point[][] {
  const runs: Point[][] = []
  let before = Number.NaN
  for (const point of points) {
    const time = Date.parse(point.time)
    const follows = time - before <= stepMs * 1.5
    before = value(point) === null ? Number.NaN : time
    if (value(point) === null) continue
    if (follows) runs.at(-1)?.push(point)
    else runs.push([point])
  }
  return runs.map((run) => (run.length === 1 ? [run[0] as Point, run[0] as Point] : run))
}

const round = (value: number) => Math.round(value * 10) / 10

export const milliseconds = (ms: number | null | undefined): string =>
  ms === null || ms === undefined
    ? '–'
    : ms < 10
      ? `${Number(ms.toFixed(1))} ms`
      : ms < 10_000
        ? `${Math.round(ms)} ms`
        : `${(ms / 1_000).toFixed(1)} s`

function label(time: number, spanMs: number): string {
  const text = new Date(time).toISOString()
  return spanMs > 2 * 86_400_000 ? text.slice(5, 10) : `${text.slice(11, 16)}`
}
