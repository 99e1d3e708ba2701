/** `sluice dev` of this repository as a process of its own, for the time of a benchmark. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')

export interface DevProcess {
  readonly pid: number
  readonly url: string
  /** From its start to its being ready. */
  readonly seconds: number
  stop(): Promise<void>
}

export async function startDev(home: string, environment: Record<string, string> = {}): Promise<DevProcess> {
  const startedAt = performance.now()
  const child = spawn(process.execPath, [join(root, 'bin/sluice.mjs'), 'dev', '--port', '0'], {
    cwd: root,
    env: { ...process.env, ...environment, SLUICE_HOME: home },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const url = await ready(child)
  return {
    pid: child.pid!,
    url,
    seconds: (performance.now() - startedAt) / 1_000,
    async stop() {
      child.kill('SIGTERM')
      await once(child, 'exit')
    },
  }
}

function ready(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const hear = (chunk: Buffer) => {
      // Later lines only keep the pipe from filling up.
      if (text.length < 100_000) text += chunk.toString()
      const url = /is ready at (\S+)/.exec(text)?.[1]
      if (url !== undefined) resolve(url)
    }
    child.stdout!.on('data', hear)
    child.stderr!.on('data', hear)
    child.once('exit', (code) => reject(new Error(`sluice dev ended with ${code}: ${text}`)))
  })
}
