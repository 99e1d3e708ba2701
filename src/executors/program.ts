/**
 * Runs a program as a child process of the runner.
 *
 * 1. Its processes form a group in a session of their own, led by a small guard, a POSIX shell. The program is started
 *    from an argument array: the guard's text is fixed, and what it starts comes to it as `"$@"`.
 * 2. The group ends as one, by SIGKILL, which nothing in it can hold up: when the program has ended (whatever it left
 *    running), when the attempt is cancelled or its time limit passes, and when the runner is gone, however it went. For
 *    the last, a watcher in the group reads a pipe of which only the runner holds the other end: its end is the
 *    runner's end, also of one that is killed with SIGKILL at any moment, before the program has started included.
 * 3. No process id outlives the process: the group is killed from within, or while its leader is not yet reaped.
 * 4. Arguments and result are files of a folder of the attempt, which ends with it. It lies in the runner's own, which a
 *    second shell removes when the runner is gone: the watcher only kills, so that nothing is in its way.
 * 5. Output goes through pipes: Node would give sockets, on which a program cannot open `/dev/stderr`.
 *
 * Processes that leave the group (`setsid`) are out of reach: a program is trusted as the author's code is.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { mkdtemp, open, rm, stat, writeFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { messageOf, SluiceError } from '../errors.ts'
import type { Log } from '../sdk/context.ts'
import { type ProgramCall, type RunsPrograms, wrongVariable } from '../sdk/program.ts'
import { maxResultBytes } from './attempt.ts'

export interface ProgramParts {
  /** Absolute. */
  readonly projectDir: string
  /** The minimal environment: what every program gets. */
  readonly environment: Readonly<Record<string, string>>
  readonly log: Pick<Log, 'info' | 'warn'>
  readonly signal: AbortSignal
}

/** Linux takes 128 KiB per argument or variable. */
const maxWordBytes = 100_000
/** Longer lines come in parts. */
const maxLine = 64 * 1024
/** Of output beyond this nothing is looked at; the log of an attempt holds no more anyway. */
const maxOutput = 16 * 1024 * 1024
/** How many of the last lines of standard error a failure quotes, and how long they may be in all. */
const quoted = { lines: 20, characters: 4_000 }
/** How long output may come that processes write which the program has left behind. */
const leftoverMs = 2_000

/** Descriptor 3 is the runner's pipe, 4 takes the exit code; 5 and 6 are the guard's own. `$1` is the folder. */
const guard = `
folder=$1; shift
{ read -r _; kill -KILL 0; } <&3 >/dev/null 2>&1 4>&- &
{ { { (exec "$@" <"$folder/arguments.json" 3<&- 4>&- 5>&- 6>&-); echo "$?" >&4; } 2>&6 | command -p cat >&5 4>&- 6>&-; } \\
  6>&1 3<&- | command -p cat >&2 3<&- 4>&- 5>&-; } 5>&1
kill -KILL 0
`

/** Programs may still be writing when their runner is just gone. */
const sweep = 'read -r _; until command -p rm -rf -- "$1" && [ ! -e "$1" ]; do command -p sleep 1; done'

