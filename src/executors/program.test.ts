import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isAlive } from '../../test/invariants/processes.ts'
import { SluiceError } from '../errors.ts'
import type { ProgramCall } from '../sdk/program.ts'
import { runProgram } from './program.ts'

let projectDir: string
beforeAll(async () => {
  projectDir = await realpath(await mkdtemp(join(tmpdir(), 'sluice-programs-')))
  await mkdir(join(projectDir, 'scripts'))
})
afterAll(() => rm(projectDir, { recursive: true, force: true }))

const environment = { PATH: process.env.PATH ?? '/usr/bin:/bin', FROM_THE_RUNNER: 'kept' }

interface Ran {
  readonly ended?: Awaited<ReturnType<typeof runProgram>>
  readonly thrown?: unknown
  readonly info: string[]
  readonly warn: string[]
}

async function run(
  call: Partial<ProgramCall> & { command: readonly string[] },
  signal = new AbortController().signal,
  onLine: (line: string) => void = () => {},
): Promise<Ran> {
  const info: string[] = []
  const warn: string[] = []
  const to = (lines: string[]) => (line: string) => {
    lines.push(line)
    onLine(line)
  }
  const whole = { name: 'tried', env: {}, cwd: '.', stdin: {}, skip: [99], final: [], ...call }
  const parts = { projectDir, environment, log: { info: to(info), warn: to(warn) }, signal }
  return runProgram(whole, parts).then(
    (ended) => ({ ended, info, warn }),
    (thrown: unknown) => ({ thrown, info, warn }),
  )
}

/** `text` is of the test itself: what varies comes as arguments. */
const shell = (text: string, ...words: string[]) => ({ command: ['sh', '-c', text, 'sh', ...words] })

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const giveUpAt = performance.now() + 30_000; !(await condition()); await delay(10))
    if (performance.now() > giveUpAt) throw new Error('not within 30 s')
}

const pidsIn = (lines: readonly string[]) => lines.map((line) => Number(/^pid (\d+)$/.exec(line)?.[1])).filter(Number)

describe('what a program gets', () => {
  it('its arguments as words of their own, whatever is in them', async () => {
    const words = [
      '$(touch pwned)',
      '; touch pwned',
      '`touch pwned`',
      '* ?',
      '',
      "'",
      '"',
      '-n',
      'a\nb',
      '$HOME',
      'ä🙂',
    ]
    const { ended } = await run({ ...shell('printf "%s\\0" "$@" >"$OUT"', ...words), env: { OUT: 'words' } })
    expect(ended).toEqual({ result: null })
    expect((await readFile(join(projectDir, 'words'), 'utf8')).split('\0').slice(0, -1)).toEqual(words)
    expect(existsSync(join(projectDir, 'pwned'))).toBe(false)
  })

  it('JSON on standard input and in SLUICE_ARGS_FILE, also when it is large', async () => {
    const stdin = { text: 'x'.repeat(2_000_000) }
    const { ended } = await run({
      ...shell('cmp - "$SLUICE_ARGS_FILE" && wc -c </dev/stdin | tr -d " " >"$SLUICE_RESULT_FILE"'),
      stdin,
    })
    expect(ended).toEqual({ result: JSON.stringify(stdin).length })
  })

  it('the minimal environment and what is declared, nothing of the process that runs it', async () => {
    process.env.PLANTED_IN_THE_RUNNER = 'planted'
    try {
      const { info } = await run({ command: ['env'], env: { DECLARED: 'yes' } })
      const names = info
        .map((line) => line.split('=')[0] as string)
        .filter((name) => !['PWD', '_', 'SHLVL', 'OLDPWD'].includes(name))
      expect(names.sort()).toEqual(['DECLARED', 'FROM_THE_RUNNER', 'PATH', 'SLUICE_ARGS_FILE', 'SLUICE_RESULT_FILE'])
    } finally {
      delete process.env.PLANTED_IN_THE_RUNNER
    }
  })

  it('its folder', async () => {
    expect((await run({ command: ['pwd'], cwd: 'scripts' })).info).toEqual([join(projectDir, 'scripts')])
    const { thrown } = await run({ command: ['pwd'], cwd: 'nowhere' })
    expect(thrown).toMatchObject({ code: 'PROGRAM_REFUSED', message: expect.stringContaining('no folder nowhere') })
  })

  it('refuses words that no program can be given', async () => {
    for (const [call, message] of [
      [{ command: ['echo', 'a\0b'] }, 'argument 1 has a NUL character'],
      [{ command: ['echo', 'x'.repeat(100_001)] }, 'argument 1 has 100001 bytes; at most 100000'],
      [{ command: ['echo'], env: { A: 'a\0b' } }, 'the variable A has a NUL character'],
      [{ command: ['echo'], env: { 'A=B': 'x' } }, 'no name for an environment variable'],
      [{ command: ['echo'], env: { SLUICE_RUN_ID: 'x' } }, "Sluice's own"],
    ] as const) {
      expect((await run(call)).thrown).toMatchObject({
        code: 'INPUT_MISMATCH',
        message: expect.stringContaining(message),
      })
    }
  })
})

