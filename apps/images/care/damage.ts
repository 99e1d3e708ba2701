/** What verification finds and says. Deciding alone: it reads nothing. */
import type { StoredField } from 'sluice'
import { z } from 'sluice'
import type { PictureFacts } from '../pictures/picture.ts'
import { nameOf } from '../transforms/transform.ts'

export const damageShape = z.object({
  /** Of the picture. */
  id: z.string(),
  /** `raw`, `image`, `derived NAME@VERSION`, or `document`. */
  part: z.string(),
  /** What was found in its place. */
  found: z.string(),
})
export type Damage = z.infer<typeof damageShape>

export const outcomeShape = damageShape.extend({
  outcome: z.enum(['mended', 'remains']),
  /** How it was mended, or why not. */
  how: z.string(),
})
export type Outcome = z.infer<typeof outcomeShape>

/** Why an object is not what its name says; undefined where it is. */
export type ObjectFault = (sha256: string) => Promise<string | undefined>

/** Everything that is wrong with a picture: its document, what is stored of its byte fields, and its objects. */
export async function damagesOf(
  picture: PictureFacts,
  image: StoredField | string | undefined,
  faultOf: ObjectFault,
): Promise<Damage[]> {
  const { id, rawSha256, imageSha256, derived, state } = picture
  const damages: Damage[] = []
  const add = (part: string, found: string | undefined) => {
    if (found !== undefined) damages.push({ id, part, found })
  }
  const raw = await faultOf(id)
  add('raw', raw)
  if (rawSha256 !== id) add('document', `it names ${rawSha256} as its raw bytes`)
  if (raw === undefined && state === 'corrupt') add('document', 'it says corrupt, and the raw bytes are whole')
  add('image', await imageFault(imageSha256, image, faultOf))
  for (const entry of derived) add(`derived ${nameOf(entry)}`, await faultOf(entry.sha256))
  return damages
}

async function imageFault(
  wanted: string,
  image: StoredField | string | undefined,
  faultOf: ObjectFault,
): Promise<string | undefined> {
  if (image === undefined) return 'it is missing'
  if (typeof image === 'string') return image
  if (image.sha256 !== wanted) return `it has ${image.bytes} bytes whose sha256 is ${image.sha256}`
  return image.inObjects ? faultOf(wanted) : undefined
}

export const reportShape = z.object({
  pictures: z.number(),
  /** Damages, of which one picture may have several. */
  damages: z.number(),
  mended: z.number(),
  remaining: z.number(),
  /** The first of them; the log of the run has all. */
  named: z.array(outcomeShape),
})
export type Report = z.infer<typeof reportShape>

/** Damages that the result of a run names, and bytes of their JSON: a result of over 256 KiB is not kept with its task. */
const maxNamed = 400
const maxNamedBytes = 200_000

export const emptyReport: Report = { pictures: 0, damages: 0, mended: 0, remaining: 0, named: [] }

export function addToReport(report: Report, pictures: number, outcomes: readonly Outcome[]): Report {
  const mended = outcomes.filter(({ outcome }) => outcome === 'mended').length
  return {
    pictures: report.pictures + pictures,
    damages: report.damages + outcomes.length,
    mended: report.mended + mended,
    remaining: report.remaining + outcomes.length - mended,
    named: outcomes.length === 0 ? report.named : withRoom([...report.named, ...outcomes.map(shortened)]),
  }
}

const shortened = (outcome: Outcome): Outcome => ({
  ...outcome,
  found: outcome.found.slice(0, 300),
  how: outcome.how.slice(0, 300),
})

function withRoom(outcomes: readonly Outcome[]): Outcome[] {
  let bytes = 0
  const fits = outcomes.findIndex((outcome, at) => {
    bytes += Buffer.byteLength(JSON.stringify(outcome)) + 1
    return at >= maxNamed || bytes > maxNamedBytes
  })
  return outcomes.slice(0, fits < 0 ? outcomes.length : fits)
}

export const outcomeText = ({ id, part, found, outcome, how }: Outcome): string =>
  `${id} ${part}: ${found}; ${outcome === 'mended' ? 'mended' : 'remains'}: ${how}`

export function reportText(report: Report, runId: string): string {
  const { pictures, damages, mended, remaining, named } = report
  if (damages === 0) return `${pictures} pictures verified, all are well`
  const omitted = damages - named.length
  return [
    ...named.map(outcomeText),
    ...(omitted > 0 ? [`and ${omitted} more: sluice logs ${runId}`] : []),
    `${pictures} pictures verified: ${damages} damages, ${mended} mended, ${remaining} remain`,
  ].join('\n')
}
