/** The sum of a stream: where every record that was received has ended. */

export interface Totals {
  readonly received: number
  readonly pending: number
  readonly written: number
  readonly duplicate: number
  readonly filtered: number
  readonly rejected: number
  readonly dead: number
  readonly rejectedByReason: Readonly<Record<string, number>>
}

/** `650 received = 500 written + 99 duplicate + 51 rejected (http error) + 0 dead + 0 pending` */
export function sumText(totals: Totals): string {
  const { received, written, duplicate, filtered, rejected, dead, pending } = totals
  const terms = [
    `${written} written`,
    `${duplicate} duplicate`,
    ...(filtered === 0 ? [] : [`${filtered} filtered`]),
    `${rejected} rejected${reasonsText(totals.rejectedByReason)}`,
    `${dead} dead`,
    `${pending} pending`,
  ]
  return `${received} received = ${terms.join(' + ')}`
}

/** One reason stands alone; of several each has its number, the largest first. */
function reasonsText(reasons: Readonly<Record<string, number>>): string {
  const found = Object.entries(reasons)
    .filter(([, count]) => count > 0)
    .sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
  if (found.length === 0) return ''
  return ` (${found.length === 1 ? found[0]![0] : found.map(([reason, count]) => `${count} ${reason}`).join(', ')})`
}

export function balances({ received, pending, written, duplicate, filtered, rejected, dead }: Totals): boolean {
  return received === pending + written + duplicate + filtered + rejected + dead
}

/** What has been added to the sum since. */
export function since(before: Totals, after: Totals): Totals {
  const less = (field: Exclude<keyof Totals, 'rejectedByReason'>) => after[field] - before[field]
  const reasons = Object.entries(after.rejectedByReason).map(
    ([reason, count]) => [reason, count - (before.rejectedByReason[reason] ?? 0)] as const,
  )
  return {
    received: less('received'),
    pending: less('pending'),
    written: less('written'),
    duplicate: less('duplicate'),
    filtered: less('filtered'),
    rejected: less('rejected'),
    dead: less('dead'),
    rejectedByReason: Object.fromEntries(reasons),
  }
}
