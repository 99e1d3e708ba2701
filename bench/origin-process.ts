/** The picture origin as a process of its own, so that its work is not that of who fetches. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const main = join(import.meta.dirname, '../apps/images/origin/main.ts')

export async function startOrigin(options: readonly string[]): Promise<{ url: string; stop(): Promise<void> }> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, '--port', '0', ...options], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.startsWith('{')) continue
    const stop = async () => {
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
    return { url: (JSON.parse(line) as { url: string }).url, stop }
  }
  throw new Error('the origin ended before it was ready')
}
