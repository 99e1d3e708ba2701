/**
 * The commit of a shard: one transaction for the rows, the keys, the ledger, the waiting records and the offset.
 *
 * 1. It begins with the guard, which locks the shard: who lost the shard writes nothing.
 * 2. How a repeat ends is read from the keys inside the transaction, after the firsts of the same commit are registered.
 *    So it does not matter when and where the first ended, and a replay in between is seen.
 * 3. Records whose data the server refuses are found by halving the commit, and rejected.
 */
import { countBatch, type RecordOutcome } from '../core/ledger.ts'
import type { Database, Session } from '../ports/database.ts'
import type { Refusal, Sink, SinkItem } from '../ports/sink.ts'
import { type FirstEnd, type KnownKey, lookUp, register } from '../store/distinct-keys.ts'
import { type LedgerRecord, settle, type WaitingRecord } from '../store/records.ts'
import { rowFault } from '../store/row-fault.ts'
import { type Advance, advance } from '../store/shards.ts'
import type { End, Entry } from './entry.ts'

/** A record with the end that this commit gives it. `late` when the offset has passed it before. */
export interface Ended {
  readonly entry: Entry
  readonly end: End
  readonly late: boolean
}

export interface CommitParts {
  readonly database: Database
  readonly sink: Sink
  readonly distinct: boolean
  /** The table may have records that the shard does not hold. */
  readonly apart: boolean
}

/** How each record stands, and whether records of the table that the shard does not hold may go on since. */
interface Committed {
  readonly outcomes: Map<Entry, RecordOutcome>
  readonly woken: boolean
}

interface Verdict {
  readonly outcome: RecordOutcome
  readonly reason: string | null
  readonly detail: string | null
}

/**
 * Commits records: `late` ones, and those of the offsets from `guard.from` on, in order. Gives how each stands now.
 * @throws SluiceError FENCED; what the database throws (then nothing of the part under way is known to be committed).
 */
export async function commit(
  parts: CommitParts,
  guard: Omit<Advance, 'to'>,
  ended: readonly Ended[],
): Promise<Committed> {
  const to = passedBy(ended) ?? guard.from
  try {
    await deliver(parts.sink, guard, ended)
    return await parts.database.transaction((session) => write(parts, session, { ...guard, to }, ended))
  } catch (thrown) {
    const fault = rowFault(thrown)
    if (fault === undefined) throw thrown
    // Once: what then is wrong is not the row, which is no longer written.
    if (ended.length === 1) return commitRefused(parts, { ...guard, to }, ended[0]!, fault)
    const middle = ended.length >> 1
    const first = ended.slice(0, middle)
    const one = await commit(parts, guard, first)
    const from = passedBy(first) ?? guard.from
    const other = await commit(parts, { ...guard, from }, ended.slice(middle))
    return { outcomes: new Map([...one.outcomes, ...other.outcomes]), woken: one.woken || other.woken }
  }
}

/** One above the last offset that the commit passes; undefined when it passes none. */
const passedBy = (ended: readonly Ended[]): number | undefined => {
  const last = ended.findLast(({ late }) => !late)
  return last && last.entry.offset + 1
}

/** The ticks of a timer that its records stand for besides their own; of other sources there are none. */
function skippedBy(ended: readonly Ended[]): Pick<Advance, 'skipped'> {
  let any = false
  let [missed, folded] = [0, 0]
  for (const { entry, late } of ended) {
    if (late || entry.skipped === undefined) continue
    any = true
    missed += entry.skipped.missed
    folded += entry.skipped.folded
  }
  return any ? { skipped: { missed, folded } } : {}
}

/** To a sink that is not transactional the rows go first. */
async function deliver(sink: Sink, origin: Omit<Advance, 'to'>, ended: readonly Ended[]): Promise<void> {
  if (sink.deliver === undefined) return
  const items = ended.flatMap(({ entry: { offset, recordId, record }, end }) =>
    end.kind === 'row' ? [{ offset, recordId, record, target: end.row }] : [],
  )
  if (items.length > 0)
    await sink.deliver(
      origin,
      items.toSorted((a, b) => a.offset - b.offset),
    )
}

function commitRefused(parts: CommitParts, guard: Advance, item: Ended, fault: Refusal): Promise<Committed> {
  const refused: Ended = { ...item, end: { kind: 'rejected', ...fault } }
  return parts.database.transaction((session) => write(parts, session, guard, [refused]))
}

async function write(
  { sink, distinct, apart }: CommitParts,
  session: Session,
  guard: Advance,
  ended: readonly Ended[],
): Promise<Committed> {
  const at = await advance(session, { ...guard, ...skippedBy(ended) })
  const repeated = distinct
    ? await resolveKeys(session, guard.stream, at, ended)
    : new Map<Ended, KnownKey | undefined>()
  const verdicts = new Map<Ended, Verdict>()
  const items: (SinkItem & { readonly of: Ended })[] = []
  for (const item of ended) {
    const verdict = repeated.has(item) ? repeatVerdict(repeated.get(item)) : plainVerdict(item.end)
    verdicts.set(item, verdict)
    const target = targetOf(item, verdict, repeated.get(item))
    if (target === undefined) continue
    const { offset, recordId, record } = item.entry
    items.push({ offset, recordId, record, target, objects: item.end.kind === 'row' ? item.end.objects : [], of: item })
  }
  if (items.length > 0) {
    items.sort((a, b) => a.offset - b.offset)
    const ends = await sink.write(session, guard, items)
    for (const [index, end] of ends.entries()) {
      const { of } = items[index]!
      if (end.outcome === 'rejected') verdicts.set(of, end)
      else if (end.outcome !== verdicts.get(of)!.outcome)
        verdicts.set(of, { outcome: end.outcome, reason: null, detail: null })
    }
  }
  const rows = rowsOf(ended, verdicts)
  const woken = await settle(session, { ...guard, at, ...rows, leftKeys: apart ? rows.leftKeys : [] })
  return { outcomes: new Map(ended.map((item) => [item.entry, verdicts.get(item)!.outcome])), woken: woken > 0 }
}

