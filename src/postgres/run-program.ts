import { spawn } from 'node:child_process'
import type { ServerUser } from './unprivileged.ts'

export interface Outcome {
  readonly ok: boolean
  /** Both outputs together, or why it could not be started. */
  readonly output: string
}

/** Runs a program of the server to its end, without a shell and with no more of our environment than it needs. */
export function runProgram(
  file: string,
  args: readonly string[],
  options: { cwd: string; env: NodeJS.ProcessEnv; user: ServerUser | undefined },
): Promise<Outcome> {
  return new Promise((resolve) => {
    const { user, ...rest } = options
    const child = spawn(file, args, { ...rest, ...user, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    const collect = (chunk: Buffer) => {
      output += chunk.toString('utf8')
    }
    child.stdout.on('data', collect)
    child.stderr.on('data', collect)
    child.on('error', (error) => resolve({ ok: false, output: error.message }))
    child.on('close', (code) => resolve({ ok: code === 0, output: output.trim() }))
  })
}
