/**
 * Makes the sample catalog: `node apps/images/origin/make-sample.ts` writes `apps/images/sample/urls.txt`. Its 650 lines
 * are composed as real catalogs are: 500 different pictures, 50 repeats of them, 50 times one broken URL and 50
 * different sizes that no origin serves, shuffled, without a final newline. The same file every time.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { seededRandom } from './picture.ts'

const site = 'https://picsum.photos'

export function sampleCatalog(): string {
  const random = seededRandom(650)
  const pick = (count: number) => Math.floor(random() * count)
  const pictures = Array.from({ length: 500 }, (_, at) => `${site}/${at + 61}/${Math.round((at + 61) * 0.75)}`)
  const repeats = Array.from({ length: 50 }, () => pictures[pick(pictures.length)])
  const broken = Array.from({ length: 50 }, () => `${site}/error/100`)
  const oversize = Array.from({ length: 50 }, (_, at) => `${site}/${(at + 1) * 12_000}/${(at + 1) * 9_000}`)
  const lines = [...pictures, ...repeats, ...broken, ...oversize]
  for (let at = lines.length - 1; at > 0; at -= 1) {
    const other = pick(at + 1)
    ;[lines[at], lines[other]] = [lines[other], lines[at]]
  }
  return lines.join('\n')
}

if (import.meta.main) {
  const file = new URL('../sample/urls.txt', import.meta.url)
  await mkdir(new URL('.', file), { recursive: true })
  await writeFile(file, sampleCatalog())
}