/** Registers the firsts; gives the repeats, each with the entry of its key, if there is one. */
async function resolveKeys(
  session: Session,
  stream: string,
  at: Date,
  ended: readonly Ended[],
): Promise<Map<Ended, KnownKey | undefined>> {
  const firsts = new Map<string, Ended>()
  const agains = new Map<string, Ended>()
  const repeats: Ended[] = []
  for (const item of ended) {
    const { key, again } = item.entry
    if (key === null || item.end.kind === 'waiting' || item.end.kind === 'retry') continue
    if (item.end.kind === 'repeat' || (!again && firsts.has(key))) repeats.push(item)
    else if (!again) firsts.set(key, item)
    else if (leadsSomewhere(item) || !leadsSomewhere(agains.get(key))) agains.set(key, item)
  }
  const stand = await register(session, stream, at, [...firsts.values()].map(firstEnd))
  for (const [key, item] of firsts) if (!stand.has(key)) repeats.push(item)
  await register(session, stream, at, [...agains.values()].map(firstEnd))
  const known = await lookUp(
    session,
    stream,
    repeats.map((item) => item.entry.key!),
  )
  return new Map(repeats.map((item) => [item, known.get(item.entry.key!)]))
}

const leadsSomewhere = (item: Ended | undefined): boolean => item?.end.kind === 'row'

function firstEnd({ entry, end }: Ended): FirstEnd {
  const outcome = end.kind === 'row' ? 'written' : (end.kind as 'filtered' | 'rejected' | 'dead')
  const documentKey = end.kind === 'row' ? end.row.key : null
  return { key: entry.key!, recordId: entry.recordId, outcome, documentKey, again: entry.again }
}

function repeatVerdict(first: KnownKey | undefined): Verdict {
  if (first === undefined) return { outcome: 'waiting', reason: null, detail: null }
  if (first.outcome === 'dead') return { outcome: 'dead', reason: 'first of its key is dead', detail: first.recordId }
  return { outcome: 'duplicate', reason: null, detail: first.recordId }
}

function plainVerdict(end: End): Verdict {
  if (end.kind === 'row') return { outcome: 'written', reason: null, detail: null }
  if (end.kind === 'filtered') return { outcome: 'filtered', reason: null, detail: null }
  if (end.kind === 'rejected' || end.kind === 'dead')
    return { outcome: end.kind, reason: end.reason, detail: end.detail }
  return end.kind === 'retry'
    ? { outcome: 'waiting', reason: end.reason, detail: end.detail }
    : { outcome: 'waiting', reason: null, detail: null }
}

function targetOf({ end }: Ended, verdict: Verdict, first: KnownKey | undefined): SinkItem['target'] | undefined {
  if (verdict.outcome === 'written' && end.kind === 'row') return end.row
  if (verdict.outcome === 'duplicate' && first?.documentKey != null) return { repeats: first.documentKey }
  return undefined
}

/** Rows of the ledger and of the durable table that say what was decided. */
function rowsOf(ended: readonly Ended[], verdicts: ReadonlyMap<Ended, Verdict>) {
  const records: LedgerRecord[] = []
  const inserts: WaitingRecord[] = []
  const updates: WaitingRecord[] = []
  const deletes: number[] = []
  const parked: number[] = []
  const leftKeys: string[] = []
  const outcomes: RecordOutcome[] = []
  for (const item of ended) {
    const { entry, late } = item
    const verdict = verdicts.get(item)!
    const { outcome } = verdict
    const reason = clip(verdict.reason, 200)
    const detail = clip(verdict.detail, 2_000)
    if (!late) outcomes.push(outcome)
    const noted = late ? outcome !== 'waiting' : outcome !== 'written' && outcome !== 'filtered'
    const { offset, recordId, key } = entry
    if (key !== null && outcome !== 'waiting') leftKeys.push(key)
    if (key !== null && outcome === 'waiting' && entry.apart) parked.push(offset)
    if (noted) records.push({ offset, recordId, outcome, was: late ? 'waiting' : null, reason, detail })
    if (outcome === 'waiting' || outcome === 'dead')
      (late ? updates : inserts).push(waitingRow(item, outcome, reason, detail))
    else if (late) deletes.push(offset)
  }
  return { counts: countBatch(outcomes), records, inserts, updates, deletes, parked, leftKeys }
}

function waitingRow(
  { entry, end }: Ended,
  outcome: 'waiting' | 'dead',
  reason: string | null,
  detail: string | null,
): WaitingRecord {
  const { offset, recordId, key, value } = entry
  const attempts = end.kind === 'retry' || end.kind === 'dead' ? end.attempts : entry.attempts
  const retry = outcome === 'waiting' && end.kind === 'retry'
  const state = outcome === 'dead' ? 'dead' : retry ? 'retry' : 'waiting'
  return { offset, recordId, key, value, state, attempts, dueAt: retry ? new Date(end.dueAt) : null, reason, detail }
}

const clip = (text: string | null, limit: number): string | null =>
  text === null ? null : text.slice(0, limit).replaceAll('\0', '\uFFFD')
