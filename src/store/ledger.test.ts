import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { countBatch, type RecordOutcome } from '../core/ledger.ts'
import { statement } from '../ports/database.ts'
import { dropLedgerPartitions, foldLedger, makeLedgerPartitions, streamTotals, totals } from './ledger.ts'
import { settle } from './records.ts'
import { acquire, advance, ensureShards, type HeldShard } from './shards.ts'
import { append, ensureTopic } from './topics.ts'

let test: TestDatabase
let shard: HeldShard
let offset = 0
const node = '0199d0a0-0000-7000-8000-000000000001'

const setTime = statement('test.set-time', `select set_config('sluice.now', $1, true)`)
const partitionsStatement = statement<{ name: string }>(
  'test.partitions',
  `select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
   where i.inhparent = 'sluice.ledger_batches'::regclass order by 1`,
)
const rowsStatement = statement<{ rows: number }>(
  'test.rows',
  'select count(*)::int as rows from sluice.ledger_batches',
)

beforeAll(async () => {
  test = await testDatabase()
  await ensureTopic(test.db, 'lines', 1)
  await ensureShards(test.db, 'lines', 'lines')
  await test.db.transaction((session) =>
    append(
      session,
      'lines',
      Array.from({ length: 100 }, (_, n) => ({ id: `${n}`, key: null, value: '{}' })),
    ),
  )
  shard = (await acquire(test.db, ['lines'], node, 60_000, 1))[0]!
})
afterAll(() => test.drop())

/** Commits one batch at a time of the test's choosing. `moves` are later ends of earlier records. */
function commitAt(at: string, outcomes: RecordOutcome[], moves: [RecordOutcome, RecordOutcome][] = []) {
  return test.db.transaction(async (session) => {
    await session.query(setTime, [at])
    const from = offset
    const to = from + outcomes.length
    const time = await advance(session, { ...shard, from, to, inFlight: 0, parked: 0 })
    offset = to
    const reason = (outcome: RecordOutcome) => (outcome === 'rejected' ? `r${to % 2}` : null)
    const ends = outcomes.flatMap((outcome, index) =>
      outcome === 'written' || outcome === 'filtered' ? [] : [{ offset: from + index, was: null, outcome }],
    )
    const records = [...ends, ...moves.map(([was, outcome]) => ({ offset: 0, was, outcome }))].map((record) => ({
      ...record,
      recordId: 'x',
      reason: reason(record.outcome),
      detail: null,
    }))
    const none = { inserts: [], updates: [], deletes: [], parked: [], leftKeys: [] }
    await settle(session, { ...shard, at: time, from, to, counts: countBatch(outcomes), records, ...none })
    return time
  })
}

