/**
 * Writes what attempts tell of their progress: the latest word of each task, all that gathered in half a second in one
 * statement. It is for people who watch; what cannot be written is left to the next word.
 */
import { messageOf } from '../errors.ts'
import type { AttemptProgress, AttemptStart } from '../executors/runner-protocol.ts'
import type { Session } from '../ports/database.ts'
import { type TaskProgress, writeProgress } from '../store/tasks.ts'

const everyMs = 500

export class ProgressWriter {
  private gathered = new Map<string, TaskProgress>()
  private writing: Promise<void> | undefined
  private readonly session: Session
  private readonly note: (line: string) => void

  constructor(session: Session, note: (line: string) => void) {
    this.session = session
    this.note = note
  }

  add({ runId, node, mapIndex }: AttemptStart, { done, total }: AttemptProgress): void {
    if (!Number.isFinite(done) || (total !== null && !Number.isFinite(total))) return
    this.gathered.set(`${runId} ${node} ${mapIndex}`, { runId, node, mapIndex, done, total })
    this.writing ??= this.writeAll()
  }

  /** Resolves when what was told is written, or cannot be. */
  async flush(): Promise<void> {
    await this.writing
  }

  /** One statement after the other: of two at once the earlier word might win. */
  private async writeAll(): Promise<void> {
    while (this.gathered.size > 0) {
      await new Promise((resolve) => setTimeout(resolve, everyMs))
      const told = [...this.gathered.values()]
      this.gathered = new Map()
      await writeProgress(this.session, told).catch((error) =>
        this.note(`progress could not be written: ${messageOf(error)}`),
      )
    }
    this.writing = undefined
  }
}
