import { execFileSync } from 'node:child_process'
import { appendFile, chmod, mkdtemp, rename, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { keepRested } from './arrive.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'images-arrive-'))
})
afterAll(() => rm(folder, { recursive: true }))

async function oldFile(name: string, text = 'http://a/1'): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, text)
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

  it('has all of a file that vanishes while it is kept', async () => {
    const path = await oldFile('d.txt')
    const keep = async () => {
      await rm(path)
      return kept
    }
    expect(await keepRested(path, keep, never)).toEqual({ ...kept, rested: true })
  })

  it.each([
    ['shrinks', (path: string) => truncate(path, 3)],
    ['is emptied', (path: string) => truncate(path)],
    ['is replaced', async (path: string) => rename(await oldFile('other.txt', 'http://b/12'), path)],
  ])('sees that the file %s while it is kept', async (_, change) => {
    const path = await oldFile('e.txt')
    const keep = async () => {
      await change(path)
      return kept
    }
    expect(await keepRested(path, keep, never)).toMatchObject({ rested: false })
  })

  it('refuses what is no file, without opening it', async () => {
    const pipe = join(folder, 'pipe.txt')
    execFileSync('sh', ['-c', 'mkfifo "$0"', pipe])
    for (const path of [folder, pipe, '/dev/zero']) {
      await expect(keepRested(path, async () => expect.fail('opened'), never)).rejects.toMatchObject({
        code: 'INVALID_INPUT',
        message: `${path} is no file`,
      })
    }
  })

  it('names a file that may not be read', async () => {
    const path = await oldFile('f.txt')
    await chmod(path, 0)
    await chmod(folder, 0o755)
    // Root may read all, so it is somebody else for a moment.
    const root = process.getuid?.() === 0
    if (root) process.seteuid?.(65_534)
    try {
      await expect(keepRested(path, async () => kept, never)).rejects.toThrow(`${path} cannot be read (EACCES)`)
    } finally {
      if (root) process.seteuid?.(0)
    }
  })

  it('names a file that is not there', async () => {
    await expect(keepRested(join(folder, 'none.txt'), async () => kept, never)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
  })
})
