/** A JSON value that a person gives: in a file, on standard input, or in an editor. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { editorCommand } from '../app/config.ts'
import { messageOf, SluiceError } from '../errors.ts'

/**
 * @param from a file, or `-` for standard input; undefined: the editor of the environment, if there is a terminal.
 * @throws SluiceError USAGE (no file, no terminal), MALFORMED_JSON, CANCELLED (the editor ended with an error)
 */
export async function readEdited(from: string | undefined, present: unknown): Promise<unknown> {
  if (from === undefined) return inEditor(present)
  const read = from === '-' ? text(process.stdin) : readFile(from, 'utf8')
  const given = await read.catch((thrown: unknown) => {
    throw new SluiceError('USAGE', `${from} cannot be read: ${messageOf(thrown)}`)
  })
  return parse(given, from === '-' ? 'standard input' : from)
}

async function inEditor(present: unknown): Promise<unknown> {
  if (process.stdin.isTTY !== true) {
    throw new SluiceError('USAGE', 'There is no terminal for an editor: give the value with --value FILE, or --value -')
  }
  const folder = await mkdtemp(join(tmpdir(), 'sluice-edit-'))
  try {
    const file = join(folder, 'value.json')
    await writeFile(file, `${JSON.stringify(present, null, 2)}\n`, { mode: 0o600 })
    const editor = editorCommand()
    // By a shell, as everybody does it: the editor may be a program with arguments.
    const child = spawn('/bin/sh', ['-c', `${editor} "$1"`, 'sluice', file], { stdio: 'inherit' })
    const [code] = (await once(child, 'exit')) as [number | null]
    if (code !== 0) throw new SluiceError('CANCELLED', `The editor (${editor}) ended with ${code}: nothing was changed`)
    return parse(await readFile(file, 'utf8'), 'what the editor left')
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function parse(given: string, where: string): unknown {
  try {
    return JSON.parse(given)
  } catch (thrown) {
    throw new SluiceError('MALFORMED_JSON', `${where} is not JSON: ${messageOf(thrown)}`)
  }
}
