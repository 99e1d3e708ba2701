/**
 * Mends what verification found: everything is made again from the raw bytes, by the same transform and version. Where the raw
 * bytes themselves are damaged, the sources are asked again when that is wanted, and only the same bytes are taken; otherwise
 * the document is marked corrupt, and what was made of them before stays.
 *
 * Doing it twice does what doing it once does, and a document is only ever changed as it is at that moment.
 */
import type { Capabilities } from 'sluice'
import { derivedOf, imageFacts } from '../pictures/made.ts'
import { type Derived, objectsOf, type Picture, type PictureFacts, withDerived } from '../pictures/picture.ts'
import { turn } from '../transforms/decoders.ts'
import { ImageError } from '../transforms/image-error.ts'
import { main, registered } from '../transforms/registry.ts'
import { type ImageTransform, nameOf, type Transformed } from '../transforms/transform.ts'
import type { Damage, Outcome } from './damage.ts'
import { isDamage } from './look.ts'
import type { Refetch } from './refetch.ts'

type Mender = Pick<Capabilities, 'documents' | 'objects' | 'signal'>

/** @param damages of one picture. @param refetch absent: the sources are not asked. */
export async function mend(mender: Mender, damages: readonly Damage[], refetch?: Refetch): Promise<Outcome[]> {
  const id = damages[0]!.id
  const picture = await mender.documents<PictureFacts>('images').get(id)
  const all = (outcome: Outcome['outcome'], how: string) => damages.map((damage) => ({ ...damage, outcome, how }))
  if (picture === undefined) return all('mended', 'the document is gone')
  let raw = await rawOf(mender, id)
  let how = 'it is whole again'
  if (raw === undefined) {
    const answer = await refetch?.(picture)
    how = answer?.text ?? 'the raw bytes are damaged; --refetch asks the sources for them'
    raw = answer?.same ? await rawOf(mender, id) : undefined
  }
  if (raw === undefined) {
    await markCorrupt(mender, id, damages.find(({ part }) => part === 'raw')?.found ?? 'damaged')
    return all('remains', how)
  }
  const outcomes: Outcome[] = []
  for (const damage of damages) {
    const mended = await mendPart(mender, picture, damage.part === 'raw' ? 'document' : damage.part, raw)
    outcomes.push({ ...damage, ...mended, ...(damage.part === 'raw' ? { outcome: 'mended', how } : {}) })
  }
  return outcomes
}

/** The raw bytes, when they are whole. */
async function rawOf({ objects }: Mender, id: string): Promise<Uint8Array | undefined> {
  return objects.read(id).catch((thrown: unknown) => {
    if (isDamage(thrown)) return undefined
    throw thrown
  })
}

type Mended = Pick<Outcome, 'outcome' | 'how'>

const madeAnew: Mended = { outcome: 'mended', how: 'made again from the raw bytes' }
const madeOther: Mended = { outcome: 'mended', how: 'made again from the raw bytes, to other bytes than were recorded' }

async function mendPart(mender: Mender, picture: PictureFacts, part: string, raw: Uint8Array): Promise<Mended> {
  try {
    if (part === 'document') return await mendDocument(mender, picture, raw)
    const name = part === 'image' ? nameOf(picture.transform) : part.replace(/^derived /, '')
    const by = registered.find((transform) => nameOf(transform) === name)
    if (by === undefined) return { outcome: 'remains', how: `no transform is registered as ${name}` }
    const [made] = (await turn(raw, [by], mender.signal)).made
    return part === 'image'
      ? await replaceImage(mender, picture, by, made!)
      : await replaceDerived(mender, picture, by, made!)
  } catch (thrown) {
    if (!(thrown instanceof ImageError)) throw thrown
    return { outcome: 'remains', how: `the raw bytes are whole, and now ${thrown.message}` }
  }
}

async function mendDocument(mender: Mender, picture: PictureFacts, raw: Uint8Array): Promise<Mended> {
  const { id, rawSha256 } = picture
  if (rawSha256 !== id) {
    await mender.documents<PictureFacts>('images').change(id, (now) => ({ ...now, rawSha256: id }), { objects: [id] })
  }
  await judgeAgain(mender, picture, raw)
  return { outcome: 'mended', how: 'by the raw bytes, which are whole' }
}

/** Of a document that says corrupt: what the decoder says of its raw bytes. */
async function judgeAgain(mender: Mender, { id }: PictureFacts, raw: Uint8Array): Promise<void> {
  const [made] = (await turn(raw, [main], mender.signal)).made
  const { state, warning } = imageFacts(main, made!)
  await mender
    .documents<PictureFacts>('images')
    .change(id, (now) => (now.state === 'corrupt' ? { ...now, state, warning } : undefined))
}

async function markCorrupt({ documents }: Mender, id: string, found: string): Promise<void> {
  const warning = `raw bytes: ${found}`
  await documents<PictureFacts>('images').change(id, (now) =>
    now.state === 'corrupt' && now.warning === warning ? undefined : { ...now, state: 'corrupt', warning },
  )
}

/** Puts another image into the document; what says of it how it was made follows. */
export async function replaceImage(
  { documents }: Pick<Mender, 'documents'>,
  { id, imageSha256 }: PictureFacts,
  by: ImageTransform,
  made: Transformed,
): Promise<Mended> {
  const facts = imageFacts(by, made)
  await documents<Picture>('images').change(id, (now) => ({ ...now, ...facts }))
  return facts.imageSha256 === imageSha256 ? madeAnew : madeOther
}

/** Adds what was made to the document, in the place of what was there of the same name and version. */
export async function replaceDerived(
  { documents, objects }: Pick<Mender, 'documents' | 'objects'>,
  picture: PictureFacts,
  by: ImageTransform,
  made: Transformed,
): Promise<Mended> {
  const entry: Derived = derivedOf(by, await objects.put(made.bytes))
  const before = picture.derived.find((one) => nameOf(one) === nameOf(entry))?.sha256
  const after = objectsOf(withDerived(picture, entry))
  const drop = before === undefined || after.has(before) ? [] : [before]
  await documents<PictureFacts>('images').change(picture.id, (now) => withDerived(now, entry), {
    objects: [entry.sha256],
    drop,
  })
  return before === undefined || before === entry.sha256 ? madeAnew : madeOther
}
