import { randomUUID } from 'node:crypto'
import { readlink, rename, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { findNodeModules } from './project-files.ts'

/** Bare imports of a bundle resolve through this link, wherever the home is. */
export async function linkPackages(projectDir: string, versions: string): Promise<void> {
  const target = findNodeModules(projectDir)
  const link = join(versions, 'node_modules')
  if ((await readlink(link).catch(() => undefined)) === target) return
  const fresh = join(versions, `.building-${randomUUID()}`)
  await symlink(target, fresh, 'junction')
  await rename(fresh, link)
}
