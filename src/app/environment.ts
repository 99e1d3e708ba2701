/** In what authors' code is executed, as far as it can change what comes out. */
import { findLockFile, fingerprint } from './build/project-files.ts'
import { version } from './version.ts'

/** JSON text: Node, platform and architecture, Sluice, and the sha256 of the project's lock file as it is now. */
export async function environmentOf(projectDir: string): Promise<string> {
  const lockFile = findLockFile(projectDir)
  const lock = lockFile === undefined ? null : await fingerprint(lockFile)
  const { versions, platform, arch } = process
  return JSON.stringify({ node: versions.node, platform, arch, sluice: version, lock })
}
