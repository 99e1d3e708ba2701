import { describe, expect, it } from 'vitest'
import { addSource, maxSourcesBytes, type PictureFacts } from './picture.ts'

const picture = { sources: [], sourcesOmitted: 0 } as unknown as PictureFacts

describe('addSource', () => {
  it('adds each line once', () => {
    const one = { url: 'http://a/', catalog: 'c', line: 1 }
    const twice = addSource(addSource(picture, one), one)
    expect(twice.sources).toEqual([one])
    expect(addSource(twice, { ...one, line: 2 }).sources).toHaveLength(2)
  })

  it('counts what has no room, so that a document stays storable', () => {
    const url = `http://a/${'x'.repeat(8_000)}`
    let document = picture
    for (let line = 1; line <= 120; line += 1) document = addSource(document, { url, catalog: 'c', line })
    expect(document.sources.length + document.sourcesOmitted).toBe(120)
    expect(document.sourcesOmitted).toBeGreaterThan(0)
    expect(JSON.stringify(document.sources).length).toBeLessThanOrEqual(maxSourcesBytes)
  })
})
