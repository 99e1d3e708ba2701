/** What the API answers, as schemas: for its documentation, and checked before it is sent. */
import { z } from 'sluice'

const sha256 = z.string().meta({ description: 'sha256, lower-case hex' })
export const pictureId = z
  .string()
  .regex(/^[0-9a-f]{64}$/, 'is not an id: 64 lower-case hex digits')
  .meta({
    description: 'sha256 of the raw bytes',
    example: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
  })
const time = z.string().meta({ description: 'RFC 3339, UTC', example: '2026-03-28T00:00:00.000Z' })

export const pictureStates = ['ok', 'warning', 'corrupt'] as const

export const pictureShape = z.object({
  id: sha256.meta({ description: 'sha256 of the raw bytes' }),
  mimeType: z.string().meta({ description: 'Of the grey image', example: 'image/png' }),
  rawMimeType: z.string().meta({ example: 'image/jpeg' }),
  frames: z.int().default(1).meta({ description: 'Of an animation, or pages; the first is shown' }),
  width: z.int().meta({ description: 'Pixels, the orientation applied', example: 640 }),
  height: z.int().meta({ description: 'Pixels, the orientation applied', example: 480 }),
  bytes: z.int().meta({ description: 'Of the raw picture', example: 48_211 }),
  sources: z
    .array(z.object({ url: z.string(), catalog: z.string(), line: z.int() }))
    .readonly()
    .meta({ description: 'Every URL and catalog line that led here' }),
  sourcesOmitted: z.int().meta({ description: 'Lines that led here beyond the 768 KiB that sources may take' }),
  insertedAt: time,
  fetchedAt: time,
  transform: z
    .object({ name: z.string(), version: z.int() })
    .meta({ example: { name: 'grayscale-bt601', version: 1 } }),
  rawSha256: sha256,
  imageSha256: sha256,
  derived: z
    .array(z.object({ name: z.string(), version: z.int(), mimeType: z.string(), sha256 }))
    .readonly()
    .meta({ description: 'One entry for each further transform' }),
  perceptualHash: z
    .string()
    .nullable()
    .meta({ description: 'Advisory; null where the picture is flat', example: 'c3f0e1b2a4968778' }),
  http: z.object({
    status: z.int(),
    url: z.string().meta({ description: 'After redirects' }),
    redirects: z.int(),
    contentType: z.string().nullable(),
    etag: z.string().nullable(),
    lastModified: z.string().nullable(),
    totalMs: z.int(),
    firstByteMs: z.int(),
  }),
  state: z.enum(pictureStates).meta({
    description:
      'warning: the decoder complained, yet gave all pixels; corrupt: the raw bytes are damaged in the store',
  }),
  warning: z.string().nullable().meta({ description: 'What is wrong where the state is not ok' }),
})

export const similarPictureShape = pictureShape.extend({
  distance: z.int().optional().meta({ description: 'With similarTo: bits of 64 in which the hashes differ' }),
})

export const pictureWithImageShape = pictureShape.extend({
  image: z.string().meta({ description: 'The grey image, base64', contentEncoding: 'base64' }),
})

export const catalogShape = z.object({
  name: z.string().meta({ example: 'birds' }),
  version: sha256.meta({ description: 'sha256 of the file that was read last' }),
  bytes: z.int(),
  lines: z.int().meta({ description: 'Lines that count', example: 650 }),
  blank: z.int().meta({ description: 'Of the lines; these are no records' }),
  malformed: z.int().meta({ description: 'Of the lines; these are rejected' }),
  generation: z.int().meta({ description: 'Grows when processed lines changed, or all were asked for again' }),
  unfinished: z.boolean().meta({ description: 'The last line has no LF and the file was still changing' }),
  versions: z
    .array(z.object({ sha256, bytes: z.int(), at: time }))
    .readonly()
    .meta({ description: 'The last 20, newest first' }),
  insertedAt: time,
  updatedAt: time,
})

export const startedShape = z.object({
  runId: z.string().meta({ description: 'See /api/v1/runs/{id}', example: '0199c7a8-5f2e-7c31-9d0a-5b8000000000' }),
  name: z.string().meta({ example: 'birds' }),
  sha256,
  bytes: z.int(),
})
