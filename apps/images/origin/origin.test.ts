import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sampleCatalog } from './make-sample.ts'
import { type Origin, startOrigin } from './origin.ts'

let origin: Origin
beforeAll(async () => {
  origin = await startOrigin()
})
afterAll(() => origin.close())

const get = (path: string) => fetch(origin.url + path, { redirect: 'manual' })
const bytesOf = async (path: string) => Buffer.from(await (await get(path)).arrayBuffer())
const levelsOf = (jpeg: Buffer) => sharp(jpeg).raw().toBuffer()

describe('pictures', () => {
  it.each([
    [1, 1],
    [64, 64],
    [640, 480],
    [1_500, 1_000],
    [5_000, 3],
  ])('of %i by %i are textured JPEGs, the same every time', async (width, height) => {
    const answer = await get(`/${width}/${height}`)
    const jpeg = Buffer.from(await answer.arrayBuffer())
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toBe('image/jpeg')
    expect(Number(answer.headers.get('content-length'))).toBe(jpeg.length)
    expect(answer.headers.get('etag')).toMatch(/^"[0-9a-f]{32}"$/)
    expect(await sharp(jpeg).metadata()).toMatchObject({ format: 'jpeg', width, height, channels: 3 })
    expect((jpeg.length * 8) / (width * height)).toBeGreaterThanOrEqual(0.5)
    const other = await startOrigin()
    expect(Buffer.from(await (await fetch(`${other.url}/${width}/${height}`)).arrayBuffer()).equals(jpeg)).toBe(true)
    await other.close()
  })

  it('of one size differ by seed, in bytes and in pixels', async () => {
    const made = await Promise.all(Array.from({ length: 20 }, (_, seed) => bytesOf(`/64/48?seed=${seed}`)))
    expect(new Set(made.map((jpeg) => jpeg.toString('base64'))).size).toBe(20)
    const [one, two] = await Promise.all(made.slice(0, 2).map(levelsOf))
    const differing = one!.filter((level, at) => Math.abs(level - two![at]!) > 2).length
    expect(differing / one!.length).toBeGreaterThan(0.5)
  })

  it('may be grey', async () => {
    expect(await sharp(await bytesOf('/40/30?grayscale')).metadata()).toMatchObject({ channels: 1 })
  })

  it.each(['/', '/error/100', '/5001/10', '/10/5001', '/0/10', '/10', '/1/2/3', '/a/b', '/1000000/100000', '/-1/5'])(
    'there are none at %s',
    async (path) => {
      expect((await get(path)).status).toBe(404)
    },
  )

  it('can be made beforehand, within the memory that is given', async () => {
    const small = await startOrigin({ cacheBytes: 20_000 })
    const lines = Array.from({ length: 30 }, (_, seed) => `https://picsum.photos/100/100?seed=${seed}`)
    const answer = await fetch(`${small.url}/prepare`, { method: 'POST', body: [...lines, '', '/error/1'].join('\n') })
    const { prepared, held } = (await answer.json()) as { prepared: number; held: { pictures: number; bytes: number } }
    expect(prepared).toBe(30)
    expect(held.pictures).toBeGreaterThan(1)
    expect(held.bytes).toBeLessThanOrEqual(20_000)
    await small.close()
  })
})

describe('the sample catalog', () => {
  it('has the composition of a real one, and is the file in the repository', async () => {
    const text = sampleCatalog()
    expect(await readFile(new URL('../sample/urls.txt', import.meta.url), 'utf8')).toBe(text)
    const lines = text.split('\n')
    expect(lines).toHaveLength(650)
    expect(new Set(lines).size).toBe(551)
    expect(lines.filter((line) => line.endsWith('/error/100'))).toHaveLength(50)
  })

  it('is answered with 500 different pictures and 404 for the rest', async () => {
    const distinct = [...new Set(sampleCatalog().split('\n'))].map((line) => line.replace('https://picsum.photos', ''))
    const hashes = new Set<string>()
    let missing = 0
    for (let from = 0; from < distinct.length; from += 20) {
      await Promise.all(
        distinct.slice(from, from + 20).map(async (path) => {
          const answer = await get(path)
          const bytes = Buffer.from(await answer.arrayBuffer())
          if (answer.status === 200) hashes.add(createHash('sha256').update(bytes).digest('hex'))
          else missing += 1
        }),
      )
    }
    expect({ pictures: hashes.size, missing }).toEqual({ pictures: 500, missing: 51 })
  })
})

