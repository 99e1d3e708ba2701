/** The processes that the demo starts, and ends. */
import { type ChildProcess, spawn } from 'node:child_process'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'

export interface Background {
  stop(): Promise<void>
}

const root = resolve(import.meta.dirname, '../../..')
const originMain = resolve(import.meta.dirname, '../origin/main.ts')
/** After this a process that was told to stop is killed. */
const stopMs = 45_000
const keptLines = 20

/** Gives the origin's URL. It ends by itself when this process is gone: its standard input closes. */
export async function startOriginProcess(background: Background[], signal: AbortSignal): Promise<string> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', originMain], {
    stdio: ['pipe', 'pipe', 'inherit'],
    // Out of reach of the terminal's Ctrl-C: Sluice goes on asking it while it stops.
    detached: true,
  })
  background.push(stopping(child))
  const line = await firstLine(child, 'stdout', /^\{.*\}$/, signal)
  return (JSON.parse(line) as { url: string }).url
}

/**
 * Gives the URL of the API, on a port that is free, and the last lines that Sluice said, which go on changing. Whoever
 * runs on this data already makes it fail.
 */
export async function startSluice(
  background: Background[],
  environment: NodeJS.ProcessEnv,
  origin: string | undefined,
  signal: AbortSignal,
): Promise<{ readonly url: string; readonly said: readonly string[]; readonly hasEnded: () => boolean }> {
  const web = { kind: 'fetch', timeout: '60s', rewrite: [{ from: 'https://picsum.photos', to: origin }] }
  const child = spawn(process.execPath, ['bin/sluice.mjs', 'serve', '--port', '0'], {
    cwd: root,
    env: { ...environment, ...(origin === undefined ? {} : { SLUICE_CONNECTION_WEB: JSON.stringify(web) }) },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  background.push(stopping(child))
  const said: string[] = []
  const line = await firstLine(child, 'stderr', /ready at http/, signal, said)
  const url = /http:\/\/[^\s/]+:\d+/.exec(line)?.[0] as string
  return { url, said, hasEnded: () => child.exitCode !== null || child.signalCode !== null }
}

/** The first line that matches; what came instead is the error when the process ends before. Reads on, for `said`. */
function firstLine(
  child: ChildProcess,
  from: 'stdout' | 'stderr',
  wanted: RegExp,
  signal: AbortSignal,
  said: string[] = [],
): Promise<string> {
  return new Promise((found, failed) => {
    const lines = createInterface({ input: child[from] as NodeJS.ReadableStream })
    lines.on('line', (line) => {
      said.push(line)
      if (said.length > keptLines) said.shift()
      if (wanted.test(line)) found(line)
    })
    child.on('error', failed)
    // All that it said has come by then, and is in lines a turn later.
    child.on('close', (code) => setImmediate(() => failed(endedEarly(said, code))))
    signal.addEventListener('abort', () => failed(new Error('interrupted')), { once: true })
  })
}

function endedEarly(said: readonly string[], code: number | null): Error {
  const text = said.map((line) => line.replace(/^sluice: /, '')).join('\n')
  const advice = /already/.test(text)
    ? '\nmake stop ends it; or add a catalog to it: npx sluice catalog add FILE --wait'
    : ''
  return new Error(`${text || `a process has ended with code ${code}`}${advice}`)
}

function stopping(child: ChildProcess): Background {
  return {
    stop: () =>
      new Promise((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return resolve()
        const kill = setTimeout(() => child.kill('SIGKILL'), stopMs)
        child.once('exit', () => {
          clearTimeout(kill)
          resolve()
        })
        child.kill('SIGTERM')
      }),
  }
}