describe('the ledger', () => {
  it('adds up to the same before and after folding, and after its days are dropped', async () => {
    await test.db.transaction(async (session) => {
      await session.query(setTime, ['2026-03-01T00:00:00Z'])
      await makeLedgerPartitions(session)
    })
    await commitAt('2026-03-01T10:00:00Z', ['written', 'rejected', 'waiting', 'waiting', 'duplicate'])
    await commitAt(
      '2026-03-01T11:00:00Z',
      ['filtered', 'dead', 'waiting'],
      [
        ['waiting', 'written'],
        ['waiting', 'rejected'],
      ],
    )
    await commitAt(
      '2026-03-02T09:00:00Z',
      ['written', 'rejected'],
      [
        ['dead', 'waiting'],
        ['waiting', 'dead'],
      ],
    )
    const before = await totals(test.db, 'lines')
    expect(before).toEqual({
      ...{
        received: 100,
        pending: 91,
        queued: 90,
        waiting: 1,
        written: 3,
        duplicate: 1,
        filtered: 1,
        rejected: 3,
        dead: 1,
      },
      rejectedByReason: { r0: 2, r1: 1 },
    })
    for (const through of ['2026-03-01T10:30:00Z', '2026-03-02T00:00:00Z', '2026-03-02T00:00:00Z']) {
      await foldLedger(test.db, new Date(through))
      expect(await totals(test.db, 'lines')).toEqual(before)
    }
    const dropped = await dropLedgerPartitions(test.db, new Date('2026-03-05T12:00:00Z'))
    expect(dropped).toEqual(['ledger_batches_20260301', 'ledger_records_20260301'])
    expect(await totals(test.db, 'lines')).toEqual(before)
    expect(await test.db.query(rowsStatement)).toEqual([{ rows: 1 }])
    expect((await test.db.query(partitionsStatement)).map(({ name }) => name)).toContain('ledger_batches_20260302')
  })

  it('never stamps a row below what was folded, whatever the clock says', async () => {
    await foldLedger(test.db, new Date('2026-03-03T00:00:00Z'))
    const before = await totals(test.db, 'lines')
    expect(await commitAt('2026-02-01T00:00:00Z', ['written'])).toEqual(new Date('2026-03-03T00:00:00Z'))
    expect(await totals(test.db, 'lines')).toEqual({ ...before, written: before.written + 1, pending: 90, queued: 89 })
  })

  it('tells of many streams in one statement what it tells of each alone, and of one without rows that there are none', async () => {
    await test.db.script(`
      insert into sluice.shards (stream, partition, topic, committed_offset) values ('other', 0, 'lines', 60), ('other', 1, 'x:y', 0);
      insert into sluice.ledger_folds
        (stream, partition, through, received, written, duplicate, filtered, rejected, dead, waiting, reasons)
      values ('other', 0, '-infinity', 50, 40, 0, 0, 7, 3, 0, '{"r0": 5, "r9": 2}');
      insert into sluice.ledger_batches
        (stream, partition, from_offset, to_offset, received, written, duplicate, filtered, rejected, dead, waiting, committed_at, reasons)
      values ('other', 0, 50, 60, 10, 8, 0, 0, 2, 0, 0, sluice.sluice_now(), '{"r0": 1, "new": 1}');
      insert into sluice.stream_operations (id, stream, act, by, detail) values (gen_random_uuid(), 'other', 'rewind', 'ada', '{}');
      insert into sluice.stream_rewinds
        (operation, stream, partition, from_offset, to_offset, received, written, duplicate, filtered, rejected, dead, waiting, reasons, at)
      select id, 'other', 0, 60, 50, 4, 1, 0, 0, 3, 0, 0, '{"r9": 2, "r0": 1}', sluice.sluice_now() from sluice.stream_operations;`)
    const none = { received: 0, pending: 0, written: 0, duplicate: 0, filtered: 0, rejected: 0, dead: 0 }
    const all = await streamTotals(test.db, ['lines', 'nothing', 'other', 'lines'])
    expect([...all.keys()].sort()).toEqual(['lines', 'nothing', 'other'])
    for (const name of all.keys()) expect(all.get(name)).toEqual(await totals(test.db, name))
    expect(all.get('nothing')).toEqual({ ...none, queued: 0, waiting: 0, rejectedByReason: {} })
    expect(all.get('other')).toEqual({
      ...{ ...none, received: 96, pending: 40, queued: 40, waiting: 0, written: 47, rejected: 6, dead: 3 },
      rejectedByReason: { new: 1, r0: 5 },
    })
    expect(await streamTotals(test.db, [])).toEqual(new Map())
  })

  it('refuses a commit from elsewhere than the committed offset, or under another epoch', async () => {
    const move = { ...shard, from: offset + 1, to: offset + 2, inFlight: 0, parked: 0 }
    await expect(advance(test.db, move)).rejects.toMatchObject({ code: 'FENCED' })
    await expect(advance(test.db, { ...move, from: offset, epoch: shard.epoch - 1 })).rejects.toMatchObject({
      code: 'FENCED',
    })
  })
})
