/** A disk of a few megabytes for tests, in memory. Mounting one takes rights that few users have: then there is none. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { rm, statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Whether a disk can be mounted here. */
export const mayMount: boolean = (() => {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false
  const folder = mkdtempSync(join(tmpdir(), 'sluice-mount-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], { stdio: 'ignore' })
    execFileSync('umount', [folder], { stdio: 'ignore' })
    return true
  } catch {
    return false
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})()

const ballast = (folder: string) => join(folder, 'ballast')

/** Mounts a disk of so many MiB on a folder that is there; gives what unmounts it. */
export function mountSmall(folder: string, mebibytes: number): () => void {
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m,mode=0755`, 'tmpfs', folder])
  return () => execFileSync('umount', ['-l', folder])
}

export function remount(folder: string, as: 'ro' | 'rw'): void {
  execFileSync('mount', ['-o', `remount,${as}`, folder])
}

/** Leaves no byte of room. */
export async function fill(folder: string): Promise<void> {
  const { bavail, bsize } = await statfs(folder)
  await writeFile(ballast(folder), Buffer.alloc(bavail * bsize))
}

export async function makeRoom(folder: string): Promise<void> {
  await rm(ballast(folder), { force: true })
}
