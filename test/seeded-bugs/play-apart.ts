/** Plays a scenario in processes of its own, with a bug or without. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { TestServer } from '../global-setup.ts'
import type { Breach } from '../invariants/check.ts'
import type { Scenario, SeededBug } from './bugs.ts'
import type { Patch } from './patch.ts'
import type { Told } from './play.ts'

export interface Apart {
  readonly breaches: readonly Breach[]
  /** The scenario could not be played to its end, for another reason than a breach. */
  readonly broke?: string
  /** The patched file was loaded. */
  readonly applied: boolean
}

/** A scenario that does nothing for this long has hung. */
const longestMs = 240_000

/** `patienceMs`: how long the scenario waits for what has to come. With a bug it ends as soon as that is found. */
export async function playApart(
  server: TestServer,
  scenario: Scenario,
  patienceMs: number,
  bug?: SeededBug,
): Promise<Apart> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-seeded-'))
  const marker = join(folder, 'applied')
  try {
    const patch = bug && ({ file: bug.file, find: bug.find, replace: bug.replace, marker } satisfies Patch)
    const preload = pathToFileURL(join(import.meta.dirname, 'patch.ts')).href
    const environment = Object.entries(process.env).filter(([name]) => !/^(VITEST|NODE_)/.test(name))
    const child = spawn(
      process.execPath,
      [
        '--conditions=sluice-source',
        join(import.meta.dirname, 'play.ts'),
        scenario,
        String(patienceMs),
        ...(bug ? [String(bug.invariant)] : []),
      ],
      {
        env: {
          ...Object.fromEntries(environment),
          SLUICE_TEST_SERVER: JSON.stringify(server),
          ...(patch && { SLUICE_SEEDED_BUG: JSON.stringify(patch), NODE_OPTIONS: `--import=${preload}` }),
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    let hung = false
    const late = setTimeout(() => {
      hung = true
      child.kill('SIGKILL')
    }, longestMs)
    let out = ''
    let errors = ''
    child.stdout.setEncoding('utf8').on('data', (text) => {
      out += text
    })
    child.stderr.setEncoding('utf8').on('data', (text) => {
      errors = (errors + text).slice(-10_000)
    })
    await new Promise((resolve) => child.once('close', resolve))
    clearTimeout(late)
    return { ...playedOf(out, hung, errors), applied: existsSync(marker) }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function playedOf(out: string, hung: boolean, errors: string): Omit<Apart, 'applied'> {
  const told = out.split('\n').flatMap(toldOf)
  const breaches = told.flatMap((one) => ('breach' in one ? one.breach : []))
  const last = told.at(-1)
  if (last && 'played' in last) return { breaches, ...last.played }
  if (hung) return { breaches: [...breaches, { invariant: 9, what: `waited ${longestMs} ms in vain for the end` }] }
  return { breaches, broke: `it ended without a word: ${errors}` }
}

function toldOf(line: string): Told[] {
  try {
    const told = JSON.parse(line)
    return told !== null && typeof told === 'object' && ('breach' in told || 'played' in told) ? [told] : []
  } catch {
    return []
  }
}
