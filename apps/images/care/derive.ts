/** Makes of pictures what their documents lack, or what is asked for again, from their raw bytes alone. */
import { createHash } from 'node:crypto'
import { type Capabilities, SluiceError, z } from 'sluice'
import { lacking, type PictureFacts } from '../pictures/picture.ts'
import { turn } from '../transforms/decoders.ts'
import { ImageError } from '../transforms/image-error.ts'
import { registered } from '../transforms/registry.ts'
import { type ImageTransform, nameOf } from '../transforms/transform.ts'
import { inLanes } from './lanes.ts'
import { isDamage } from './look.ts'
import { replaceDerived, replaceImage } from './mend.ts'

export const derivedShape = z.object({
  pictures: z.number(),
  /** Things that were made and kept. */
  made: z.number(),
  /** Of those asked for again: things that came out as they were. */
  same: z.number(),
  failed: z.number(),
  /** The first of those that failed; the log of the run has all. */
  failures: z.array(z.string()),
  /** Nothing was looked at: all documents have had all transforms for long. */
  settled: z.boolean(),
  /** Nothing was looked at: this run is at it. */
  underWay: z.string().nullable(),
})
export type Derivation = z.infer<typeof derivedShape>

export const nothingDerived: Derivation = {
  ...{ pictures: 0, made: 0, same: 0, failed: 0, failures: [] },
  ...{ settled: false, underWay: null },
}

const maxFailures = 400

export function addDerivation(sum: Derivation, more: Derivation): Derivation {
  return {
    ...sum,
    pictures: sum.pictures + more.pictures,
    made: sum.made + more.made,
    same: sum.same + more.same,
    failed: sum.failed + more.failed,
    failures: [...sum.failures, ...more.failures].slice(0, maxFailures),
  }
}

export interface DerivedPage extends Derivation {
  readonly nextCursor: string | null
}

const pagePictures = 100

/** @param again `name@version` of a transform that is to be applied also where its result is there; or empty. */
export async function derivePage(
  context: Pick<Capabilities, 'documents' | 'objects' | 'signal'>,
  cursor: string | null,
  again: string,
): Promise<DerivedPage> {
  const { items, nextCursor } = await context.documents<PictureFacts>('images').list({ limit: pagePictures, cursor })
  const sums = await inLanes(items, (picture) => {
    context.signal.throwIfAborted()
    return deriveOne(context, picture, again)
  })
  return { ...sums.reduce(addDerivation, nothingDerived), nextCursor }
}

async function deriveOne(
  context: Pick<Capabilities, 'documents' | 'objects' | 'signal'>,
  picture: PictureFacts,
  again: string,
): Promise<Derivation> {
  const wanted = wantedOf(picture, again)
  const sum = { ...nothingDerived, pictures: 1 }
  if (wanted.length === 0) return sum
  try {
    const { made } = await turn(await context.objects.read(picture.id), wanted, context.signal)
    for (const [at, by] of wanted.entries()) {
      const hash = createHash('sha256').update(made[at]!.bytes).digest('hex')
      if (hash === hashOf(picture, by)) {
        sum.same += 1
        continue
      }
      if (nameOf(by) === nameOf(picture.transform)) await replaceImage(context, picture, by, made[at]!)
      else await replaceDerived(context, picture, by, made[at]!)
      sum.made += 1
    }
    return sum
  } catch (thrown) {
    if (!isOfThePicture(thrown)) throw thrown
    return {
      ...sum,
      failed: 1,
      failures: [`${picture.id} ${wanted.map(nameOf).join(', ')}: ${thrown.message}`.slice(0, 400)],
    }
  }
}

function wantedOf(picture: PictureFacts, again: string): ImageTransform[] {
  const missing = lacking(picture, registered)
  return registered.filter((transform) => missing.includes(transform) || nameOf(transform) === again)
}

/** Of what is there of a transform. */
function hashOf({ transform, imageSha256, derived }: PictureFacts, by: ImageTransform): string | undefined {
  if (nameOf(transform) === nameOf(by)) return imageSha256
  return derived.find((entry) => nameOf(entry) === nameOf(by))?.sha256
}

/** Raw bytes that are damaged or cannot be turned: the others go on. */
function isOfThePicture(thrown: unknown): thrown is Error {
  return thrown instanceof ImageError || isDamage(thrown)
}

/** @throws SluiceError INVALID_INPUT when no such transform is registered. */
export function checkAgain(again: string): void {
  if (again === '' || registered.some((transform) => nameOf(transform) === again)) return
  const names = registered.map(nameOf).join(', ')
  throw new SluiceError('INVALID_INPUT', `There is no transform ${again}; registered are ${names}`)
}

export function derivationText({ pictures, made, same, failed, failures, settled }: Derivation): string {
  if (settled) return 'Every picture has all its transforms'
  const shown = failed > failures.length ? [...failures, `and ${failed - failures.length} more, see the log`] : failures
  const sum = `${pictures} pictures: ${made} made${same > 0 ? `, ${same} as they were` : ''}, ${failed} failed`
  return [...shown, sum].join('\n')
}
