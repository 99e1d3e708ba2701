import { describe, expect, it } from 'vitest'
import { datasetStarts, type WrittenVersion } from './dataset-starts.ts'

const version = (dataset: string, number: number, workflow: string | null = 'writer'): WrittenVersion => ({
  ...{ dataset, version: number, at: number, workflow },
})
const taken = ({ starts, cursors }: ReturnType<typeof datasetStarts>) => [
  starts.map(({ versions }) => versions.map((one) => `${one.dataset}@${one.version}`).join()),
  Object.fromEntries(cursors),
]

describe('datasetStarts', () => {
  const any = { datasets: ['a', 'b'], when: 'any' } as const
  const all = { datasets: ['a', 'b'], when: 'all' } as const

  it('any: each version starts a run', () => {
    const written = [version('a', 3), version('b', 1), version('a', 4)]
    expect(taken(datasetStarts(any, 'w', written))).toEqual([['a@3', 'b@1', 'a@4'], { a: 4, b: 1 }])
  })

  it('one dataset: each version starts a run', () => {
    expect(taken(datasetStarts({ datasets: ['a'], when: 'all' }, 'w', [version('a', 1), version('a', 2)]))).toEqual([
      ['a@1', 'a@2'],
      { a: 2 },
    ])
  })

  it('all: waits for each, then takes the newest of each', () => {
    expect(taken(datasetStarts(all, 'w', [version('a', 3), version('a', 4)]))).toEqual([[], {}])
    expect(taken(datasetStarts(all, 'w', [version('a', 4), version('b', 1), version('a', 3)]))).toEqual([
      ['a@4,b@1'],
      { a: 4, b: 1 },
    ])
  })

  it('passes what its own runs wrote', () => {
    expect(taken(datasetStarts(any, 'w', [version('a', 3, 'w'), version('a', 4, null)]))).toEqual([['a@4'], { a: 4 }])
    expect(taken(datasetStarts(all, 'w', [version('a', 3, 'w'), version('b', 1)]))).toEqual([[], { a: 3 }])
  })
})