/** @throws SluiceError PROGRAM_FAILED, PROGRAM_REFUSED, OUTPUT_MISMATCH, STORAGE_FULL, STORAGE_FAILED; what aborted the signal. */
export async function runProgram(call: ProgramCall, parts: ProgramParts): Promise<Awaited<ReturnType<RunsPrograms>>> {
  checkWords(call)
  const cwd = resolve(parts.projectDir, call.cwd)
  if (!(await stat(cwd).catch(() => undefined))?.isDirectory())
    throw new SluiceError('PROGRAM_REFUSED', `program ${call.name}: there is no folder ${call.cwd} in the project`)
  const folder = await makeFolder(call, parts.environment)
  try {
    parts.signal.throwIfAborted()
    const { code, complaint } = await runGroup(call, cwd, folder, parts)
    parts.signal.throwIfAborted()
    if (code === 0) return { result: await readResult(call.name, join(folder, 'result.json')) }
    const detail = `${ending(call, code)}${complaint === '' ? '' : `: ${complaint}`}`
    if (code !== undefined && call.skip.includes(code)) return { skipped: detail }
    throw new SluiceError(
      code !== undefined && call.final.includes(code) ? 'PROGRAM_REFUSED' : 'PROGRAM_FAILED',
      detail,
    )
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function checkWords({ name, command, env }: ProgramCall): void {
  const refuse = (detail: string) => new SluiceError('INPUT_MISMATCH', `program ${name}: ${detail}`)
  const check = (what: string, text: string) => {
    if (text.includes('\0')) throw refuse(`${what} has a NUL character`)
    const bytes = Buffer.byteLength(text)
    if (bytes > maxWordBytes)
      throw refuse(`${what} has ${bytes} bytes; at most ${maxWordBytes} can be passed so, use standard input`)
  }
  for (const [index, word] of command.entries()) check(`argument ${index}`, word)
  for (const [variable, text] of Object.entries(env)) {
    const wrong = wrongVariable(variable)
    if (wrong !== undefined) throw refuse(wrong)
    check(`the variable ${variable}`, text)
  }
}

/** Of this process; made anew when something has removed it. */
let own: Promise<string> | undefined

async function ownFolder(environment: ProgramParts['environment']): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-programs-'))
  const sweeper = spawn('/bin/sh', ['-c', sweep, 'sluice', folder], {
    cwd: '/',
    env: environment,
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  // Neither it nor its pipe keeps this process; where it cannot be started, no program can be.
  sweeper.on('error', () => {}).unref()
  ;(sweeper.stdin as Socket | null)?.on('error', () => {}).unref()
  return folder
}

async function makeFolder({ name, stdin }: ProgramCall, environment: ProgramParts['environment']): Promise<string> {
  let folder: string | undefined
  try {
    own ??= ownFolder(environment)
    folder = await mkdtemp(join(await own, 'attempt-'))
    await writeFile(join(folder, 'arguments.json'), JSON.stringify(stdin ?? null), { mode: 0o600 })
    return folder
  } catch (cause) {
    if (folder === undefined) own = undefined
    else await rm(folder, { recursive: true, force: true })
    const full = ['ENOSPC', 'EDQUOT'].includes((cause as NodeJS.ErrnoException).code ?? '')
    const detail = `program ${name}: its arguments cannot be written: ${messageOf(cause)}`
    throw new SluiceError(full ? 'STORAGE_FULL' : 'STORAGE_FAILED', detail, { cause })
  }
}

interface Ended {
  /** Undefined when the group was killed, by us or by somebody else. */
  readonly code: number | undefined
  /** The end of what it wrote to standard error. */
  readonly complaint: string
}

async function runGroup(call: ProgramCall, cwd: string, folder: string, parts: ProgramParts): Promise<Ended> {
  const child = spawn('/bin/sh', ['-c', guard, 'sluice', folder, ...call.command], {
    cwd,
    env: {
      ...parts.environment,
      ...call.env,
      SLUICE_ARGS_FILE: join(folder, 'arguments.json'),
      SLUICE_RESULT_FILE: join(folder, 'result.json'),
    },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
  })
  const [, output, errors, watched, told] = child.stdio as unknown as [null, Readable, Readable, Readable, Readable]
  const kill = () => killGroup(child)
  parts.signal.addEventListener('abort', kill)
  let code = ''
  let leftover: NodeJS.Timeout | undefined
  const last: string[] = []
  told.setEncoding('utf8').on('data', (text: string) => {
    code += text
    leftover ??= setTimeout(kill, leftoverMs)
  })
  let room = maxOutput
  const take = (line: string) => {
    room -= line.length + 1
    return room > 0
  }
  eachLine(output, (line) => take(line) && parts.log.info(line))
  eachLine(errors, (line) => {
    last.push(line)
    if (last.length > quoted.lines) last.shift()
    if (take(line)) parts.log.warn(line)
  })
  // A pipe that breaks is told by the end of its process.
  for (const stream of [output, errors, watched, told]) stream.on('error', () => {})
  try {
    await new Promise<void>((done, failed) => child.once('close', () => done()).once('error', failed))
  } catch (cause) {
    throw new SluiceError('PROGRAM_FAILED', `program ${call.name} cannot be started: ${messageOf(cause)}`, { cause })
  } finally {
    clearTimeout(leftover)
    parts.signal.removeEventListener('abort', kill)
  }
  const complaint = last.join('\n').trim().slice(-quoted.characters)
  return { code: /^\d+\n$/.test(code) ? Number(code) : undefined, complaint }
}

/** While its leader has not been reaped, its id is nobody else's. */
function killGroup(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ESRCH') throw thrown
  }
}

function eachLine(output: Readable, onLine: (line: string) => void): void {
  let held = ''
  let seen = 0
  output.setEncoding('utf8').on('data', (text: string) => {
    seen += text.length
    // Of a flood only the end is kept, for the failure that it may be told by.
    const lines = (held + (seen > maxOutput ? text.slice(-2 * quoted.characters) : text)).split('\n')
    held = lines.pop()!
    for (const line of lines) onLine(line.endsWith('\r') ? line.slice(0, -1) : line)
    while (held.length >= maxLine) {
      onLine(held.slice(0, maxLine))
      held = held.slice(maxLine)
    }
  })
  output.on('end', () => {
    if (held !== '') onLine(held)
  })
}

function ending({ name, command }: ProgramCall, code: number | undefined): string {
  if (code === undefined) return `program ${name} was killed from outside; out of memory?`
  const meaning =
    code === 127
      ? ` (there is no program ${command[0]})`
      : code === 126
        ? ` (${command[0]} cannot be executed)`
        : code > 128
          ? ` (signal ${code - 128})`
          : ''
  return `program ${name} ended with exit code ${code}${meaning}`
}

async function readResult(name: string, file: string): Promise<unknown> {
  const refuse = (detail: string) => new SluiceError('OUTPUT_MISMATCH', `the result of program ${name} ${detail}`)
  // Neither a link nor a pipe: opening one could wait for ever.
  const opened = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((thrown) => {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw refuse(`cannot be read: ${messageOf(thrown)}`)
  })
  if (opened === undefined) return null
  try {
    const found = await opened.stat()
    if (!found.isFile()) throw refuse('is no file')
    if (found.size > maxResultBytes) throw refuse(`has ${found.size} bytes; at most ${maxResultBytes} are kept`)
    const text = await opened.readFile('utf8')
    return text.trim() === '' ? null : JSON.parse(text)
  } catch (thrown) {
    throw thrown instanceof SyntaxError ? refuse(`is no JSON: ${thrown.message}`) : thrown
  } finally {
    await opened.close()
  }
}