describe('what it gives', () => {
  it('the JSON of the file SLUICE_RESULT_FILE, or null', async () => {
    expect((await run(shell(`echo '{"rows": [1, 2]}' >"$SLUICE_RESULT_FILE"`))).ended).toEqual({
      result: { rows: [1, 2] },
    })
    expect((await run(shell('echo "::result::{}"'))).ended).toEqual({ result: null })
    expect((await run(shell(': >"$SLUICE_RESULT_FILE"'))).ended).toEqual({ result: null })
  })

  it.each([
    ['what is no JSON', 'echo "{rows" >"$SLUICE_RESULT_FILE"', 'is no JSON'],
    ['a link', 'ln -s /etc/passwd "$SLUICE_RESULT_FILE"', 'cannot be read'],
    ['a pipe', 'mkfifo "$SLUICE_RESULT_FILE"', 'is no file'],
    ['a folder', 'mkdir "$SLUICE_RESULT_FILE"', 'is no file'],
    ['a huge file', 'truncate -s 65M "$SLUICE_RESULT_FILE"', 'at most 67108864 are kept'],
  ])('refuses %s', async (_, text, message) => {
    const { thrown } = await run(shell(text))
    expect(thrown).toMatchObject({ code: 'OUTPUT_MISMATCH', message: expect.stringContaining(message) })
  })

  it('lines as they come, standard output and error apart, also through /dev/stderr', async () => {
    const gate = join(projectDir, 'gate')
    const { info, warn, ended } = await run(
      { ...shell('echo first; echo aside >/dev/stderr; until [ -e "$1" ]; do sleep 0.01; done; printf last', gate) },
      undefined,
      // The second line is only written once the first was heard.
      (line) => line === 'first' && void writeFile(gate, ''),
    )
    expect({ info, warn, ended }).toEqual({ info: ['first', 'last'], warn: ['aside'], ended: { result: null } })
  })

  it('a failure with the last lines of standard error for any other exit code', async () => {
    const { thrown } = await run(shell('seq 1 100 >&2; echo "no rows" >&2; exit 3'))
    const { message } = thrown as SluiceError
    expect(thrown).toMatchObject({ code: 'PROGRAM_FAILED', retryable: true })
    expect(message).toMatch(/^program tried ended with exit code 3: 82\n83\n/)
    expect(message).toMatch(/\n100\nno rows$/)
  })

  it.each([
    ['nowhere-at-all', [], 'exit code 127 (there is no program nowhere-at-all)'],
    ['/etc/passwd', [], 'exit code 126 (/etc/passwd cannot be executed)'],
    ['sh', ['-c', 'kill -TERM $$'], 'exit code 143 (signal 15)'],
    ['sh', ['-c', 'kill -KILL 0'], 'was killed from outside'],
  ])('says what went wrong: %s %j', async (program, words, message) => {
    const { thrown } = await run({ command: [program, ...words] })
    expect(thrown).toMatchObject({ code: 'PROGRAM_FAILED', message: expect.stringContaining(message) })
  })

  it('a skip for 99, or the codes declared; a failure for good for others', async () => {
    expect((await run(shell('echo nothing new >&2; exit 99'))).ended).toEqual({
      skipped: 'program tried ended with exit code 99: nothing new',
    })
    const codes = { skip: [7], final: [8] }
    expect((await run({ ...shell('exit 7'), ...codes })).ended).toMatchObject({ skipped: expect.any(String) })
    expect((await run({ ...shell('exit 8'), ...codes })).thrown).toMatchObject({
      code: 'PROGRAM_REFUSED',
      retryable: false,
    })
    expect((await run({ ...shell('exit 99'), ...codes })).thrown).toMatchObject({ code: 'PROGRAM_FAILED' })
  })

  it('no more than its bound of a flood, and ends all the same', async () => {
    const { ended, info, warn } = await run(
      shell('head -c 30000000 /dev/zero | tr "\\0" x; yes | head -c 20000000 >&2; exit 0'),
    )
    expect(ended).toEqual({ result: null })
    expect([...info, ...warn].reduce((sum, line) => sum + line.length + 1, 0)).toBeLessThanOrEqual(16 * 1024 * 1024)
    expect(Math.max(...info.map((line) => line.length))).toBe(64 * 1024)
  })
})

