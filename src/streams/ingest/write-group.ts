/**
 * The commit of a group: rows, ids, ledger and offset in one transaction.
 *
 * 1. The guard comes first and locks the lane's shard: whoever lost it writes nothing.
 * 2. Ids are registered before rows are written, in their order. An id that is known, or comes twice in the group, leads to
 *    one row; one that another process registers now is waited for.
 * 3. Where no row can meet another, all goes in one round trip, on the assumption that no id is known. If that is wrong the
 *    server undoes it, and it is done again without those that are.
 * 4. Events whose data the server refuses are found by halving the group, and rejected.
 */
import { messageOf, SluiceError } from '../../errors.ts'
import type { PipelinedDatabase, PipelineStep } from '../../ports/database.ts'
import type { RowCopy, Sink, SinkEnd } from '../../ports/sink.ts'
import {
  addBatch,
  giveUpIds,
  guardedBatch,
  isFenced,
  isKnownId,
  knownIds,
  newIds,
  takeIds,
} from '../../store/ingest.ts'
import { advance } from '../../store/shards.ts'
import type { Accepted } from './arrival.ts'
import { endAll, type Group, type LaneShard, leadersOf, marksOf, rejection, sumOf } from './group.ts'

export interface GroupParts {
  readonly database: PipelinedDatabase
  /** How long ids are remembered. */
  readonly rememberMs: number
}

type Parts = GroupParts & { readonly sink: Sink }

/**
 * Gives every accepted event its end.
 * @throws SluiceError FENCED; what the database throws (then it is not known of events without an end whether they are stored).
 */
export async function writeGroup(parts: Parts, shard: LaneShard, group: Group): Promise<void> {
  try {
    await write(parts, shard, group)
  } catch (thrown) {
    if (!isAboutData(thrown) || group.accepted.length === 0) throw thrown
    if (group.accepted.length === 1) return writeWithout(parts, shard, group, thrown)
    const middle = group.accepted.length >> 1
    await writeGroup(parts, shard, { accepted: group.accepted.slice(0, middle), rejected: group.rejected })
    await writeGroup(parts, shard, { accepted: group.accepted.slice(middle), rejected: new Map() })
  }
}

/** SQLSTATE classes 22 (data exception), 23 (integrity constraint), 44 (check option of a view) and 54 (program limit exceeded). */
const isAboutData = (thrown: unknown): thrown is Error =>
  thrown instanceof Error && 'code' in thrown && /^(22|23|44|54)...$/.test(String(thrown.code))

async function writeWithout(parts: Parts, shard: LaneShard, group: Group, thrown: unknown): Promise<void> {
  const reason = 'not storable'
  const rejected = new Map(group.rejected).set(reason, (group.rejected.get(reason) ?? 0) + 1)
  await write(parts, shard, { accepted: [], rejected })
  group.accepted[0]!.end = rejection(reason, messageOf(thrown))
}

async function write(parts: Parts, shard: LaneShard, group: Group): Promise<void> {
  const copy = parts.sink.copy?.()
  const to = shard.committedOffset + group.accepted.length + sumOf(group.rejected)
  try {
    await (copy === undefined ? throughSink(parts, shard, group, to) : throughCopy(parts, copy, shard, group, to))
  } catch (thrown) {
    // They were given for a commit that has not come about.
    for (const accepted of group.accepted) accepted.end = undefined
    throw thrown
  }
  shard.committedOffset = to
}

/** As often as another may delete or register, between two looks, ids that are in question. */
const mostTries = 5

async function throughCopy(parts: Parts, copy: RowCopy, shard: LaneShard, group: Group, to: number): Promise<void> {
  const { database, rememberMs } = parts
  const { firsts, followers } = leadersOf(group.accepted)
  const marks = marksOf(firsts)
  let known: ReadonlySet<string> =
    shard.knownLately && marks.length > 0 ? await knownIds(database, marks) : new Set<string>()
  for (let tries = 1; ; tries += 1) {
    const news = known.size === 0 ? firsts : firsts.filter(({ mark }) => mark === undefined || !known.has(mark))
    const counts = endAll(group, followers, ({ mark }) =>
      known.size === 0 || mark === undefined || !known.has(mark) ? written : undefined,
    )
    const steps: PipelineStep[] = [guardedBatch({ ...shard, from: shard.committedOffset, to, ...counts })]
    const newMarks = known.size === 0 ? marks : marksOf(news)
    if (newMarks.length > 0) steps.push(newIds(newMarks, rememberMs))
    if (news.length > 0) steps.push({ copy: copy.sql, rows: linesOf(copy, news) })
    try {
      await database.pipeline(steps)
      shard.knownLately = known.size > 0
      return
    } catch (thrown) {
      if (isFenced(thrown)) throw fenced(shard)
      if (!isKnownId(thrown)) throw thrown
      if (tries === mostTries) throw busy(thrown)
      known = await knownIds(database, marks)
    }
  }
}

const written: SinkEnd = { outcome: 'written' }

function linesOf(copy: RowCopy, accepted: readonly Accepted[]): string {
  let lines = ''
  for (const { row, id } of accepted) lines += copy.line(row, id)
  return lines
}

const fenced = ({ stream, partition, epoch }: LaneShard) =>
  new SluiceError('FENCED', `The shard ${stream}/${partition} is no longer held under epoch ${epoch}`)

const busy = (cause: unknown) =>
  new SluiceError('CONFLICT', 'The ids of the group are registered and forgotten by others all the time', { cause })

async function throughSink(
  { database, sink, rememberMs }: Parts,
  shard: LaneShard,
  group: Group,
  to: number,
): Promise<void> {
  const { stream, partition, epoch, committedOffset: from } = shard
  const { firsts, followers } = leadersOf(group.accepted)
  const items = firsts.map((accepted, index) => ({
    offset: from + index,
    recordId: accepted.id,
    record: accepted.event,
    target: accepted.row,
    objects: [],
    of: accepted,
  }))
  if (sink.deliver !== undefined && items.length > 0) await sink.deliver({ stream, partition }, items)
  await database.transaction(async (session) => {
    const at = await advance(session, { stream, partition, epoch, from, to, inFlight: 0, parked: 0 })
    const marks = marksOf(firsts)
    const fresh = marks.length > 0 ? await takeIds(session, marks, rememberMs) : new Set<string>()
    const news = items.filter(({ of: { mark } }) => mark === undefined || fresh.has(mark))
    const found = news.length > 0 ? await sink.write(session, { stream, partition }, news) : []
    const ends = new Map(news.map(({ of }, index) => [of, found[index]!]))
    const counts = endAll(group, followers, (one) => ends.get(one))
    // Sent again, those that the sink refused are to be tried again.
    await giveUpIds(session, marksOf(firsts.filter((one) => ends.get(one)?.outcome === 'rejected')))
    await addBatch(session, { stream, partition, from, to, ...counts }, at)
  })
}
