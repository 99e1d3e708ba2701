/** The code of versions on this machine: a folder each below `<home>/versions`, named by its hash. */
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { RetainParts } from '../engine/retain.ts'

export function versionFolders(home: string): Pick<RetainParts, 'versionFolders' | 'removeVersion'> {
  const versions = join(home, 'versions')
  return {
    async versionFolders(before) {
      const names = (await readdir(versions).catch(() => [])).filter((name) => /^[0-9a-f]{64}$/.test(name))
      const found = names.map(async (name) => {
        const { mtime } = await stat(join(versions, name)).catch(() => ({ mtime: new Date() }))
        return mtime < before ? [name] : []
      })
      return (await Promise.all(found)).flat()
    },
    removeVersion: (hash) => rm(join(versions, hash), { recursive: true, force: true }),
  }
}
