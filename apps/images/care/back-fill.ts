/**
 * When documents must be looked through for transforms that they lack. A transform comes with a deployment, and from then on the
 * stream makes it of every new picture; so one pass over the documents that are there is enough, and one more, for what shards
 * of the version before may have written meanwhile. After that nothing is looked at until the transforms change again.
 */
import { nameOf } from '../transforms/transform.ts'

/** What is remembered between runs, as a document. */
export interface BackFill {
  /** The transforms that it is about, `name@version`, sorted. */
  readonly wanted: readonly string[]
  /** When they were first seen together: milliseconds since the epoch. */
  readonly since: number
  /** A pass that began long enough after `since` found nothing to do. */
  readonly settled: boolean
  /** The run that is at it, and when it said so last. */
  readonly run: string | null
  readonly at: number
}

/** Shards of an earlier version have handed over by then. */
const handOverMs = 600_000
/** A run that has not said anything for so long has ended, or is about to be tried again. */
const silentMs = 120_000

export type BackFillDecision =
  | { readonly what: 'settled' }
  | { readonly what: 'under way'; readonly run: string }
  | { readonly what: 'pass'; readonly before: BackFill }

export function decideBackFill(
  before: BackFill | undefined,
  transforms: readonly { readonly name: string; readonly version: number }[],
  run: string,
  now: number,
  asked: boolean,
): BackFillDecision {
  const wanted = transforms.map(nameOf).sort()
  const same = before !== undefined && before.wanted.join() === wanted.join()
  const known = same ? before : { wanted, since: now, settled: false }
  if (known.settled && !asked) return { what: 'settled' }
  if (same && before.run !== null && before.run !== run && now - before.at < silentMs) {
    return { what: 'under way', run: before.run }
  }
  return { what: 'pass', before: { ...known, run, at: now } }
}

/** After a pass that began at `before.at`, and made so many things. */
export function afterPass(before: BackFill, made: number): BackFill {
  return { ...before, run: null, settled: before.settled || (made === 0 && before.at - before.since >= handOverMs) }
}
