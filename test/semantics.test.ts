/** docs/semantics.md says what the code says, and names tests that are there. `DRAW=1` draws its tables anew. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { drawings, drawn } from './draw-semantics.ts'

const root = join(import.meta.dirname, '..')
const path = join(root, 'docs/semantics.md')
if (process.env.DRAW === '1') writeFileSync(path, drawn(readFileSync(path, 'utf8')))
const page = readFileSync(path, 'utf8')

describe('docs/semantics.md', () => {
  it('has its tables as the code draws them (DRAW=1 draws them anew)', () => {
    // How wide the columns are is the formatter's matter.
    const plain = (text: string) => text.replace(/ +/g, ' ').replace(/-{3,}/g, '---')
    expect(plain(page)).toBe(plain(drawn(page)))
    for (const name of Object.keys(drawings)) expect(page).toContain(`<!-- drawn: ${name} -->`)
  })

  it('names tests that are there', () => {
    const named = [...page.matchAll(/`([\w/.-]+\.test\.ts)`(?: "([^"]+)")?/g)]
    expect(named.length).toBeGreaterThan(40)
    const missing = named.flatMap(([, file, title]) => {
      const text = readFileSync(join(root, file!), 'utf8')
      return title === undefined || text.includes(title) ? [] : [`${file}: ${title}`]
    })
    expect(missing).toEqual([])
  })
})
