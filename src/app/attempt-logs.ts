/**
 * Log lines of the attempts of one runner: gathered per attempt and sent within 250 ms. A line is a JSON object with
 * `time`, `level`, `message` and the author's fields; of a longer one the first 64 KiB are kept. An attempt may log
 * 16 MiB; then one line says that the rest is left out.
 */
import type { AttemptLog } from '../executors/runner-protocol.ts'
import type { Log } from '../sdk/context.ts'
import { systemClock } from '../time.ts'

const flushMs = 250
const maxLine = 64 * 1024
const maxAttempt = 16 * 1024 * 1024

interface Gathered {
  lines: string
  seq: number
  total: number
}

export class AttemptLogs {
  private readonly gathered = new Map<number, Gathered>()
  private timer: NodeJS.Timeout | undefined
  private readonly send: (logs: AttemptLog[]) => void

  constructor(send: (logs: AttemptLog[]) => void) {
    this.send = send
  }

  /** From now on until `forget` the attempt is heard; what a function logs after its end is nobody's. */
  of(token: number): Log {
    if (!this.gathered.has(token)) this.gathered.set(token, { lines: '', seq: 0, total: 0 })
    const at = (level: string) => (message: string, fields?: Record<string, unknown>) =>
      this.add(token, level, message, fields)
    return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
  }

  forget(token: number): void {
    this.gathered.delete(token)
  }

  flush(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    const logs: AttemptLog[] = []
    for (const [token, gathered] of this.gathered) {
      if (gathered.lines === '') continue
      logs.push({ token, seq: gathered.seq, lines: gathered.lines })
      gathered.seq += 1
      gathered.lines = ''
    }
    if (logs.length > 0) this.send(logs)
  }

  private add(token: number, level: string, message: string, fields: Record<string, unknown> | undefined): void {
    const gathered = this.gathered.get(token)
    if (!gathered || gathered.total > maxAttempt) return
    const line = logLine(level, message, fields)
    gathered.total += line.length
    gathered.lines +=
      gathered.total > maxAttempt ? logLine('warn', 'the log of this attempt is cut here: it is over 16 MiB') : line
    this.timer ??= setTimeout(() => this.flush(), flushMs)
  }
}

export function logLine(level: string, message: unknown, fields?: Record<string, unknown>): string {
  const text = String(message)
  const short = text.length > maxLine ? `${text.slice(0, maxLine)} … (${text.length} characters)` : text
  const head = { time: new Date(systemClock.now()).toISOString(), level, message: short }
  try {
    const line = JSON.stringify(fields ? { ...fields, ...head } : head)
    if (line.length <= maxLine * 2) return `${line}\n`
  } catch {
    // Fields that JSON cannot hold are left out below.
  }
  return `${JSON.stringify({ ...head, fields: 'left out: too large, or not JSON' })}\n`
}
