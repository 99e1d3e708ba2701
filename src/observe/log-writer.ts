/**
 * Writes log lines to the hot tier: redacted, and in groups (what gathered while the last write was under way is the
 * next). What cannot be written is tried 5 times in as many seconds; while the database is away or has no room, every second
 * until it is back or the writer is flushed. Up to 64 MiB wait meanwhile; beyond that the oldest lines are lost, counted.
 */
import { messageOf, SluiceError } from '../errors.ts'
import type { Session } from '../ports/database.ts'
import type { Log } from '../sdk/context.ts'
import { appendLogs, type LogChunk } from '../store/logs.ts'

const maxKept = 64 * 1024 * 1024
const maxGroup = 4 * 1024 * 1024
const retryMs = 1_000
const mostTries = 5

export class LogWriter {
  private waiting: LogChunk[] = []
  private size = 0
  private lost = 0
  /** Nobody waits for the end of the writing. */
  private patient = true
  private writing: Promise<void> | undefined
  private readonly session: Session
  private readonly redact: (text: string) => string
  private readonly note: (line: string) => void

  constructor(session: Session, redact: (text: string) => string, note: (line: string) => void) {
    this.session = session
    this.redact = redact
    this.note = note
  }

  add(chunk: LogChunk): void {
    const lines = this.redact(chunk.lines).replaceAll('\0', '')
    this.waiting.push({ ...chunk, lines })
    this.size += lines.length
    while (this.size > maxKept && this.waiting.length > 0) {
      this.size -= this.waiting.shift()!.lines.length
      this.lost += 1
    }
    if (this.waiting.length > 0) this.writing ??= this.write()
  }

  /** Resolves when all that was added is written, or cannot be. */
  async flush(): Promise<void> {
    this.patient = false
    await this.writing
  }

  private async write(): Promise<void> {
    while (this.waiting.length > 0) {
      const group = this.takeGroup()
      for (let tries = 1; ; tries += 1) {
        try {
          await appendLogs(this.session, group, tries > 1)
          break
        } catch (error) {
          const outage = this.patient && error instanceof SluiceError && !error.isAttempt
          const giveUp = tries >= mostTries && !outage
          if (giveUp) this.lost += group.length
          if (tries === 1 || giveUp) this.note(failureText(error, this.lost))
          if (giveUp) break
          await new Promise((resolve) => setTimeout(resolve, retryMs))
        }
      }
    }
    this.writing = undefined
  }

  private takeGroup(): LogChunk[] {
    let bytes = 0
    let count = 0
    while (count < this.waiting.length && bytes < maxGroup) {
      bytes += this.waiting[count]!.lines.length
      count += 1
    }
    this.size -= bytes
    return this.waiting.splice(0, count)
  }
}

function failureText(error: unknown, lost: number): string {
  return `log lines could not be written: ${messageOf(error)}${lost > 0 ? `; ${lost} chunks lost` : ''}`
}

/** The log of a process: lines of one source, sent on within 250 ms. `line` makes the JSON of a line. */
export function processLog(
  writer: LogWriter,
  source: string,
  line: (level: string, message: string, fields?: Record<string, unknown>) => string,
): Log & { flush(): Promise<void> } {
  let lines = ''
  let seq = 0
  let timer: NodeJS.Timeout | undefined
  const send = () => {
    clearTimeout(timer)
    timer = undefined
    if (lines !== '') writer.add({ source, attempt: 0, seq: seq++, lines })
    lines = ''
  }
  const at = (level: string) => (message: string, fields?: Record<string, unknown>) => {
    lines += line(level, message, fields)
    if (lines.length > 256 * 1024) send()
    else timer ??= setTimeout(send, 250)
  }
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    async flush() {
      send()
      await writer.flush()
    },
  }
}
