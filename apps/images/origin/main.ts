/**
 * The origin as a process: `node apps/images/origin/main.ts [--port N] [--prepare FILE] [--cache-mib N]`.
 * Prints one line, `{"url":"http://127.0.0.1:PORT"}`, when it is ready and everything in FILE (URLs, one per line) is
 * made. Ends on SIGTERM or SIGINT, and when the process that started it is gone: its channel or standard input (where
 * that is a pipe) closes.
 */
import { fstatSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import sharp from 'sharp'
import { startOrigin } from './origin.ts'

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    prepare: { type: 'string' },
    'cache-mib': { type: 'string', default: '256' },
  },
})
const port = wholeNumber('port', values.port, 65_535)
const cacheMib = wholeNumber('cache-mib', values['cache-mib'], 65_536)

sharp.cache(false)
sharp.concurrency(1)
const origin = await startOrigin({ port, cacheBytes: cacheMib * 2 ** 20 })
process.on('SIGTERM', leave).on('SIGINT', leave).on('disconnect', leave)
const input = fstatSync(0, { throwIfNoEntry: false })
if (input?.isFIFO() || input?.isSocket()) process.stdin.on('end', leave).on('error', leave).resume()
if (values.prepare !== undefined) await origin.prepare((await readFile(values.prepare, 'utf8')).split('\n'))
process.stdout.write(`${JSON.stringify({ url: origin.url })}\n`)

function leave(): void {
  process.exit(0)
}

function wholeNumber(name: string, text: string, max: number): number {
  const number = Number(text)
  if (/^\d+$/.test(text) && number <= max) return number
  process.stderr.write(`--${name} must be a whole number from 0 to ${max}, not "${text}"\n`)
  process.exit(2)
}
