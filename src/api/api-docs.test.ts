/** docs/api.md says what is so. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { errorTable } from '../errors.ts'
import { defaultHttpLimits, longestWaitMs } from './http-limits.ts'

const page = readFileSync(join(import.meta.dirname, '../../docs/api.md'), 'utf8')
const cells = (row: string) =>
  row
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim())
const table = (heading: string) => {
  const [, section = ''] = page.split(`\n## ${heading}\n`)
  return section
    .split('\n## ')[0]!
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(2)
    .map(cells)
}

it('has every code of the table of errors, with its status, and no other', () => {
  const wanted = Object.entries(errorTable).map(([code, { status, retryable, title }]) => [
    ...[`\`${code}\``, String(status), retryable ? 'yes' : 'no', title],
  ])
  expect(table('Problems')).toEqual(wanted)
})

it('has the limits that hold', () => {
  const figure = (text: string) => Number(text.replaceAll(',', '').split(' ')[0])
  const limits = Object.fromEntries(table('Limits').map(([what, limit]) => [what, figure(limit!)]))
  expect(limits).toMatchObject({
    'line and headers of a request together': defaultHttpLimits.headerBytes,
    'time for the headers to arrive': defaultHttpLimits.headersMs / 1_000,
    'time for the whole request to arrive': defaultHttpLimits.requestMs / 1_000,
    'a connection on which nothing moves': defaultHttpLimits.idleMs / 1_000,
    'a connection kept for its next request': defaultHttpLimits.keepAliveMs / 1_000,
    connections: defaultHttpLimits.connections,
    'JSON body': defaultHttpLimits.bodyBytes,
    'arrays and objects within one another': defaultHttpLimits.jsonDepth,
    'requests that wait for news at once': defaultHttpLimits.waits,
    'the longest `wait`': longestWaitMs / 1_000,
    'requests under way when the server closes': defaultHttpLimits.closeMs / 1_000,
  })
})
