/**
 * Tells when a file that decides what is defined has changed: definition files, what they import, the project's settings.
 * Folders are watched, not files, since editors replace files and new ones appear.
 *
 * What happens in a folder before it is watched is seen by a look afterwards: whenever folders are newly watched, that
 * counts as a change.
 */
import { type FSWatcher, watch } from 'node:fs'
import { glob, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { messageOf } from '../errors.ts'

export interface FollowFilesParts {
  readonly projectDir: string
  /** What was built last: the globs of definition files, and all paths that count, relative to the project. */
  readonly built: () => { readonly definitions: readonly string[]; readonly inputs: readonly string[] }
  /** Called once for changes that come together, never twice at once. */
  readonly onChange: () => Promise<void>
  readonly note: (line: string) => void
  /** An editor's several writes of one save are one change: what comes at shorter distances. Default 100 ms. */
  readonly togetherMs?: number
}

/** Of modules and settings; or no ending at all: a folder. */
const counts = /\.([cm]?[jt]sx?|json|ya?ml|sql)$|^[^.]+$/

export class FollowFiles {
  private readonly watchers = new Map<string, { readonly watcher: FSWatcher; readonly inode: number }>()
  private timer: NodeJS.Timeout | undefined
  /** A change waits for the one that is under way. */
  private waiting = false
  private underWay = 0
  private working: Promise<void>
  private stopped = false
  private readonly parts: FollowFilesParts

  constructor(parts: FollowFilesParts) {
    this.parts = parts
    this.working = this.counted(() => this.look())
  }

  /** Something was heard, and more may belong to it. */
  get isGathering(): boolean {
    return this.timer !== undefined
  }

  /** All that was heard is taken. */
  get isQuiet(): boolean {
    return !this.isGathering && this.underWay === 0
  }

  async stop(): Promise<void> {
    this.stopped = true
    clearTimeout(this.timer)
    for (const { watcher } of this.watchers.values()) watcher.close()
    await this.working
  }

  private changed(): void {
    clearTimeout(this.timer)
    if (this.stopped) return
    this.timer = setTimeout(() => {
      this.timer = undefined
      if (this.waiting) return
      this.waiting = true
      const before = this.working
      this.working = this.counted(async () => {
        await before
        this.waiting = false
        if (this.stopped) return
        await this.parts.onChange().catch((error) => this.parts.note(`the change is not taken: ${messageOf(error)}`))
        await this.look()
      })
    }, this.parts.togetherMs ?? 100)
  }

  private async counted(work: () => Promise<void>): Promise<void> {
    this.underWay += 1
    await work()
    this.underWay -= 1
  }

  private async look(): Promise<void> {
    try {
      if (await this.watchAll()) this.changed()
    } catch (error) {
      this.parts.note(`changes cannot be followed: ${messageOf(error)}`)
    }
  }

  /** Watches the folders that matter now; says whether there is one that was not watched before. */
  private async watchAll(): Promise<boolean> {
    let added = false
    for (const folder of await this.folders()) {
      const inode = await stat(folder).then(
        (found) => (found.isDirectory() ? found.ino : undefined),
        () => undefined,
      )
      // A folder that was removed and made again is another one.
      const before = this.watchers.get(folder)
      if (this.stopped || (before !== undefined && before.inode === inode)) continue
      before?.watcher.close()
      this.watchers.delete(folder)
      if (inode === undefined) continue
      const watcher = this.watch(folder)
      if (watcher === undefined) continue
      this.watchers.set(folder, { watcher, inode })
      added = true
    }
    return added
  }

  private watch(folder: string): FSWatcher | undefined {
    try {
      const watcher = watch(folder, { persistent: false }, (_, name) => {
        if (name === null || counts.test(name)) this.changed()
      })
      return watcher.on('error', () => {
        watcher.close()
        if (this.watchers.get(folder)?.watcher === watcher) this.watchers.delete(folder)
      })
    } catch {
      // One that is gone again is looked for with the next change.
      return undefined
    }
  }

  /** Those of all files that count, those in which globs look, and the nearest one up of a folder that is not there. */
  private async folders(): Promise<Set<string>> {
    const { projectDir } = this.parts
    const { definitions, inputs } = this.parts.built()
    const wanted = new Set([projectDir, ...inputs.map((file) => dirname(resolve(projectDir, file)))])
    for (const pattern of definitions) {
      const parts = pattern.split('/').slice(0, -1)
      const wild = parts.findIndex((part) => /[*?[{(]/.test(part))
      wanted.add(join(projectDir, ...(wild < 0 ? parts : parts.slice(0, wild))))
      if (wild < 0) continue
      for await (const found of glob(parts.join('/'), { cwd: projectDir, withFileTypes: true, exclude: isHidden })) {
        if (found.isDirectory()) wanted.add(join(found.parentPath, found.name))
      }
    }
    const there = new Set<string>()
    for (let folder of wanted) {
      if (/(^|[\\/])node_modules([\\/]|$)/.test(folder.slice(projectDir.length))) continue
      while (!(await isThere(folder)) && folder.length > projectDir.length) folder = dirname(folder)
      there.add(folder)
    }
    for (const folder of this.watchers.keys()) there.add(folder)
    return there
  }
}

const isHidden = ({ name }: { readonly name: string }) => name === 'node_modules' || /^\.[^.]/.test(name)

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )
