import { expect, it } from 'vitest'
import type { PictureFacts } from '../pictures/picture.ts'
import { addToReport, damagesOf, emptyReport, type Outcome, reportText } from './damage.ts'

const [raw, image, thumb, other] = ['a', 'b', 'c', 'd'].map((digit) => digit.repeat(64)) as [
  string,
  string,
  string,
  string,
]
const derived = [{ name: 'thumbnail', version: 2, mimeType: 'image/webp', sha256: thumb }]
const picture = { id: raw, rawSha256: raw, imageSha256: image, derived, state: 'ok' } as unknown as PictureFacts
const inline = { bytes: 10, sha256: image, inObjects: false }
const sound = async () => undefined
const faulty =
  (...hashes: string[]) =>
  async (sha256: string) =>
    hashes.includes(sha256) ? 'it is missing' : undefined

it('nothing is wrong with what is well, inline or spilled', async () => {
  expect(await damagesOf(picture, inline, sound)).toEqual([])
  expect(await damagesOf(picture, { ...inline, inObjects: true }, sound)).toEqual([])
})

it('each part that is damaged is named, with what was found', async () => {
  const parts = async (...args: Parameters<typeof damagesOf>) => (await damagesOf(...args)).map(({ part }) => part)
  expect(await parts(picture, inline, faulty(raw))).toEqual(['raw'])
  expect(await parts(picture, inline, faulty(thumb))).toEqual(['derived thumbnail@2'])
  expect(await parts(picture, undefined, faulty(raw, thumb))).toEqual(['raw', 'image', 'derived thumbnail@2'])
  expect(await damagesOf(picture, { ...inline, sha256: other }, sound)).toEqual([
    { id: raw, part: 'image', found: `it has 10 bytes whose sha256 is ${other}` },
  ])
  expect(await damagesOf(picture, 'it cannot be read', sound)).toMatchObject([{ found: 'it cannot be read' }])
  // Spilled: the object's name is right, and its bytes are not.
  expect(await parts(picture, { ...inline, inObjects: true }, faulty(image))).toEqual(['image'])
  expect(await parts({ ...picture, rawSha256: other }, inline, sound)).toEqual(['document'])
  expect(await parts({ ...picture, state: 'corrupt' }, inline, sound)).toEqual(['document'])
  expect(await parts({ ...picture, state: 'corrupt' }, inline, faulty(raw))).toEqual(['raw'])
})

it('the report counts everything and names the first 400', () => {
  const outcome = (n: number): Outcome => ({
    ...{ id: `${n}`, part: 'raw', found: 'it is missing', how: 'so' },
    outcome: n % 2 === 0 ? 'mended' : 'remains',
  })
  const report = addToReport(
    addToReport(emptyReport, 100, []),
    900,
    Array.from({ length: 501 }, (_, n) => outcome(n)),
  )
  expect(report).toMatchObject({ pictures: 1_000, damages: 501, mended: 251, remaining: 250 })
  expect(report.named).toHaveLength(400)
  const lines = reportText(report, 'R').split('\n')
  expect(lines[0]).toBe('0 raw: it is missing; mended: so')
  expect(lines.slice(-2)).toEqual([
    'and 101 more: sluice logs R',
    '1000 pictures verified: 501 damages, 251 mended, 250 remain',
  ])
  const long = Array.from({ length: 300 }, (_, n) => ({ ...outcome(n), how: 'ü'.repeat(2_000) }))
  const bounded = addToReport(addToReport(emptyReport, 1, long), 1, long)
  expect(bounded.damages).toBe(600)
  expect(bounded.named.length).toBeGreaterThan(200)
  expect(Buffer.byteLength(JSON.stringify(bounded))).toBeLessThan(262_144)
  expect(reportText({ ...emptyReport, pictures: 7 }, 'R')).toBe('7 pictures verified, all are well')
})
