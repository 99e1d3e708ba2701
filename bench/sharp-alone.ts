/**
 * What is physically there to be had: sharp making grey lossless PNGs of the same bytes by the same formula (luma
 * BT.601, one channel, level 1), four in flight, with nothing fetched, stored or recorded. Run as a process of its own:
 * reads URLs, fetches them all first, prints pictures per second.
 */
import { readFile } from 'node:fs/promises'
import sharp from 'sharp'

const [urlFile, limit] = process.argv.slice(2) as [string, string]
const urls = (await readFile(urlFile, 'utf8')).split('\n').filter(Boolean).slice(0, Number(limit))
const pictures: Buffer[] = []
for (const url of urls) pictures.push(Buffer.from(await (await fetch(url)).arrayBuffer()))

const luma: [number, number, number] = [0.299, 0.587, 0.114]
sharp.cache(false)
await all(pictures.slice(0, 50))
const startedAt = performance.now()
await all(pictures)
console.log(pictures.length / ((performance.now() - startedAt) / 1_000))

async function all(batch: readonly Buffer[]): Promise<void> {
  let next = 0
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      while (next < batch.length) {
        const raw = batch[next++]!
        await sharp(raw).rotate().recomb([luma, luma, luma]).extractChannel(0).png({ compressionLevel: 1 }).toBuffer()
      }
    }),
  )
}
