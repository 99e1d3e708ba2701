/**
 * Writes log lines to the hot tier: redacted, and in groups (what gathered while the last write was under way is the
 * next). What cannot be written is tried 5 times in as many seconds while up to 64 MiB wait; beyond that the oldest lines
 * are lost, counted.
 */
import { messageOf } from '../errors.ts'
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
    await this.writing
  }

  private async write(): Promise<void> {
    while (this.waiting.length > 0) {
      const group = this.takeGroup()
      for (let tries = 1; ; tries += 1) {
        try {
          await appendLogs(this.session, group)
          break
        } catch (error) {
          this.note(
            `log lines could not be written: ${messageOf(error)}${this.lost > 0 ? `; ${this.lost} chunks lost` : ''}`,
          )
          if (tries === mostTries) {
            this.lost += group.length
            break
          }
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
