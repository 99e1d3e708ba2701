import { describe, expect, it } from 'vitest'
import { addSource, lacking, maxSourcesBytes, objectsOf, type PictureFacts, withDerived } from './picture.ts'

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

describe('what is derived', () => {
  const entry = (name: string, version: number, sha256: string) => ({ name, version, mimeType: 'image/webp', sha256 })
  const grey = { name: 'grey', version: 1 }
  const document = { transform: grey, rawSha256: 'raw', derived: [entry('small', 1, 'a')] }

  it('is lacking when neither the image nor an entry is of that name and version', () => {
    const all = [grey, { name: 'grey', version: 2 }, { name: 'small', version: 1 }, { name: 'small', version: 2 }]
    expect(lacking(document, all)).toEqual([all[1], all[3]])
    expect(lacking(document, [])).toEqual([])
  })

  it('stands beside other versions, in the place of the same one', () => {
    const more = withDerived(withDerived(document, entry('small', 2, 'b')), entry('other', 1, 'c'))
    expect(more.derived.map(({ sha256 }) => sha256)).toEqual(['a', 'b', 'c'])
    const again = withDerived(more, entry('small', 1, 'd'))
    expect(again.derived.map(({ sha256 }) => sha256)).toEqual(['d', 'b', 'c'])
    expect(withDerived(again, entry('small', 1, 'd'))).toEqual(again)
    expect([...objectsOf(again)]).toEqual(['raw', 'd', 'b', 'c'])
  })
})
