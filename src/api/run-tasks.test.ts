import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { TaskPlace, TaskSummary } from '../store/reading/tasks.ts'
import { blank, comparePlaces, countStates, firstPlace, lastPlace, mergeTasks, placesAfter } from './run-tasks.ts'

/** A graph whose nodes are plain (null) or mapped with a width; -1: the list is not known. */
const graphs = fc.array(fc.option(fc.integer({ min: -1, max: 6 })), { maxLength: 6 }).map((widths) => ({
  nodes: widths.map((width) => (width === null ? {} : { over: [] })),
  widths: new Map(widths.flatMap((width, node) => (width !== null && width >= 0 ? [[node, width] as const] : []))),
}))

const all = 10_000

describe('the tasks of a run', () => {
  it('are met once each, in order, however they are paged and whatever rows there are', () => {
    fc.assert(
      fc.property(
        graphs,
        fc.integer({ min: 1, max: 7 }),
        fc.infiniteStream(fc.boolean()),
        ({ nodes, widths }, limit, coin) => {
          const places = placesAfter(nodes, widths, firstPlace, all)
          const rows: TaskSummary[] = places.flatMap((place) => (coin.next().value ? [blank(place, 'running')] : []))
          const found: TaskSummary[] = []
          for (let after = firstPlace; ; ) {
            const page = pageAfter(nodes, widths, rows, after, limit + 1)
            found.push(...page.slice(0, limit))
            if (page.length <= limit) break
            after = page[limit - 1] as TaskPlace
          }
          expect(found.map(({ node, mapIndex }) => [node, mapIndex])).toEqual(
            places.map(({ node, mapIndex }) => [node, mapIndex]),
          )
          expect(found.filter((task) => task.state === 'running')).toEqual(rows)
        },
      ),
    )
  })

  it('show rows that the graph does not have', () => {
    const stray = blank({ node: 0, mapIndex: 7 }, 'removed')
    expect(mergeTasks([{ node: 0, mapIndex: -1 }], [stray], 'none')).toEqual([
      blank({ node: 0, mapIndex: -1 }, 'none'),
      stray,
    ])
  })

  it('are counted as they are listed', () => {
    fc.assert(
      fc.property(graphs, fc.infiniteStream(fc.boolean()), ({ nodes, widths }, coin) => {
        const places = placesAfter(nodes, widths, firstPlace, all)
        const started = places.filter(() => coin.next().value)
        const rows = started.map(({ node }) => ({ node, state: 'success' as const, count: 1 }))
        const counts = countStates(nodes, widths, rows, 'none')
        expect(counts.success ?? 0).toBe(started.length)
        expect(counts.none ?? 0).toBe(places.length - started.length)
      }),
    )
  })
})

function pageAfter(
  nodes: readonly { over?: never[] }[],
  widths: ReadonlyMap<number, number>,
  rows: readonly TaskSummary[],
  after: TaskPlace,
  limit: number,
): TaskSummary[] {
  const places = placesAfter(nodes, widths, after, limit)
  const last = places.length === limit ? (places.at(-1) as TaskPlace) : lastPlace
  const inRange = rows.filter((row) => comparePlaces(row, after) > 0 && comparePlaces(row, last) <= 0)
  return mergeTasks(places, inRange.slice(0, limit), 'none').slice(0, limit)
}
