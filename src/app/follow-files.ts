/**
 * Tells when a file that decides what is defined has changed: definition files, what they import, the project's settings.
 * Folders are watched, not files, since editors replace files and new ones appear.
 */
import { type FSWatcher, watch } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { messageOf } from '../errors.ts'
import { knownInputs } from './build/last-build.ts'
import { findDefinitionFiles } from './build/project-files.ts'

export interface FollowFilesParts {
  readonly projectDir: string
  readonly home: string
  readonly definitions: readonly string[]
  /** Called once for changes that come together, never twice at once. */
  readonly onChange: () => Promise<void>
  readonly note: (line: string) => void
}

/** An editor's several writes of one save are one change. */
const togetherMs = 100

export class FollowFiles {
  private readonly watchers = new Map<string, FSWatcher>()
  private timer: NodeJS.Timeout | undefined
  private working: Promise<void> = Promise.resolve()
  private stopped = false
  private readonly parts: FollowFilesParts

  constructor(parts: FollowFilesParts) {
    this.parts = parts
    this.working = this.look()
  }

  async stop(): Promise<void> {
    this.stopped = true
    clearTimeout(this.timer)
    for (const watcher of this.watchers.values()) watcher.close()
    await this.working
  }

  private changed(): void {
    clearTimeout(this.timer)
    if (this.stopped) return
    this.timer = setTimeout(() => {
      this.working = this.working.then(async () => {
        await this.parts.onChange().catch((error) => this.parts.note(`the change is not taken: ${messageOf(error)}`))
        await this.look()
      })
    }, togetherMs)
  }

  private async look(): Promise<void> {
    await this.watchAll().catch((error) => this.parts.note(`changes cannot be followed: ${messageOf(error)}`))
  }

  /** Watches the folders that matter now. */
  private async watchAll(): Promise<void> {
    const { projectDir, home, definitions } = this.parts
    const files = [
      ...(await findDefinitionFiles(projectDir, definitions)),
      ...(await knownInputs(join(home, 'versions'))),
    ]
    const roots = definitions
      .map((glob) => glob.split('/').slice(0, -1).join('/'))
      .filter((folder) => !/[*?[{]/.test(folder))
    const folders = new Set([
      projectDir,
      ...roots.map((root) => resolve(projectDir, root)),
      ...files.map((file) => dirname(resolve(projectDir, file))),
    ])
    for (const folder of folders) {
      if (this.stopped || this.watchers.has(folder) || folder.includes('node_modules')) continue
      try {
        const watcher = watch(folder, { persistent: false }, (_, name) => {
          if (name === null || /\.(ts|mts|js|mjs|json|yaml|yml)$/.test(name)) this.changed()
        })
        watcher.on('error', () => {
          watcher.close()
          this.watchers.delete(folder)
        })
        this.watchers.set(folder, watcher)
      } catch {
        // A folder that is not there yet is looked for again with the next change.
      }
    }
  }
}