describe('its end is the end of its whole group', () => {
  it('when it has ended: what it left running in the background is killed', async () => {
    const { ended, info } = await run(shell('sleep 600 & echo "pid $!"; sleep 600 >/dev/null 2>&1 & echo "pid $!"'))
    expect(ended).toEqual({ result: null })
    const pids = pidsIn(info)
    expect(pids).toHaveLength(2)
    await until(() => !pids.some(isAlive))
  })

  it('when the attempt is aborted: children that ignore every other signal are killed, too', async () => {
    const controller = new AbortController()
    const stubborn = `trap '' TERM HUP INT; (trap '' TERM HUP INT; while :; do sleep 1; done) & echo "pid $!"; echo "pid $$"; while :; do sleep 1; done`
    const seen: number[] = []
    const { thrown } = await run(shell(stubborn), controller.signal, (line) => {
      seen.push(...pidsIn([line]))
      if (seen.length === 2) controller.abort(new SluiceError('CANCELLED', 'the run was cancelled'))
    })
    expect(thrown).toMatchObject({ code: 'CANCELLED' })
    await until(() => !seen.some(isAlive))
  })

  it('before it starts when it was aborted before', async () => {
    const file = join(projectDir, 'started')
    const { thrown } = await run(shell(': >"$1"', file), AbortSignal.abort(new SluiceError('CANCELLED', 'early')))
    expect(thrown).toMatchObject({ code: 'CANCELLED' })
    expect(existsSync(file)).toBe(false)
  })

  it('with its folder, whatever becomes of the attempt, and a runner whose folder is removed makes another', async () => {
    const folders: string[] = []
    for (const code of ['0', '1', '99']) {
      const { info } = await run(shell('dirname "$SLUICE_ARGS_FILE"; exit "$1"', code))
      folders.push(info[0] as string)
    }
    expect(new Set(folders).size).toBe(3)
    expect(folders.some(existsSync)).toBe(false)
    await rm(dirname(folders[0] as string), { recursive: true })
    expect((await run(shell('exit 0'))).thrown).toMatchObject({ code: 'STORAGE_FAILED', retryable: true })
    expect((await run(shell('exit 0'))).ended).toEqual({ result: null })
  })

  it('when its runner is killed with SIGKILL, and its folder goes, too', async () => {
    const module = join(import.meta.dirname, 'program.ts')
    const text = `sleep 600 & echo "pid $!"; echo "pid $$"; echo "folder $(dirname "$SLUICE_ARGS_FILE")"; while :; do sleep 1; done`
    const script = `const { runProgram } = await import(${JSON.stringify(module)})
      const log = { info: (line) => console.log(line), warn: () => {} }
      const parts = { projectDir: '/', environment: process.env, log, signal: new AbortController().signal }
      await runProgram({ name: 'x', command: ['sh', '-c', ${JSON.stringify(text)}], env: {}, cwd: '.', stdin: {}, skip: [], final: [] }, parts)`
    const runner = spawn(process.execPath, ['--conditions=sluice-source', '--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let said = ''
    runner.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      said += chunk
    })
    await until(() => /folder .*\n/.test(said))
    const pids = pidsIn(said.split('\n'))
    const folder = /folder (.*)\n/.exec(said)?.[1] as string
    expect(pids).toHaveLength(2)
    expect(existsSync(folder) && pids.every(isAlive)).toBe(true)
    runner.kill('SIGKILL')
    await once(runner, 'exit')
    await until(() => !pids.some(isAlive) && !existsSync(dirname(folder)))
  })
})
