/** What a deferred task waits for, as the API and the testing kit tell it: its kind, and what belongs to that. */
export type Wait = Readonly<Record<string, unknown>>

/** `sensor until 2026-03-28T12:00:00.000Z`, `an answer to "Close the day?"`. */
export function waitText({ kind, shown, ...more }: Wait): string {
  if (kind === 'timer') return `the time ${more.until}`
  const deadline = typeof more.deadline === 'string' ? ` until ${more.deadline}` : ''
  const { title = '' } = (shown ?? {}) as { readonly title?: unknown }
  if (kind === 'approval') return `an answer to "${title}"${deadline}`
  const about = ['name', 'reason'].flatMap((key) => (more[key] === undefined ? [] : [String(more[key])]))
  return [[kind, ...about].join(' '), ...(more.until === undefined ? [] : [`until ${more.until}`])].join(' ')
}
