/** Statistics of repeated measurements. */

/** What a benchmark found: tables to read, and the same for programs. */
export interface Report {
  readonly text: string
  readonly figures: Readonly<Record<string, unknown>>
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** The value below which the share `q` of the values lies (nearest rank). */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN
}

export function spread(values: readonly number[], digits = 0): string {
  const [low, high] = [Math.min(...values), Math.max(...values)]
  return `${format(median(values), digits)} (${format(low, digits)} to ${format(high, digits)})`
}

export function format(value: number, digits = 0): string {
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

/** A Markdown table. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

/** Milliseconds. What takes longer is counted in the last line. */
const steps = [0, 0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100]

/** How many of the values (milliseconds) lie in each step, as bars of text. */
export function histogram(values: readonly number[]): string {
  const counts = steps.map(
    (from, index) => values.filter((v) => v >= from && v < (steps[index + 1] ?? Infinity)).length,
  )
  const last = counts.findLastIndex((count) => count > 0)
  const most = Math.max(...counts)
  const lines = counts.slice(0, last + 1).map((count, index) => {
    const range = index + 1 < steps.length ? `${steps[index]} to ${steps[index + 1]}` : `${steps[index]} and more`
    return `${range.padStart(12)} ms ${String(count).padStart(7)} ${'#'.repeat(Math.ceil((50 * count) / most))}`
  })
  return ['```', ...lines, '```'].join('\n')
}
