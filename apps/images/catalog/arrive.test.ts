import { appendFile, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { keepRested } from './arrive.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'images-arrive-'))
})
afterAll(() => rm(folder, { recursive: true }))

async function oldFile(name: string): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, 'http://a/1')
  const anHourAgo = new Date(Date.now() - 3_600_000)
  await utimes(path, anHourAgo, anHourAgo)
  return path
}

const never = new AbortController().signal
const kept = { sha256: '00', bytes: 10 }

describe('keepRested', () => {
  it('takes a file at rest', async () => {
    expect(await keepRested(await oldFile('a.txt'), async () => kept, never)).toEqual({ ...kept, rested: true })
  })

  it('sees that the file changed while it was kept', async () => {
    const path = await oldFile('b.txt')
    const keep = async () => {
      await appendFile(path, '23')
      return kept
    }
    expect(await keepRested(path, keep, never)).toEqual({ ...kept, rested: false })
  })

  it('waits for a file that has just changed, and not once it is told to stop', async () => {
    const path = join(folder, 'c.txt')
    await writeFile(path, 'http://a/1')
    const stop = new AbortController()
    const keeping = keepRested(path, async () => kept, stop.signal)
    stop.abort(new Error('stopped'))
    await expect(keeping).rejects.toThrow()
  })

  it('names a file that is not there', async () => {
    await expect(keepRested(join(folder, 'none.txt'), async () => kept, never)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
  })
})
