import type { Command } from 'commander'
import { SluiceError } from '../../errors.ts'
import { type CommandContext, does, type Session, withCommonOptions } from '../session.ts'

export function addBuild(program: Command, context: CommandContext): void {
  const command = program.command('build').description('build the definition files into a version')
  does(withCommonOptions(command, 'reading'), context, async (session) => {
    const { manifest, folder } = await buildHere(session)
    if (manifest.faults.length > 0) {
      const some = manifest.faults.length === 1 ? 'a fault' : `${manifest.faults.length} faults`
      throw new SluiceError('DEFINITION_INVALID', `The definitions have ${some}:`, { faults: manifest.faults })
    }
    session.cli.print(`${manifest.hash}\n${folder}`, { hash: manifest.hash, folder, entries: manifest.entries })
  })
}

/** The version of the project in the present folder. */
export async function buildHere(session: Session) {
  const { projectDir, home } = await session.config()
  const { build } = await import('../../app/build/build.ts')
  return build({ projectDir, home })
}
