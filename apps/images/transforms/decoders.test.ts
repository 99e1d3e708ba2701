import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterEach, describe, expect, it } from 'vitest'
import { Decoders, type DecodersOptions } from './decoders.ts'
import { grayscale } from './grayscale.ts'
import { manyScans } from './hostile.fixture.ts'
import { hostile } from './hostile-decoder.fixture.ts'
import { ImageError } from './image-error.ts'
import { inspect } from './inspect.ts'
import { main } from './registry.ts'

const picture = (seed: number, side = 64) =>
  sharp({ create: { width: side + seed, height: 48, channels: 3, background: { r: seed, g: 90, b: 200 } } })
    .jpeg()
    .toBuffer()

const open: Decoders[] = []
function decoders(options: DecodersOptions = {}): Decoders {
  const made = new Decoders(options)
  open.push(made)
  return made
}
afterEach(() => {
  for (const one of open.splice(0)) one.close()
})

const program = join(import.meta.dirname, 'hostile-decoder.fixture.ts')
const { dies, hangs, spins, fails, sound } = hostile

describe('decoders', () => {
  it('give what the transform itself gives, however many pictures come at once', async () => {
    const pool = decoders()
    const raws = await Promise.all(Array.from({ length: 12 }, (_, seed) => picture(seed)))
    const turned = await Promise.all(raws.map((raw) => pool.turn(raw, [main])))
    for (const [at, raw] of raws.entries()) {
      const facts = await inspect(raw)
      expect(turned[at]).toEqual({ facts, made: [await main.apply(raw, facts)] })
    }
    expect(Buffer.isBuffer(turned[0]!.made[0]!.bytes)).toBe(true)
  })

  it('make several things of one picture, in order, or only look at it', async () => {
    const pool = decoders({ program, processes: 1 })
    const raw = await picture(1)
    const { facts, made } = await pool.turn(raw, [sound, grayscale()])
    expect(made.map(({ bytes }) => bytes.subarray(0, 5).toString('latin1'))).toEqual(['sound', '\x89PNG\r'])
    expect(await pool.turn(raw, [])).toEqual({ facts, made: [] })
  })

  it('say why bytes are refused, and go on', async () => {
    const pool = decoders({ processes: 1 })
    const raw = await picture(1)
    const cut = raw.subarray(0, raw.length - 200)
    await expect(pool.turn(cut, [main])).rejects.toMatchObject({ name: 'ImageError', reason: 'corrupt' })
    await expect(pool.turn(Buffer.from('<html>'), [main])).rejects.toMatchObject({ reason: 'not an image' })
    expect((await pool.turn(raw, [main])).facts.width).toBe(65)
  })

  it('fail, and do not hang, for a transform that they do not know or that fails', async () => {
    const pool = decoders({ program, processes: 1 })
    const raw = await picture(2)
    const stranger = { ...grayscale(), name: 'stranger' }
    await expect(pool.turn(raw, [stranger])).rejects.toThrow('no transform is named stranger@1')
    await expect(pool.turn(raw, [fails])).rejects.toThrow('a fault of the transform')
    await expect(pool.turn(raw, [fails])).rejects.not.toBeInstanceOf(ImageError)
  })
})

describe('a picture that ends its decoder', () => {
  it('is corrupt after three tries, and costs no other picture anything', async () => {
    const pool = decoders({ program, processes: 2 })
    const raws = await Promise.all(Array.from({ length: 10 }, (_, seed) => picture(seed)))
    const all = raws.map((raw, at) => pool.turn(raw, [at % 5 === 2 ? dies : sound]).catch((error: ImageError) => error))
    for (const [at, end] of (await Promise.all(all)).entries()) {
      if (at % 5 !== 2) expect(end).toMatchObject({ made: [{ width: 1 }] })
      else {
        expect(end).toMatchObject({ name: 'ImageError', reason: 'corrupt' })
        expect((end as ImageError).detail).toBe('its decoder ended 3 times: it ended by SIGSEGV')
      }
    }
  })

  it('or that takes too long, waiting or computing, is corrupt when it was alone', async () => {
    const pool = decoders({ program, processes: 2, limitMs: 3_000 })
    const raw = await picture(1)
    const [sounds, ...slow] = await Promise.all(
      [sound, hangs, spins].map((one) => pool.turn(raw, [one]).catch((error: ImageError) => error)),
    )
    expect(sounds).toMatchObject({ made: [{ width: 1 }] })
    const detail = 'its decoder ended 2 times: it took longer than 3000 ms'
    for (const end of slow) expect(end).toMatchObject({ name: 'ImageError', reason: 'corrupt', detail })
  })

  it('is not the picture’s fault when no decoder can start', async () => {
    const pool = decoders({ program: '/nowhere/decoder.ts', processes: 1 })
    const ends = await Promise.allSettled([1, 2, 3].map(async (seed) => pool.turn(await picture(seed), [main])))
    for (const end of ends) {
      expect(end).toMatchObject({
        status: 'rejected',
        reason: { message: expect.stringMatching(/it ended with code 1/) },
      })
      expect((end as PromiseRejectedResult).reason).not.toBeInstanceOf(ImageError)
    }
  })
})

