import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { packageFolder } from '../../app/own-process.ts'
import { type CommandContext, does } from '../session.ts'

export function addInit(program: Command, context: CommandContext): void {
  const command = program
    .command('init <name>')
    .description('make a project in a new folder, whose test passes')
    .option('--json', 'as JSON')
  does(command, context, async ({ cli }, _options, name: string) => {
    const { checkProjectName, makeProject } = await import('../init/make-project.ts')
    const { projectFiles } = await import('../init/templates.ts')
    checkProjectName(name)
    const folder = resolve(name)
    const files = projectFiles({ name, versions: ownVersions() })
    const bar = cli.progress('files')
    try {
      await makeProject(folder, files, (done, path) => bar.update(done, files.size, path))
    } finally {
      bar.stop()
    }
    const next = [`cd ${name}`, 'npm install', 'npm test', 'npm run dev']
    cli.print(`${folder} is made. Now:\n${next.map((line) => `  ${line}`).join('\n')}`, {
      ...{ name, folder, files: [...files.keys()], next },
    })
  })
}

/** A project begins with the versions that this one was made with. */
function ownVersions() {
  const own = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8')) as {
    readonly version: string
    readonly devDependencies: Readonly<Record<string, string>>
  }
  const { typescript = '*', '@types/node': nodeTypes = '*' } = own.devDependencies
  return { sluice: own.version, typescript, nodeTypes }
}
