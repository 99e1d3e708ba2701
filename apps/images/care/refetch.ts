/** Asks the places that a picture came from for its raw bytes. Only the same bytes are taken. */
import { createHash } from 'node:crypto'
import { type Capabilities, connection } from 'sluice'
import type { PictureFacts } from '../pictures/picture.ts'

/** Whether the same bytes are there again, and what was answered. */
export type Refetch = (picture: PictureFacts) => Promise<{ readonly same: boolean; readonly text: string }>

/** Of each picture, at most. */
const maxUrls = 10

const web = connection('web', 'fetch')

export function refetchWith(context: Pick<Capabilities, 'connection' | 'objects'>): Refetch {
  return async (picture) => {
    const answers: string[] = []
    for (const url of placesOf(picture)) {
      const answer = await ask(context, url, picture.id)
      if (answer === undefined) return { same: true, text: `fetched again from ${url}` }
      answers.push(`${url}: ${answer}`)
    }
    return { same: false, text: `asked again: ${answers.join(', ')}` }
  }
}

/** Where it was found in the end comes first: what it was asked under may lead elsewhere each time. */
function placesOf({ http, sources }: PictureFacts): string[] {
  return [...new Set([http.url, ...sources.map(({ url }) => url)])].slice(0, maxUrls)
}

/** Undefined when the same bytes came and were put; otherwise what came. */
async function ask(
  { connection, objects }: Pick<Capabilities, 'connection' | 'objects'>,
  url: string,
  wanted: string,
): Promise<string | undefined> {
  try {
    const { status, body } = await connection(web).get(url)
    if (status < 200 || status >= 300) return `status ${status}`
    const found = createHash('sha256').update(body).digest('hex')
    if (found !== wanted) return `other bytes, whose sha256 is ${found}`
    await objects.put(body)
    return undefined
  } catch (thrown) {
    if (thrown instanceof Error) return thrown.message.slice(0, 200)
    throw thrown
  }
}
