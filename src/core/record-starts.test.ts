import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type PublishedRecord, recordStarts } from './record-starts.ts'

const record = (partition: number, offset: number, value: unknown = {}, publishedAt = 0): PublishedRecord => ({
  ...{ partition, offset, id: `${partition}:${offset}`, key: null, value: JSON.stringify(value), publishedAt },
})
const ids = (starts: ReturnType<typeof recordStarts>['starts']) =>
  starts.map(({ records }) => records.map(({ id }) => id))

describe('recordStarts', () => {
  it('starts a run for each record', () => {
    const { starts, cursors, wakeAt } = recordStarts({}, [record(0, 4), record(1, 9), record(0, 5)], 10, false)
    expect(ids(starts)).toEqual([['0:4'], ['1:9'], ['0:5']])
    expect([...cursors]).toEqual([
      [0, 6],
      [1, 10],
    ])
    expect(wakeAt).toBeUndefined()
  })

  it('passes what does not match', () => {
    const match = { 'customer.country': ['FR', 'DE'], paid: [true] }
    const values = [
      { customer: { country: 'FR' }, paid: true },
      { customer: { country: 'US' }, paid: true },
      { paid: true },
      7,
      null,
    ]
    const records = values.map((value, offset) => record(0, offset, value))
    const { starts, cursors } = recordStarts({ match }, records, 0, false)
    expect([ids(starts), cursors.get(0)]).toEqual([[['0:0']], 5])
  })

  it('finds no fields that records inherit', () => {
    expect(recordStarts({ match: { 'constructor.name': ['Object'] } }, [record(0, 0)], 0, false).starts).toEqual([])
  })

  const batch = { records: 2, withinMs: 100 }
  it('waits for a batch to be full, or its oldest record to have waited', () => {
    const three = [record(0, 0, {}, 10), record(1, 0, {}, 5), record(0, 1, {}, 50)]
    const early = recordStarts({ batch }, three, 149, false)
    expect([ids(early.starts), [...early.cursors], early.wakeAt]).toEqual([
      [['0:0', '1:0']],
      [
        [0, 1],
        [1, 1],
      ],
      150,
    ])
    const late = recordStarts({ batch }, three, 150, false)
    expect([ids(late.starts), [...late.cursors], late.wakeAt]).toEqual([
      [['0:0', '1:0'], ['0:1']],
      [
        [0, 2],
        [1, 1],
      ],
      undefined,
    ])
    expect(late.starts.map(({ dueAt }) => dueAt)).toEqual([10, 150])
  })

  it('starts a batch that is not full when no more can be read', () => {
    expect(ids(recordStarts({ batch }, [record(0, 0)], 0, true).starts)).toEqual([['0:0']])
  })

  it('has each record in one start, in order, however it is read', () => {
    const cases = fc.record({
      lanes: fc.array(fc.array(fc.record({ a: fc.integer({ min: 0, max: 2 }), at: fc.nat(300) }), { maxLength: 12 }), {
        minLength: 1,
        maxLength: 3,
      }),
      batch: fc.option(
        fc.record({ records: fc.integer({ min: 1, max: 4 }), withinMs: fc.integer({ min: 1, max: 200 }) }),
        { nil: undefined },
      ),
      match: fc.option(fc.constant({ a: [0, 1] }), { nil: undefined }),
      size: fc.integer({ min: 1, max: 7 }),
      steps: fc.array(fc.nat(200), { maxLength: 12 }),
    })
    fc.assert(
      fc.property(cases, ({ lanes, batch, match, size, steps }) => {
        const plan = { ...(batch && { batch }), ...(match && { match }) }
        const all = lanes.map((lane, partition) =>
          lane.map(({ a, at }, offset) => record(partition, offset, { a }, at)),
        )
        const cursors = lanes.map(() => 0)
        const started: string[] = []
        let now = 0
        for (const step of [...steps, 1_000, 0, 0, 0, 0, 0, 0, 0, 0]) {
          now += step
          for (let full = true; full; ) {
            const there = all.map((lane, partition) =>
              lane.filter(({ offset, publishedAt }) => offset >= cursors[partition]! && publishedAt <= now),
            )
            // Records become visible in order.
            const seen = there.map((lane, partition) =>
              lane.filter(({ offset }, index) => offset === cursors[partition]! + index),
            )
            const turns = Math.max(0, ...seen.map(({ length }) => length))
            const ordered = Array.from({ length: turns }, (_, index) =>
              seen.flatMap((lane) => lane[index] ?? []),
            ).flat()
            const read = ordered.slice(0, size)
            full = read.length === size
            const made = recordStarts(plan, read, now, full)
            for (const [partition, next] of made.cursors) {
              expect(next).toBeGreaterThanOrEqual(cursors[partition]!)
              cursors[partition] = next
            }
            started.push(...ids(made.starts).flat())
            if (batch) for (const { records } of made.starts) expect(records.length).toBeLessThanOrEqual(batch.records)
          }
        }
        const wanted = all.flat().filter(({ value }) => match === undefined || JSON.parse(value).a < 2)
        expect([...started].sort()).toEqual(wanted.map(({ id }) => id).sort())
        for (const [partition] of lanes.entries()) {
          const own = started.filter((id) => id.startsWith(`${partition}:`)).map((id) => Number(id.split(':')[1]))
          expect(own).toEqual([...own].sort((a, b) => a - b))
        }
      }),
    )
  })
})