describe('switches', () => {
  it('status and retry-after', async () => {
    const answer = await get('/10/10?status=429&retry-after=3')
    expect(answer.status).toBe(429)
    expect(answer.headers.get('retry-after')).toBe('3')
  })

  it('redirect', async () => {
    const answer = await get(`/10/10?redirect=${encodeURIComponent('http://169.254.169.254/x')}`)
    expect(answer.status).toBe(302)
    expect(answer.headers.get('location')).toBe('http://169.254.169.254/x')
  })

  it('truncate breaks the answer off, cut shortens the picture', async () => {
    await expect(bytesOf('/300/300?truncate=60')).rejects.toThrow()
    const whole = await bytesOf('/300/300')
    expect((await bytesOf('/300/300?cut=60')).equals(whole.subarray(0, Math.floor(whole.length * 0.6)))).toBe(true)
  })

  it('type', async () => {
    expect((await get('/10/10?type=html')).headers.get('content-type')).toBe('text/html')
  })

  it('flaky fails the first requests of exactly this URL', async () => {
    const statuses: number[] = []
    for (let round = 0; round < 4; round += 1) statuses.push((await get('/10/10?flaky=2')).status)
    expect(statuses).toEqual([503, 503, 200, 200])
    expect((await get('/10/11?flaky=1')).status).toBe(503)
  })

  it('flaky takes another status, and says when it was asked', async () => {
    const path = '/10/12?flaky=1&status=429&retry-after=3'
    const before = Date.now()
    const [first, second] = [await get(path), await get(path)]
    expect([first.status, first.headers.get('retry-after')]).toEqual([429, '3'])
    expect([second.status, second.headers.get('retry-after')]).toEqual([200, null])
    const asked = ((await (await get('/asked')).json()) as Record<string, number[]>)[path]!
    expect([before, ...asked, Date.now()]).toEqual([before, ...asked, Date.now()].sort((a, b) => a - b))
    expect(asked).toHaveLength(2)
  })

  it('type=huge is a small PNG that says it has 2,500,000,000 pixels', async () => {
    const bytes = Buffer.from(await (await get('/10/10?type=huge')).arrayBuffer())
    const { width, height } = await sharp(bytes, { limitInputPixels: false }).metadata()
    expect([width, height, bytes.length]).toEqual([50_000, 50_000, 65])
  })

  it('slow leaves the others alone, and ends with its client', async () => {
    const leave = new AbortController()
    const slow = fetch(`${origin.url}/10/10?slow=30s`, { signal: leave.signal })
    expect((await get('/10/10')).status).toBe(200)
    leave.abort()
    await expect(slow).rejects.toThrow()
    expect((await get('/10/10?slow=5ms')).status).toBe(200)
  })

  it('other methods are refused', async () => {
    expect((await fetch(`${origin.url}/10/10`, { method: 'DELETE' })).status).toBe(405)
    expect((await fetch(`${origin.url}/10/10`, { method: 'HEAD' })).status).toBe(200)
  })
})

describe('the process', () => {
  const start = async (...args: string[]): Promise<{ child: ChildProcess; url: string }> => {
    const child = spawn(process.execPath, [fileURLToPath(new URL('main.ts', import.meta.url)), ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const [line] = await once(child.stdout, 'data')
    return { child, url: JSON.parse(String(line)).url }
  }

  it('says where it is, with everything prepared, and ends when its parent is gone', async () => {
    const sample = fileURLToPath(new URL('../sample/urls.txt', import.meta.url))
    const { child, url } = await start('--port', '0', '--prepare', sample)
    expect((await fetch(`${url}/100/75`)).status).toBe(200)
    child.stdin?.end()
    expect(await once(child, 'exit')).toEqual([0, null])
  })

  it('ends on SIGTERM', async () => {
    const { child } = await start()
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
  })
})
