/** The statistics app as a user's project in a temporary folder. */
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Project } from '../sluice-process.ts'

const app = join(import.meta.dirname, '../../apps/stats')
const config = `export default { definitions: ['workflows/*.ts'], migrations: { stats: 'migrations' } }\n`

export async function statsProject(environment: NodeJS.ProcessEnv = {}): Promise<Project> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-stats-'))
  await symlink(join(app, 'workflows'), join(folder, 'workflows'))
  await symlink(join(app, 'migrations'), join(folder, 'migrations'))
  await writeFile(join(folder, 'sluice.config.ts'), config)
  const home = join(folder, '.sluice')
  return {
    folder,
    home,
    environment: { PATH: process.env.PATH, HOME: process.env.HOME, SLUICE_HOME: home, ...environment },
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}
