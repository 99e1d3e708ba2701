/** A decoder whose transforms do what hostile pictures may do to one. Started by itself, it answers. */
import { setTimeout as delay } from 'node:timers/promises'
import { answerQuestions } from './decoder.ts'
import { grayscale } from './grayscale.ts'
import type { ImageTransform, Transformed } from './transform.ts'

const tells = (bytes: string | Buffer): Transformed => ({ bytes: Buffer.from(bytes), width: 1, height: 1 })

const transform = (name: string, apply: () => Promise<Transformed>): ImageTransform => ({
  name,
  version: 1,
  mimeType: 'text/plain',
  apply,
})

export const hostile = {
  sound: transform('sound', async () => tells('sound')),
  dies: transform('dies', async () => {
    process.kill(process.pid, 'SIGSEGV')
    return delay(60_000, tells(''))
  }),
  hangs: transform('hangs', () => delay(600_000, tells(''))),
  spins: transform('spins', async () => {
    for (;;);
  }),
  fails: transform('fails', async () => {
    throw new TypeError('a fault of the transform')
  }),
  /** From when to when it was at it. */
  naps: transform('naps', async () => {
    const from = Date.now()
    await delay(300)
    return tells(JSON.stringify([from, Date.now()]))
  }),
  /** The most that this process has had, in MB. */
  tellsMemory: transform('tells-memory', async () => tells(String(Math.round(process.resourceUsage().maxRSS / 1_024)))),
  tellsProcess: transform('tells-process', async () =>
    tells(JSON.stringify({ pid: process.pid, parent: process.ppid })),
  ),
}

if (process.argv[1] === import.meta.filename) answerQuestions([...Object.values(hostile), grayscale()])