it('a picture that nobody waits for any more is not decoded', async () => {
  const pool = decoders({ program, processes: 1, limitMs: 60_000 })
  const raw = await picture(1)
  const blocking = [pool.turn(raw, [hangs]), pool.turn(raw, [hangs])].map((end) => end.catch((error: Error) => error))
  const cancelled = new AbortController()
  const waiting = pool.turn(raw, [dies], cancelled.signal)
  cancelled.abort(new Error('cancelled'))
  await expect(waiting).rejects.toThrow('cancelled')
  await expect(pool.turn(raw, [sound], cancelled.signal)).rejects.toThrow('cancelled')
  pool.close()
  for (const end of await Promise.all(blocking)) expect(end).toBeInstanceOf(Error)
  await expect(pool.turn(raw, [sound])).rejects.toThrow('closed')
})

describe('large pictures', () => {
  it('go one after the other over all decoders, and small ones pass them', async () => {
    const pool = decoders({ program, processes: 2 })
    const [large, tiny] = [manyScans(7_000, 1), await picture(1)]
    const spans = async (raw: Buffer) => {
      const { made } = await pool.turn(raw, [hostile.naps])
      return JSON.parse(made[0]!.bytes.toString()) as [number, number]
    }
    await Promise.all([spans(tiny), spans(tiny)])
    const [first, second, third, passing] = await Promise.all([large, large, large, tiny].map(spans))
    const inTurn = [first!, second!, third!].sort(([one], [other]) => one - other)
    expect(inTurn[0]![1]).toBeLessThanOrEqual(inTurn[1]![0])
    expect(inTurn[1]![1]).toBeLessThanOrEqual(inTurn[2]![0])
    expect(passing![0]).toBeLessThan(inTurn[2]![0])
  })

  it('take bounded memory', { timeout: 120_000 }, async () => {
    // libjpeg keeps the coefficients of all pixels. The file has 120 kB.
    const pool = decoders({ program, processes: 1, limitMs: 120_000 })
    const { made } = await pool.turn(manyScans(7_000, 12), [grayscale(), hostile.tellsMemory])
    expect(made[0]).toMatchObject({ width: 7_000, height: 7_000 })
    expect(Number(made[1]!.bytes.toString())).toBeLessThan(1_000)
  })
})

it.skipIf(process.platform !== 'linux')(
  'nothing of this process is passed on to a decoder (seen on Linux)',
  async () => {
    const pool = decoders({ program, processes: 1 })
    const { made } = await pool.turn(await picture(1), [hostile.tellsProcess])
    const { pid } = JSON.parse(made[0]!.bytes.toString()) as { pid: number }
    expect(await readFile(`/proc/${pid}/environ`, 'utf8')).toBe('MALLOC_ARENA_MAX=2\0')
    expect(Number(await readFile(`/proc/${pid}/oom_score_adj`, 'utf8'))).toBe(500)
  },
)

it('a decoder ends with the process that started it, however that ends', async () => {
  const script = `
    const { Decoders } = await import(${JSON.stringify(join(import.meta.dirname, 'decoders.ts'))})
    const { hostile } = await import(${JSON.stringify(program)})
    const pool = new Decoders({ program: ${JSON.stringify(program)}, processes: 1 })
    const raw = Buffer.from(${JSON.stringify((await picture(1)).toString('base64'))}, 'base64')
    const { made } = await pool.turn(raw, [hostile.tellsProcess])
    process.stdout.write(made[0].bytes)
    await pool.turn(raw, [hostile.hangs])`
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [told] = await once(parent.stdout, 'data')
  const decoder = JSON.parse(String(told)) as { pid: number; parent: number }
  expect(decoder.parent).toBe(parent.pid)
  expect(isAlive(decoder.pid)).toBe(true)
  parent.kill('SIGKILL')
  await expect.poll(() => isAlive(decoder.pid), { timeout: 20_000 }).toBe(false)
})

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
