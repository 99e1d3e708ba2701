import type { Command } from 'commander'
import { howMany } from '../../core/how-many.ts'
import { SluiceError } from '../../errors.ts'
import { exitCodes } from '../cli.ts'
import { noDefinitions } from '../doctor/definitions.ts'
import { type CommandContext, does, withCommonOptions } from '../session.ts'
import { buildHere } from './build.ts'

export function addCheck(program: Command, context: CommandContext): void {
  const command = program.command('check').description('say what is wrong with the definition files; needs no server')
  does(withCommonOptions(command, 'reading'), context, async (session) => {
    const { manifest, project } = await buildHere(session)
    const { faults, workflows, streams, endpoints, commands, topics } = manifest
    if (manifest.entries.length + faults.length === 0) {
      const { detail, why, fix } = noDefinitions((await session.config()).projectDir, project.definitions)
      throw new SluiceError('CONFIGURATION', `${detail}: ${why}. To do: ${fix}`)
    }
    const counts = { workflows, streams, topics, endpoints, commands }
    const sound = Object.entries(counts).map(([kind, all]) => [kind, all.length] as const)
    session.cli.print(faults.map(({ where, message }) => `${where} ${message}`).join('\n'), {
      faults,
      ...Object.fromEntries(sound),
    })
    session.cli.note(
      `${howMany(faults.length, 'fault')}; ${sound.map(([kind, count]) => howMany(count, kind.slice(0, -1))).join(', ')}`,
    )
    return faults.length === 0 ? exitCodes.done : exitCodes.failed
  })
}
